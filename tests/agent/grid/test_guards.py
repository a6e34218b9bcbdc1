"""The fail-safe of each direction: what is said of one never moves the other."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agent.core.failsafe import FailsafeSettings, Machine
from agent.core.limits import Timeline, hold
from agent.grid.guards import Guards
from agent.model.limits import LimitCommand, LimitKind

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
SETTINGS = FailsafeSettings(failsafe_import_w=4200.0)
IMPORT, EXPORT = LimitKind.IMPORT_CAPACITY_LIMIT, LimitKind.EXPORT_CAPACITY_LIMIT
LINKS = ("mqtt", "modbus")
SOURCES = {IMPORT: LINKS, EXPORT: ("mqtt-export", "modbus-wset", "modbus-wmaxlim")}

Said = tuple[float, LimitKind | None, int, float | None]
"""Seconds that pass; a heartbeat (None) or a command of a kind; by whom; its watts, None: a release."""

SAID = st.tuples(
    st.integers(0, 100),
    st.sampled_from([None, IMPORT, EXPORT]),
    st.integers(0, 5),
    st.one_of(st.none(), st.just(3000.0)),
)


def machines(said: list[Said], kind: LimitKind) -> list[dict[str, Machine]]:
    """Live through heartbeats and commands; return how one direction stood after each."""
    guards = Guards(links=LINKS, exporting=LINKS, in_force=lambda _link: SETTINGS, now_boot_s=0.0)
    timeline, now_s, stood = Timeline(), 0.0, []
    for number, (after_s, about, who, value_w) in enumerate(said):
        now_s += after_s
        if about is None:
            guards.hear(LINKS[who % 2], now_s)
        else:
            command = LimitCommand(
                source=SOURCES[about][who % len(SOURCES[about])],
                command_id="c",
                sequence=number,
                kind=about,
                issued_at=NOW,
                start_at=NOW,
                end_at=None,
                value_w=value_w,
                ramp_s=0.0,
                reason="",
            )
            held = hold(command, NOW, now_s)
            timeline = timeline.with_command(held)
            guards.told(held, now_s)
        guards.settle(timeline, now_s)
        if about in (None, kind):
            stood.append(guards.of(kind))
    return stood


@given(st.lists(SAID, max_size=15))
def test_law_a_word_on_one_direction_moves_no_machine_of_the_other(said: list[Said]) -> None:
    for kind, other in ((IMPORT, EXPORT), (EXPORT, IMPORT)):
        # What is left out still takes its time.
        alone: list[Said] = []
        waited_s = 0.0
        for after_s, about, who, value_w in said:
            waited_s += after_s
            if about is not other:
                alone.append((waited_s, about, who, value_w))
                waited_s = 0.0
        assert machines(said, kind) == machines(alone, kind)


def test_who_owes_no_heartbeat_has_no_machine() -> None:
    guards = Guards(links=("mqtt",), exporting=(), in_force=lambda _link: SETTINGS, now_boot_s=0.0)
    assert guards.of(EXPORT) == {}
    assert guards.hear("mqtt", 1.0)
    assert not guards.hear("openadr", 1.0)
