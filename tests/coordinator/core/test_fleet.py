"""The fold: what each event changes, and what no event may."""

from datetime import timedelta

import pytest

from coordinator.core.endings import fence, holders_of, may_start_at
from coordinator.core.fleet import apply, fold
from coordinator.model import events as ev
from coordinator.model.fleet import JobState
from sterna.errors import IllegalTransitionError
from tests.coordinator.core.histories import (
    C1,
    C2,
    COMMITTED,
    FAILED,
    NOW,
    PLANNED,
    SEALED,
    SETTINGS,
    M,
    On,
    at_work,
    events_to,
    granted,
    moving,
    seen,
    step,
    submitted,
)

ENDED = ev.JobEnded(at=NOW, job_id="j", state=JobState.COMPLETED, message="")
REQUEUED = ev.JobRequeued(at=NOW, job_id="j", epoch=2, message="why")
ADOPTED = ev.EpochAdopted(at=NOW, job_id="j", epoch=9, owner="c", lease_ttl_s=None)


@pytest.mark.parametrize(
    ("events", "broken", "why"),
    [
        ([], granted(), "unknown"),
        (submitted(), submitted()[0], "submitted twice"),
        (at_work(), granted(epoch=2), "granted while RUNNING"),
        ([*at_work(), REQUEUED], granted(epoch=2), "not above 2"),
        ([*at_work(), ENDED], granted(epoch=2), "has ended as COMPLETED"),
        (submitted(), ev.JobPhaseChanged(at=NOW, job_id="j", state=JobState.RUNNING), "without a grant"),
        (submitted(), ev.JobWithdrawn(at=NOW, job_id="j", epoch=2, message=""), "nothing to withdraw"),
        (submitted(), ev.JobStartFailed(at=NOW, job_id="j", epoch=2, message=""), "without a grant"),
        (submitted(), PLANNED, "cannot be moved now"),
        (events_to(M.PLANNED), PLANNED, "cannot be moved now"),
        (events_to(M.PLANNED), REQUEUED, "while it is moved"),
        (events_to(M.PLANNED), ENDED, "while it is moved"),
        (events_to(M.PLANNED), ADOPTED, "while it is moved"),
        (events_to(M.PLANNED), SEALED, "SEAL in PLANNED"),
        (events_to(M.TRANSFERRING), COMMITTED, "COMMIT in TRANSFERRING"),
        (events_to(M.COMMITTED), FAILED, "FAIL in COMMITTED"),
        (at_work(), step(On.STOP), "migration m: unknown"),
        ([], ev.CheckpointSealed(at=NOW, job_id="j", site_id="a", checkpoints=()), "unknown"),
    ],
)
def test_what_no_event_may(events: list[ev.Event], broken: ev.Event, why: str) -> None:
    state = fold(events)
    with pytest.raises(IllegalTransitionError, match=why):
        apply(state, broken)


def test_commit_moves_ownership_and_epoch_together() -> None:
    before, after = moving(M.VERIFIED), moving(M.COMMITTED)
    assert (before.jobs["j"].owner_site, before.jobs["j"].epoch) == ("a", 1)
    assert (after.jobs["j"].owner_site, after.jobs["j"].epoch) == ("b", 2)
    assert after.jobs["j"].grant is not None and after.jobs["j"].grant.checkpoint_id == "c2"


def test_a_finished_move_frees_the_job_and_counts() -> None:
    state = moving(M.DONE)
    job, migration = state.jobs["j"], state.migrations["m"]
    assert (job.migration_id, job.migrations, migration.ended_at) == (None, 1, NOW)
    assert migration.downtime_s == job.downtime_s == 2.0
    aborted = moving(M.ABORTED)
    assert (aborted.jobs["j"].migration_id, aborted.jobs["j"].migrations) == (None, 0)
    assert aborted.migrations["m"].downtime_s is None


def test_running_time_is_counted_without_pauses() -> None:
    def phase(state: JobState, after_s: float) -> ev.Event:
        return ev.JobPhaseChanged(at=NOW + timedelta(seconds=after_s), job_id="j", state=state)

    state = fold([*at_work(), phase(JobState.PAUSED, 10), phase(JobState.RUNNING, 100)])
    assert state.jobs["j"].run_s == 10
    ended = ev.JobEnded(at=NOW + timedelta(seconds=105), job_id="j", state=JobState.COMPLETED, message="")
    job = fold([ended], state).jobs["j"]
    assert (job.run_s, job.running_since, job.started_at) == (15, None, NOW)


