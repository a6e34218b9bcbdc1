"""What a report means in each state: one row, one fact."""

from dataclasses import replace

import pytest

from coordinator.core.fleet import fold
from coordinator.core.reports import events_for_report
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, JobState
from coordinator.model.job import Checkpoint, JobReport, JobSpec, SlowRange
from coordinator.model.job import JobPhase as P
from tests.coordinator.core.histories import (
    C1,
    C2,
    NOW,
    SETTINGS,
    SPEC,
    M,
    at_work,
    events_to,
    granted,
    moving,
    report,
    seen,
    submitted,
)


def after(state: FleetState, site: str, said: JobReport) -> FleetState:
    return fold(events_for_report(state, site, said, NOW, SETTINGS), state)


ROWS = [
    # state, site, report -> migration state, job state, owner, epoch
    (M.PLANNED, "b", report(P.RESERVED, 0, migration_id="m"), M.PREPARED, "RUNNING", "a", 1),
    (M.PLANNED, "b", report(P.RESERVED, 0, migration_id="old"), M.PLANNED, "RUNNING", "a", 1),
    (M.PLANNED, "b", report(P.HELD, 0, migration_id="m"), M.PREPARED, "RUNNING", "a", 1),
    (M.PLANNED, "a", report(P.PAUSED), M.PLANNED, "PAUSED", "a", 1),
    (M.PLANNED, "a", report(P.COMPLETED), M.ABORTED, "COMPLETED", None, 1),
    (M.PREPARED, "a", report(P.FAILED, message="bug"), M.ABORTED, "FAILED", None, 1),
    (M.PREPARED, "a", report(P.SEALED, checkpoints=(C2,)), M.PREPARED, "RUNNING", "a", 1),
    (M.STOPPING, "a", report(P.STOPPING), M.STOPPING, "RUNNING", "a", 1),
    (M.STOPPING, "a", report(P.SEALED, checkpoints=(C1, C2)), M.SEALED, "RUNNING", "a", 1),
    (M.STOPPING, "a", report(P.SEALED, 0, checkpoints=(C2,)), M.STOPPING, "RUNNING", "a", 1),
    (M.STOPPING, "a", report(P.SEALED), M.COMPENSATING, "STARTING", "a", 2),
    (M.STOPPING, "a", report(P.COMPLETED), M.ABORTED, "COMPLETED", None, 1),
    (M.STOPPING, "c", report(P.SEALED, checkpoints=(C2,)), M.STOPPING, "RUNNING", "a", 1),
    (M.TRANSFERRING, "b", report(P.FETCHING, 0, migration_id="m"), M.TRANSFERRING, "RUNNING", "a", 1),
    (M.TRANSFERRING, "b", report(P.HELD, 0, migration_id="m"), M.TRANSFERRING, "RUNNING", "a", 1),
    (
        M.TRANSFERRING,
        "b",
        report(P.HELD, 0, migration_id="m", checkpoints=(C2,)),
        M.VERIFIED,
        "RUNNING",
        "a",
        1,
    ),
    (M.TRANSFERRING, "b", report(P.RESERVED, 0, migration_id="m"), M.TRANSFERRING, "RUNNING", "a", 1),
    (
        M.TRANSFERRING,
        "b",
        report(P.RESERVED, 0, migration_id="m", message="disk full"),
        M.COMPENSATING,
        "STARTING",
        "a",
        2,
    ),
    (M.COMMITTED, "b", report(P.HELD, 0, migration_id="m"), M.COMMITTED, "STARTING", "b", 2),
    (M.STARTING, "b", report(P.HELD, 0, migration_id="m"), M.STARTING, "STARTING", "b", 2),
    (M.STARTING, "b", report(P.RUNNING, 2), M.STARTING, "RUNNING", "b", 2),
    (M.STARTING, "b", report(P.RUNNING, 2, step=20), M.STARTING, "RUNNING", "b", 2),
    (M.STARTING, "b", report(P.RUNNING, 2, step=21), M.DONE, "RUNNING", "b", 2),
    (M.STARTING, "b", report(P.RUNNING, 2, step=6, start_step=5), M.DONE, "RUNNING", "b", 2),
    (M.STARTING, "b", report(P.RUNNING, 1, step=21), M.STARTING, "STARTING", "b", 2),
    (M.STARTING, "b", report(P.PAUSED, 2), M.STARTING, "PAUSED", "b", 2),
    (M.STARTING, "b", report(P.COMPLETED, 2), M.DONE, "COMPLETED", None, 2),
    (M.STARTING, "b", report(P.FAILED, 2, checkpoints=(C2,)), M.STARTING, "STARTING", "b", 3),
    (M.STARTING, "b", report(P.SEALED, 2, checkpoints=(C2,)), M.DONE, "QUEUED", None, 3),
    (M.STARTING, "b", report(P.RELEASED, 2), M.DONE, "QUEUED", None, 3),
    (M.STARTING, "b", report(P.HELD, 2, checkpoints=(C2,)), M.DONE, "QUEUED", None, 3),
    (M.STARTING, "a", report(P.SEALED, 1, checkpoints=(C2,)), M.STARTING, "STARTING", "b", 2),
    (M.CONFIRMED, "b", report(P.COMPLETED, 2), M.DONE, "COMPLETED", None, 2),
    (M.CONFIRMED, "b", report(P.FAILED, 2), M.DONE, "FAILED", None, 2),
    (M.COMPENSATING, "a", report(P.STOPPING, 1), M.COMPENSATING, "STARTING", "a", 2),
    (M.COMPENSATING, "a", report(P.STARTING, 2), M.COMPENSATING, "STARTING", "a", 2),
    (M.COMPENSATING, "a", report(P.RUNNING, 2), M.ABORTED, "RUNNING", "a", 2),
    (M.COMPENSATING, "a", report(P.PAUSED, 2), M.ABORTED, "PAUSED", "a", 2),
    (M.COMPENSATING, "a", report(P.COMPLETED, 1), M.ABORTED, "COMPLETED", None, 2),
    (M.COMPENSATING, "a", report(P.FAILED, 1), M.ABORTED, "FAILED", None, 2),
    (M.COMPENSATING, "a", report(P.FAILED, 2, checkpoints=(C2, C1)), M.ABORTED, "FAILED", None, 2),
    # What it was to go on from is corrupt at the source: an older copy, or another site's, is left.
    (M.COMPENSATING, "a", report(P.FAILED, 2, checkpoints=(C2,)), M.ABORTED, "QUEUED", None, 3),
    (M.COMPENSATING, "a", report(P.SEALED, 2, checkpoints=(C2,)), M.ABORTED, "QUEUED", None, 3),
    (M.COMPENSATING, "a", report(P.RELEASED, 2), M.ABORTED, "QUEUED", None, 3),
    (M.COMPENSATING, "a", report(P.RUNNING, 0), M.COMPENSATING, "STARTING", "a", 2),
    # A memory restored from an older copy: the highest epoch wins, and is never undercut.
    (M.STOPPING, "c", report(P.RUNNING, 9), M.ABORTED, "RUNNING", "c", 9),
    (M.STOPPING, "c", report(P.RELEASED, 9), M.STOPPING, "RUNNING", "a", 9),
    (M.STARTING, "c", report(P.PAUSED, 9), M.DONE, "PAUSED", "c", 9),
]


