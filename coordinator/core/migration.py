"""The coordinator's half of the migration machine (DESIGN 7): one table, (state, event) to state.

A missing entry raises and nothing changes. The diagram in docs/migration.md is made from this table.
"""

from collections.abc import Mapping

from coordinator.model.events import MigrationEvent as On
from coordinator.model.fleet import MigrationState as M
from sterna.errors import IllegalTransitionError

BEFORE_COMMIT = (
    M.PLANNED,
    M.PREPARED,
    M.PRESTAGING,
    M.STOPPING,
    M.SEALED,
    M.TRANSFERRING,
    M.VERIFIED,
)
"""States in which the source holds the grant that it had when the move was planned."""

TABLE: Mapping[tuple[M, On], M] = {
    (M.PLANNED, On.RESERVED): M.PREPARED,
    (M.PREPARED, On.PRESTAGE): M.PRESTAGING,
    (M.PREPARED, On.STOP): M.STOPPING,
    (M.PRESTAGING, On.STOP): M.STOPPING,
    (M.STOPPING, On.SEAL): M.SEALED,
    (M.SEALED, On.FETCH): M.TRANSFERRING,
    (M.TRANSFERRING, On.VERIFY): M.VERIFIED,
    (M.VERIFIED, On.COMMIT): M.COMMITTED,
    (M.COMMITTED, On.START): M.STARTING,
    (M.STARTING, On.CONFIRM): M.CONFIRMED,
    (M.CONFIRMED, On.FINISH): M.DONE,
    # Every failure before COMMITTED gives the source a new epoch, whether or not it has stopped: an order
    # to stop that is still on its way is then refused as stale.
    **{(state, On.FAIL): M.COMPENSATING for state in BEFORE_COMMIT},
    (M.COMPENSATING, On.RESUMED): M.ABORTED,
    # The job ended, or lost its grant, under the move. Before COMMITTED there is then nothing to give back;
    # after it there is nothing to confirm.
    **{(state, On.JOB_ENDED): M.ABORTED for state in (*BEFORE_COMMIT, M.COMPENSATING)},
    **{(state, On.VOIDED): M.ABORTED for state in (*BEFORE_COMMIT, M.COMPENSATING)},
    **{(state, On.JOB_ENDED): M.DONE for state in (M.COMMITTED, M.STARTING, M.CONFIRMED)},
    **{(state, On.VOIDED): M.DONE for state in (M.COMMITTED, M.STARTING, M.CONFIRMED)},
}


def advance(state: M, event: On) -> M:
    """Return the state after an event.

    Raises
    ------
    IllegalTransitionError
        The table has no such entry.
    """
    try:
        return TABLE[state, event]
    except KeyError:
        raise IllegalTransitionError(f"migration: {event.value} in {state.value}") from None


def diagram(table: Mapping[tuple[M, On], M] = TABLE) -> str:
    """Return the table as a Mermaid state diagram, entries of one arrow joined."""
    arrows: dict[tuple[M, M], list[str]] = {}
    for (state, event), to in table.items():
        arrows.setdefault((state, to), []).append(event.value)
    order = list(M)
    lines = ["stateDiagram-v2", f"    [*] --> {M.PLANNED.value}"]
    for (state, to), events in sorted(arrows.items(), key=lambda item: [order.index(one) for one in item[0]]):
        lines.append(f"    {state.value} --> {to.value}: {', '.join(events)}")
    lines += [f"    {state.value} --> [*]" for state in (M.DONE, M.ABORTED)]
    return "\n".join(lines) + "\n"
