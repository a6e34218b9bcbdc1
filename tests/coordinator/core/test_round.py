"""A round on a memory that is older than the fleet."""

from dataclasses import replace

import pytest

from coordinator.core.endings import holders_of
from coordinator.core.fleet import fold
from coordinator.core.progress import MigrationTimeouts
from coordinator.core.round import RoundInputs, round_events
from coordinator.model import events as ev
from coordinator.model.fleet import JobState
from coordinator.model.job import JobPhase as P
from coordinator.model.job import JobReport
from coordinator.model.live import Live
from tests.coordinator.core.histories import (
    C1,
    C2,
    NOW,
    PRESTAGE,
    SETTINGS,
    M,
    at_work,
    events_to,
    granted,
    here,
    moving,
    report,
    seen,
    submitted,
)


def inputs_with(live: Live) -> RoundInputs:
    return RoundInputs(live=live, now=NOW, grants=SETTINGS, timeouts=MigrationTimeouts(), prestage=PRESTAGE)


def test_the_owner_is_known_before_all_others_are_judged() -> None:
    """The copy is of before COMMITTED: the source has heard of the new epoch, the destination has it."""
    state = moving(M.TRANSFERRING)
    inputs = inputs_with(
        here(
            a=report(P.SEALED, 1, checkpoints=(C2, C1), highest_epoch=2),
            b=report(P.RUNNING, 2, checkpoints=(C2,), highest_epoch=2, migration_id="m"),
        )
    )
    job = fold(round_events(state, inputs), state).jobs["j"]
    assert (job.owner_site, job.epoch, job.migration_id) == ("b", 2, None)


WITHDRAWN = ev.JobWithdrawn(at=NOW, job_id="j", epoch=2, message="no")


VOIDED = ["EpochAdopted", "MigrationAdvanced", "JobWithdrawn"]
W = JobState.WITHDRAWING


@pytest.mark.parametrize("heard_by", ["a", "c"])
@pytest.mark.parametrize(
    ("before", "said", "told", "state"),
    [
        # Its start would be refused: it is taken back under an epoch that the site accepts.
        ([*seen("a"), *submitted(), granted()], report(P.RELEASED, 0), ["EpochAdopted", "JobWithdrawn"], W),
        ([*at_work(), WITHDRAWN], report(P.RELEASED, 1), ["EpochAdopted", "JobWithdrawn"], W),
        (events_to(M.COMPENSATING), report(P.SEALED, 1, checkpoints=(C1,)), VOIDED, W),
        # The destination knows nothing of it yet.
        (events_to(M.STARTING), report(P.SEALED, 1, checkpoints=(C1,)), VOIDED, W),
        # It runs under its grant: the number is all that was missing.
        (at_work(), report(P.RUNNING, 1), ["EpochAdopted"], JobState.RUNNING),
        (events_to(M.STOPPING), report(P.STOPPING, 1, checkpoints=(C1,)), ["EpochAdopted"], JobState.RUNNING),
    ],
)
def test_an_epoch_that_only_a_site_remembers(
    before: list[ev.Event], said: JobReport, told: list[str], state: JobState, heard_by: str
) -> None:
    """Whichever site has heard of it: what the owner was granted under a lower one is taken back."""
    if heard_by == "a":
        inputs = inputs_with(here(a=replace(said, highest_epoch=9)))
    else:
        inputs = inputs_with(here(a=said, c=report(P.RELEASED, 0, highest_epoch=9)))
    fleet = fold(before)
    events = round_events(fleet, inputs)
    assert [type(event).__name__ for event in events] == told
    after = fold(events, fleet)
    job = after.jobs["j"]
    assert job.state is state
    if state is W:
        assert job.grant is not None and job.grant.epoch == job.epoch == 10
        assert job.migration_id is None
    assert round_events(after, inputs) == ()


@pytest.mark.parametrize("phase", [P.SEALED, P.RELEASED])
@pytest.mark.parametrize("state", [M.STOPPING, M.TRANSFERRING])
def test_a_move_of_an_older_memory_does_not_go_on_from_older_steps(state: M, phase: P) -> None:
    """The destination has run the job, sealed newer steps and let go of it since."""
    fleet = moving(state)
    newer = replace(C2, checkpoint_id="c3", step=C2.step + 10)
    inputs = inputs_with(
        here(
            a=report(phase, 1, checkpoints=(C2,)),
            b=report(P.RELEASED, 2, checkpoints=(newer,), highest_epoch=2),
        )
    )
    after = fold(round_events(fleet, inputs), fleet)
    job = after.jobs["j"]
    assert (job.state, job.epoch, job.migration_id) == (JobState.QUEUED, 3, None)
    assert holders_of(after, job) == {"b"}


@pytest.mark.parametrize("before", [[*submitted(), granted()], events_to(M.STARTING), events_to(M.STOPPING)])
def test_a_site_that_has_let_go_under_an_epoch_that_we_forgot_does_not_keep_the_job(
    before: list[ev.Event],
) -> None:
    fleet = fold(before)
    owner = fleet.jobs["j"].owner_site
    assert owner is not None
    inputs = inputs_with(here(**{owner: report(P.RELEASED, 5, highest_epoch=7)}))
    after = fold(round_events(fleet, inputs), fleet)
    job = after.jobs["j"]
    assert (job.state, job.epoch, job.grant, job.migration_id) == (JobState.QUEUED, 8, None, None)
    assert round_events(after, inputs) == ()


def test_a_job_that_runs_under_an_epoch_that_we_forgot_is_taken_back() -> None:
    """The higher one was heard of first, so that nobody could take the owner's over."""
    fleet = fold([*at_work(), ev.EpochAdopted(at=NOW, job_id="j", epoch=9, owner=None, lease_ttl_s=None)])
    inputs = inputs_with(here(a=report(P.RUNNING, 5)))
    job = fold(round_events(fleet, inputs), fleet).jobs["j"]
    assert (job.state, job.epoch, job.owner_site) == (JobState.WITHDRAWING, 10, "a")


def test_a_move_that_goes_back_waits_for_its_source() -> None:
    """Nobody knows yet whether it has its grant."""
    fleet = moving(M.COMPENSATING)
    live = here(c=report(P.RELEASED, 0, highest_epoch=9))
    del live["a"]
    assert [type(event) for event in round_events(fleet, inputs_with(live))] == [ev.EpochAdopted]