@pytest.mark.parametrize(("state", "site", "said", "migration", "job", "owner", "epoch"), ROWS)
def test_reports_during_a_move(
    state: M, site: str, said: JobReport, migration: M, *, job: str, owner: str | None, epoch: int
) -> None:
    fleet = after(moving(state), site, said)
    found = fleet.jobs["j"]
    assert fleet.migrations["m"].state is migration
    assert (found.state.value, found.owner_site, found.epoch) == (job, owner, epoch)
    assert events_for_report(fleet, site, said, NOW, SETTINGS) == () or migration is M.COMPENSATING


RESIDENT = [
    (report(P.STARTING), "STARTING", "a", 1),
    (report(P.RUNNING), "RUNNING", "a", 1),
    (report(P.PAUSED), "PAUSED", "a", 1),
    (report(P.STOPPING), "RUNNING", "a", 1),
    (report(P.COMPLETED), "COMPLETED", None, 1),
    (report(P.FAILED, message="bug"), "FAILED", None, 1),
    (report(P.SEALED, checkpoints=(C1,)), "QUEUED", None, 2),
    (report(P.HELD), "QUEUED", None, 2),
    (report(P.RUNNING, 0), "RUNNING", "a", 1),
    (report(P.RUNNING, 5), "RUNNING", "a", 5),
    (report(P.SEALED, 5, checkpoints=(C1,)), "QUEUED", None, 6),
    (report(P.COMPLETED, 5), "COMPLETED", None, 5),
]


