"""A round on a memory that is older than the fleet."""

from coordinator.core.fleet import fold
from coordinator.core.progress import MigrationTimeouts
from coordinator.core.round import RoundInputs, round_events
from coordinator.model.job import JobPhase as P
from tests.coordinator.core.histories import C1, C2, NOW, PRESTAGE, SETTINGS, M, here, moving, report


def test_the_owner_is_known_before_all_others_are_judged() -> None:
    """The copy is of before COMMITTED: the source has heard of the new epoch, the destination has it."""
    state = moving(M.TRANSFERRING)
    inputs = RoundInputs(
        live=here(
            a=report(P.SEALED, 1, checkpoints=(C2, C1), highest_epoch=2),
            b=report(P.RUNNING, 2, checkpoints=(C2,), highest_epoch=2, migration_id="m"),
        ),
        now=NOW,
        grants=SETTINGS,
        timeouts=MigrationTimeouts(),
        prestage=PRESTAGE,
    )
    job = fold(round_events(state, inputs), state).jobs["j"]
    assert (job.owner_site, job.epoch, job.migration_id) == ("b", 2, None)