def test_what_a_slowed_job_does_counts_by_its_speed() -> None:
    def speed(speed_frac: float, after_s: float) -> ev.Event:
        at = NOW + timedelta(seconds=after_s)
        return ev.JobPhaseChanged(at=at, job_id="j", state=JobState.RUNNING, speed_frac=speed_frac)

    state = fold([*at_work(), speed(0.8, 10), speed(1.0, 20)])
    job = state.jobs["j"]
    assert (job.run_s, job.speed_frac) == (18.0, 1.0)
    paused = ev.JobPhaseChanged(at=NOW + timedelta(seconds=30), job_id="j", state=JobState.PAUSED)
    assert fold([speed(0.5, 20), paused], state).jobs["j"].run_s == 18.0 + 5.0


def test_a_link_learns_but_not_from_its_allotment() -> None:
    def measured(bps: float, allotted_bps: float | None = None) -> ev.Event:
        return ev.LinkMeasured(
            at=NOW, source="a", destination="b", goodput_bps=bps, allotted_bps=allotted_bps
        )

    assert fold([measured(95.0, 100.0)]).links == {}
    slow = fold([measured(50.0, 100.0)])
    assert slow.links["a", "b"].goodput_bps == 50.0
    faster = fold([measured(150.0)], slow)
    assert faster.links["a", "b"].goodput_bps == pytest.approx(80.0)
    assert faster.links["a", "b"].samples == 2
    assert fold([measured(70.0, 70.0)], faster) == faster
    assert fold([measured(90.0, 90.0)], faster).links["a", "b"].goodput_bps > 80.0


def test_sites() -> None:
    drained = fold([*seen("a"), ev.SiteDrained(at=NOW, site_id="a"), ev.SiteFenced(at=NOW, site_id="a")])
    assert (drained.sites["a"].draining, drained.sites["a"].fenced) == (True, True)
    resumed = fold([ev.SiteResumed(at=NOW, site_id="a")], drained).sites["a"]
    assert (resumed.draining, resumed.fenced, resumed.capabilities is not None) == (False, False, True)


@pytest.mark.parametrize("state", [one for one in M if one not in (M.PRESTAGING, M.DONE, M.ABORTED)])
@pytest.mark.parametrize("site", ["a", "b", "c"])
def test_fencing_in_every_state(state: M, site: str) -> None:
    before = moving(state)
    owner = before.jobs["j"].owner_site
    after = fold(fence(before, site, NOW, SETTINGS), before)
    job, migration = after.jobs["j"], after.migrations["m"]
    assert after.sites[site].fenced
    if site == owner:
        assert (job.state, job.grant, job.migration_id) == (JobState.QUEUED, None, None)
        assert job.epoch > before.jobs["j"].epoch
        assert migration.state is (M.DONE if owner == "b" else M.ABORTED)
    elif site == "b" and migration.source_site == owner and state is not M.COMPENSATING:
        assert migration.state is M.COMPENSATING and job.owner_site == "a"
    else:
        assert migration.state is state


def test_where_a_waiting_job_may_start() -> None:
    def held(site: str, *checkpoints: object) -> ev.Event:
        return ev.CheckpointSealed(at=NOW, job_id="j", site_id=site, checkpoints=checkpoints)  # type: ignore[arg-type]

    fresh = fold([*seen("a", "b"), *submitted()])
    assert may_start_at(fresh, fresh.jobs["j"], "a") and not may_start_at(fresh, fresh.jobs["j"], "oslo")
    state = fold([held("a", C2), held("b", C1)], fresh)
    assert holders_of(state, state.jobs["j"]) == {"a"}
    fenced = fold([ev.SiteFenced(at=NOW, site_id="a")], state)
    assert holders_of(fenced, fenced.jobs["j"]) == {"b"}
    lost = fold([ev.JobRequeued(at=NOW, job_id="j", epoch=1, message="", lost_site="a")], state)
    assert holders_of(lost, lost.jobs["j"]) == {"b"}
    only = fold([held("b")], lost)
    assert holders_of(only, only.jobs["j"]) == {"a"}, "nobody else holds any: the lost one counts again"
    back = fold([held("a", C2)], lost)
    assert holders_of(back, back.jobs["j"]) == {"a"}
    gone = fold([held("a"), held("b")], state)
    assert not may_start_at(gone, gone.jobs["j"], "a"), "it has progress; it never starts fresh"