@pytest.mark.parametrize(("said", "state", "owner", "epoch"), RESIDENT)
def test_reports_of_the_owner(said: JobReport, state: str, owner: str | None, epoch: int) -> None:
    fleet = after(fold([*seen("a"), *at_work()]), "a", said)
    job = fleet.jobs["j"]
    assert (job.state.value, job.owner_site, job.epoch) == (state, owner, epoch)


def test_others_change_nothing_but_what_they_hold() -> None:
    fleet = fold([*seen("a"), *at_work()])
    changed = after(fleet, "b", report(P.SEALED, 1, checkpoints=(C1,)))
    assert changed.jobs["j"].copies == {"b": (C1,)}
    assert changed.jobs["j"].state is JobState.RUNNING
    assert (
        events_for_report(fleet, "a", JobReport(job_id="who", epoch=1, phase=P.RUNNING), NOW, SETTINGS) == ()
    )


def test_a_waiting_job_that_had_completed_is_complete() -> None:
    fleet = fold([*at_work(), ev.JobRequeued(at=NOW, job_id="j", epoch=2, message="fenced")])
    assert after(fleet, "a", report(P.COMPLETED)).jobs["j"].state is JobState.COMPLETED
    assert after(fleet, "a", report(P.RUNNING)).jobs["j"].state is JobState.QUEUED


GONE = "its checkpoint of step 20 at a is corrupt or gone"
LOSSES = [
    # who holds what, who says what -> epoch, message
    ({"a": (C1, C2)}, "a", (C1,), 3, f"{GONE}; it goes on from step 10"),
    ({"a": (C1, C2)}, "a", (), 3, f"{GONE}; no other is known"),
    ({"a": (C1, C2), "b": (C1,)}, "a", (), 3, f"{GONE}; it goes on from step 10"),
    ({"a": (C2,), "b": (C2,)}, "a", (), 2, "stopped"),
    ({"a": (C1, C2)}, "a", (C2,), 2, "stopped"),
    ({"a": (C1,)}, "a", (C1, C2), 2, "stopped"),
    ({"a": (C2,), "b": (C1,)}, "b", (), 2, "stopped"),
    ({}, "a", (C1,), 2, "stopped"),
]


@pytest.mark.parametrize(("held", "site", "left", "epoch", "message"), LOSSES)
def test_a_waiting_job_whose_newest_checkpoint_is_lost(
    held: dict[str, tuple[Checkpoint, ...]],
    site: str,
    left: tuple[Checkpoint, ...],
    epoch: int,
    message: str,
) -> None:
    copies = [
        ev.CheckpointSealed(at=NOW, job_id="j", site_id=site_id, checkpoints=checkpoints)
        for site_id, checkpoints in held.items()
    ]
    requeued = ev.JobRequeued(at=NOW, job_id="j", epoch=2, message="stopped")
    fleet = fold([*seen("a", "b"), *at_work(), *copies, requeued])
    job = after(fleet, site, report(P.SEALED, checkpoints=left)).jobs["j"]
    assert (job.state, job.epoch, job.message) == (JobState.QUEUED, epoch, message)


def test_a_withdrawn_job_may_still_complete() -> None:
    fleet = fold([*submitted(), granted(), ev.JobWithdrawn(at=NOW, job_id="j", epoch=2, message="no")])
    assert after(fleet, "a", report(P.RUNNING)).jobs["j"].state is JobState.WITHDRAWING
    assert after(fleet, "a", report(P.COMPLETED)).jobs["j"].state is JobState.COMPLETED


def test_a_cancelled_job_ends_as_cancelled_whatever_its_site_calls_it() -> None:
    cancel = ev.CancelRequested(at=NOW, job_id="j")
    for said, state in (
        (report(P.FAILED), JobState.CANCELLED),
        (report(P.SEALED, checkpoints=(C1,)), JobState.CANCELLED),
        (report(P.COMPLETED), JobState.COMPLETED),
    ):
        assert after(fold([*at_work(), cancel]), "a", said).jobs["j"].state is state
        fleet = after(fold([*events_to(M.STOPPING), cancel]), "a", said)
        assert fleet.jobs["j"].state is state
        assert fleet.migrations["m"].state is M.ABORTED


def test_the_last_failed_start_ends_the_job() -> None:
    fleet = after(moving(M.STARTING), "b", report(P.FAILED, 2, message="no CUDA", checkpoints=(C2,)))
    assert fleet.jobs["j"].failed_starts == 1 and "no CUDA" in fleet.jobs["j"].message
    fleet = after(fleet, "b", report(P.FAILED, 3, message="no CUDA", checkpoints=(C2,)))
    assert fleet.jobs["j"].state is JobState.FAILED
    assert fleet.migrations["m"].state is M.DONE and fleet.migrations["m"].failure


def test_what_was_measured_is_kept() -> None:
    fleet = after(moving(M.STOPPING), "a", report(P.SEALED, checkpoints=(C2,), seal_s=3.5))
    assert fleet.jobs["j"].seal_s == 3.5
    assert (NOW - fleet.migrations["m"].stopped_at).total_seconds() == 3.5  # type: ignore[operator]
    held = report(P.HELD, 0, migration_id="m", checkpoints=(C2,), goodput_bps=5e5)
    fleet = after(moving(M.TRANSFERRING), "b", held)
    assert fleet.links["a", "b"].goodput_bps == 5e5
    fleet = after(moving(M.STARTING), "b", report(P.RUNNING, 2, step=21, load_s=4.0))
    assert fleet.jobs["j"].load_s == 4.0 and fleet.jobs["j"].seal_s is None


def test_a_site_that_has_let_go_of_its_own_job_does_not_keep_it() -> None:
    """Only a store that was restored can think that it still runs there."""
    state = after(fold(at_work()), "a", report(P.RELEASED, 1, checkpoints=(C1,)))
    job = state.jobs["j"]
    assert (job.state, job.grant, job.epoch) == (JobState.QUEUED, None, 2)


def test_a_destination_whose_checkpoint_is_corrupt_is_not_asked_again() -> None:
    """The source has kept its copy: the job starts from that one."""
    state = after(moving(M.STARTING), "b", report(P.FAILED, 2, message="c2 is corrupt"))
    job = state.jobs["j"]
    assert (job.state, job.owner_site, job.migration_id, job.epoch) == (JobState.QUEUED, None, None, 3)
    assert state.migrations["m"].state is M.DONE
    assert not job.ended


def test_a_corrupt_checkpoint_at_a_first_start_sends_the_job_back_into_the_queue() -> None:
    state = fold([*seen("a"), *submitted(), replace(granted(), checkpoint_id="c1")])
    assert after(state, "a", report(P.FAILED, 1)).jobs["j"].state is JobState.QUEUED
    program = after(state, "a", report(P.FAILED, 1, checkpoints=(C1,)))
    assert program.jobs["j"].state is JobState.FAILED


HALF = replace(SPEC, power_w=400.0, slow=SlowRange(power_frac=0.5, speed_frac=0.8))


@pytest.mark.parametrize(
    ("spec", "said", "speed_frac"),
    [
        (HALF, {"slowed_to_w": 300.0}, 0.9),
        (HALF, {"slowed_to_w": 50.0}, 0.8),
        (HALF, {}, None),
        (replace(HALF, slow=None), {"slowed_to_w": 300.0}, None),
        (replace(HALF, power_w=0.0), {"slowed_to_w": 300.0}, None),
    ],
)
def test_a_report_of_another_speed_is_news_once(
    spec: JobSpec, said: dict[str, float], speed_frac: float | None
) -> None:
    state, told = fold(at_work(spec)), report(P.RUNNING, **said)
    found = events_for_report(state, "a", told, NOW, SETTINGS)
    assert [event.speed_frac for event in found if isinstance(event, ev.JobPhaseChanged)] == (
        [] if speed_frac is None else [pytest.approx(speed_frac)]
    )
    after = fold(found, state)
    assert events_for_report(after, "a", told, NOW, SETTINGS) == ()
    back = events_for_report(after, "a", report(P.RUNNING), NOW, SETTINGS)
    assert fold(back, after).jobs["j"].speed_frac == 1.0


def test_a_site_that_cannot_read_its_store_loses_no_copy_by_saying_so() -> None:
    state = after(fold(at_work()), "a", report(P.RUNNING, checkpoints=(C1, C2)))
    unknown = replace(report(P.RUNNING), checkpoints_unknown=True)
    assert after(state, "a", unknown).jobs == state.jobs
    assert after(state, "a", report(P.RUNNING)).jobs != state.jobs, "none at all would be news"


def test_a_stop_counts_once_the_site_can_say_what_it_sealed() -> None:
    state = moving(M.STOPPING)
    sealed = replace(report(P.SEALED), checkpoints_unknown=True)
    assert after(state, "a", sealed) == state
