"""What the coordinator does by itself, on time, on refusal; leases; arrivals; news."""

import pytest

from coordinator.core.arrivals import obstacle_to_arrival, obstacle_to_move, plan_migration
from coordinator.core.endings import grant
from coordinator.core.fleet import fold
from coordinator.core.grants import LeaseBook, LeaseMargins, renewable
from coordinator.core.news import is_news
from coordinator.core.progress import (
    MigrationTimeouts,
    expiry_events,
    next_events,
    refusal_events,
    released_events,
    timeout_events,
)
from coordinator.core.round import RoundInputs, round_events
from coordinator.model import events as ev
from coordinator.model.decision import Alternative, Decision, DecisionKind, Term
from coordinator.model.fleet import FleetState, JobState
from coordinator.model.job import JobPhase as P
from coordinator.model.live import LiveSite
from coordinator.model.orders import Action, Fetch, Order, Prepare, Release, Start, Stop
from tests.coordinator.core.histories import (
    C2,
    NOW,
    PRESTAGE,
    SETTINGS,
    SPEC,
    STOPS,
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

CANCEL = ev.CancelRequested(at=NOW, job_id="j")
TIMEOUTS = MigrationTimeouts(planned_s=1, prepared_s=2, stopping_s=3, transferring_s=4)


@pytest.mark.parametrize(
    ("state", "to"),
    [
        (M.PLANNED, M.PLANNED),
        (M.PREPARED, M.STOPPING),
        (M.STOPPING, M.STOPPING),
        (M.SEALED, M.TRANSFERRING),
        (M.TRANSFERRING, M.TRANSFERRING),
        (M.VERIFIED, M.COMMITTED),
        (M.COMMITTED, M.STARTING),
        (M.STARTING, M.STARTING),
        (M.CONFIRMED, M.DONE),
        (M.COMPENSATING, M.COMPENSATING),
    ],
)
def test_own_steps(state: M, to: M) -> None:
    before = moving(state)
    after = fold(next_events(before, "j", here(), NOW, prestage=PRESTAGE, settings=SETTINGS), before)
    assert after.migrations["m"].state is to


def test_a_source_is_not_stopped_while_an_end_is_away() -> None:
    away = {**here(), "b": LiveSite()}
    assert next_events(moving(M.PREPARED), "j", away, NOW, prestage=PRESTAGE, settings=SETTINGS) == ()


@pytest.mark.parametrize(
    ("events", "reports", "state"),
    [
        (submitted(), {}, JobState.CANCELLED),
        (at_work(), {"a": report(P.RUNNING)}, JobState.RUNNING),
        (at_work(), {}, JobState.WITHDRAWING),
        (events_to(M.PLANNED), {}, JobState.WITHDRAWING),
        (events_to(M.SEALED), {}, JobState.CANCELLED),
        (events_to(M.VERIFIED), {}, JobState.CANCELLED),
        (events_to(M.STARTING), {"b": report(P.RUNNING, 2)}, JobState.STARTING),
        (events_to(M.STARTING), {}, JobState.WITHDRAWING),
    ],
)
def test_a_cancellation_that_no_process_has_to_hear(
    events: list[ev.Event], reports: dict[str, object], state: JobState
) -> None:
    before = fold([*events, CANCEL])
    after = fold(next_events(before, "j", here(**reports), NOW, prestage=PRESTAGE, settings=SETTINGS), before)  # type: ignore[arg-type]
    assert after.jobs["j"].state is state
    gone = dict.fromkeys(("a", "b", "c"), LiveSite())
    if state is JobState.WITHDRAWING:
        assert (
            next_events(fold(events), "j", gone, NOW, prestage=PRESTAGE, settings=SETTINGS) == ()
            or "m" in fold(events).migrations
        )


@pytest.mark.parametrize(
    ("state", "in_state_s", "failed"),
    [
        (M.PLANNED, 1.0, False),
        (M.PLANNED, 1.1, True),
        (M.PREPARED, 2.1, True),
        (M.STOPPING, 3.1, True),
        (M.TRANSFERRING, 4.1, True),
        (M.VERIFIED, 1e9, False),
        (M.STARTING, 1e9, False),
        (M.COMPENSATING, 1e9, False),
    ],
)
def test_stays_that_last_too_long(state: M, in_state_s: float, failed: bool) -> None:
    before = moving(state)
    told = timeout_events(
        before, before.migrations["m"], in_state_s, timeouts=TIMEOUTS, now=NOW, settings=SETTINGS
    )
    after = fold(told, before).migrations["m"]
    assert after.state is (M.COMPENSATING if failed else state)
    assert bool(after.failure) == (failed or state is M.COMPENSATING)
    assert TIMEOUTS.reservation_s == 6


def test_a_cancelled_move_that_times_out_is_not_resumed() -> None:
    before = fold([*events_to(M.TRANSFERRING), CANCEL])
    told = timeout_events(before, before.migrations["m"], 9.0, timeouts=TIMEOUTS, now=NOW, settings=SETTINGS)
    assert fold(told, before).jobs["j"].state is JobState.CANCELLED


def order(site: str, action: Action, epoch: int = 1, migration_id: str = "m") -> Order:
    return Order(site_id=site, migration_id=migration_id, job_id="j", epoch=epoch, action=action)


PREPARE = Prepare(spec=SPEC, checkpoint_bytes=1, expires_after_s=1)
FETCH = Fetch(checkpoint_id="c2", holder_site="a", holder_address="", max_bps=None)
START = Start(spec=SPEC, checkpoint_id=None, lease_ttl_s=None)
RELEASE = Release(keep_checkpoints=2)


@pytest.mark.parametrize(
    ("state", "refused", "to"),
    [
        (M.PLANNED, order("b", PREPARE), M.COMPENSATING),
        (M.PLANNED, order("b", PREPARE, migration_id="old"), M.PLANNED),
        (M.PLANNED, order("b", PREPARE, epoch=0), M.PLANNED),
        (M.TRANSFERRING, order("b", FETCH), M.COMPENSATING),
        (M.STOPPING, order("a", Stop(reason="", cancel=False)), M.STOPPING),
        (M.STARTING, order("b", START, 2), M.STARTING),
        (M.STARTING, order("b", FETCH), M.STARTING),
        (M.COMPENSATING, order("a", START, 2), M.COMPENSATING),
    ],
)
def test_refusals_during_a_move(state: M, refused: Order, to: M) -> None:
    before = moving(state)
    assert fold(refusal_events(before, refused, "no", NOW, SETTINGS), before).migrations["m"].state is to


def test_a_refused_first_start_is_taken_back_and_waits_again() -> None:
    before = fold([*submitted(), granted()])
    refused = order("a", START, migration_id="")
    taken_back = fold(refusal_events(before, refused, "full", NOW, SETTINGS), before)
    assert (taken_back.jobs["j"].state, taken_back.jobs["j"].epoch) == (JobState.WITHDRAWING, 2)
    assert refusal_events(taken_back, refused, "full", NOW, SETTINGS) == ()
    assert released_events(taken_back, order("a", RELEASE, 1, ""), NOW) == ()
    assert released_events(taken_back, order("b", RELEASE, 2, ""), NOW) == ()
    free = fold(released_events(taken_back, order("a", RELEASE, 2, ""), NOW), taken_back)
    assert (free.jobs["j"].state, free.jobs["j"].epoch) == (JobState.QUEUED, 3)
    assert "full" in free.jobs["j"].message
    assert refusal_events(fold(at_work()), refused, "full", NOW, SETTINGS) == ()
    assert refusal_events(FleetState(), refused, "full", NOW, SETTINGS) == ()


def test_a_job_is_granted_once_and_from_its_newest_checkpoint() -> None:
    held = ev.CheckpointSealed(at=NOW, job_id="j", site_id="b", checkpoints=(C2,))
    waiting = fold([*seen("a", "b"), *submitted(STOPS), held])
    assert grant(waiting, "j", "a", NOW, SETTINGS) == ()
    assert grant(waiting, "who", "a", NOW, SETTINGS) == ()
    (event,) = grant(waiting, "j", "b", NOW, SETTINGS)
    assert isinstance(event, ev.JobGranted)
    assert (event.epoch, event.checkpoint_id, event.lease_ttl_s) == (1, "c2", 60.0)
    assert grant(fold([event], waiting), "j", "b", NOW, SETTINGS) == ()
    assert expiry_events(waiting, waiting.jobs["j"], NOW) == ()


def test_leases() -> None:
    book = LeaseBook(LeaseMargins(skew_s=5, kill_grace_s=10))
    stops = fold([*submitted(STOPS), granted(spec=STOPS)]).jobs["j"]
    keeps = fold(at_work()).jobs["j"]
    runs_out_s = 60 * 1.001 + 5 + 10 + STOPS.stop_grace_s
    assert book.free_at_s(stops) == 0.0, "it was never sent"
    assert book.free_at_s(keeps) is None, "silence never ends it"
    assert book.free_at_s(fold(submitted()).jobs["j"]) == 0.0, "nobody has it"
    book.given("j", "a", 1, 100.0)
    assert book.free_at_s(stops) is None, "it may be on its way for any time"
    book.heard("j", "a", 1, 130.0)
    assert book.free_at_s(stops) == pytest.approx(130 + runs_out_s)
    book.given("j", "a", 1, 150.0)
    assert book.free_at_s(stops) == pytest.approx(150 + runs_out_s)
    book.heard("j", "a", 1, 160.0)
    assert book.free_at_s(stops) == pytest.approx(150 + runs_out_s), "hearing of it gives no new lease"
    regranted = fold([ev.JobWithdrawn(at=NOW, job_id="j", epoch=2, message="")],
                     fold([*submitted(STOPS), granted(spec=STOPS)])).jobs["j"]  # fmt: skip
    assert book.free_at_s(regranted) == pytest.approx(150 + runs_out_s), "the older one still runs"
    book.recover([stops], 500.0)
    assert book.free_at_s(stops) is None, "after a restart it may still be on its way"
    running = fold([*submitted(STOPS), granted(spec=STOPS),
                    ev.JobPhaseChanged(at=NOW, job_id="j", state=JobState.RUNNING)]).jobs["j"]  # fmt: skip
    book.recover([running], 500.0)
    assert book.free_at_s(running) == pytest.approx(500 + runs_out_s)
    book.keep_only(())
    assert book.free_at_s(running) == 0.0


def test_renewals_are_for_the_current_grant_alone() -> None:
    job = moving(M.STARTING, STOPS).jobs["j"]
    assert renewable(job, "b", 2)
    assert not renewable(job, "a", 1) and not renewable(job, "b", 1)
    withdrawn = fold([*submitted(), granted(), ev.JobWithdrawn(at=NOW, job_id="j", epoch=2, message="")])
    assert not renewable(withdrawn.jobs["j"], "a", 2)
    assert not renewable(fold(submitted()).jobs["j"], "a", 0)


@pytest.mark.parametrize(
    ("events", "site", "obstacle"),
    [
        (at_work(), "b", ""),
        (at_work(), "a", "already"),
        (at_work(), "oslo", "not connected"),
        (submitted(), "b", "QUEUED, not running"),
        (events_to(M.PLANNED)[3:], "c", "under way"),
        ([*at_work(), CANCEL], "b", "not running"),
        ([*at_work(), ev.SiteDrained(at=NOW, site_id="b")], "b", "draining"),
        ([*at_work(), ev.SiteFenced(at=NOW, site_id="b")], "b", "fenced"),
        ([*at_work(), *seen("b", slots=0)], "b", "no free slot"),
    ],
)
def test_what_keeps_a_job_from_moving(events: list[ev.Event], site: str, obstacle: str) -> None:
    state = fold([*seen("a", "b", "c"), *events])
    found = obstacle_to_move(state, here(), "j", site)
    assert obstacle in found and bool(obstacle) == bool(found)
    planned = plan_migration(
        state,
        here(),
        job_id="j",
        site_id=site,
        reason="sun",
        predicted_s=None,
        reserved_bps=None,
        window_end_at=None,
        now=NOW,
        migration_id="m2",
    )
    assert bool(planned) != bool(obstacle)


def test_nothing_leaves_or_reaches_a_site_that_is_away() -> None:
    state = fold([*seen("a", "b"), *at_work()])
    assert "where the job is" in obstacle_to_move(state, {**here(), "a": LiveSite()}, "j", "b")
    assert "not connected" in obstacle_to_arrival(state, {}, "b")


def test_a_round_goes_as_far_as_it_can() -> None:
    held = report(P.HELD, 0, migration_id="m", checkpoints=(C2,))
    live = here(a=report(P.SEALED, checkpoints=(C2,)), b=held)
    inputs = RoundInputs(live=live, now=NOW, grants=SETTINGS, timeouts=TIMEOUTS, prestage=PRESTAGE)
    before = moving(M.STOPPING)
    after = fold(round_events(before, inputs), before)
    assert after.migrations["m"].state is M.STARTING
    assert round_events(after, inputs) == ()


def test_a_round_ends_leases_that_have_run_out() -> None:
    inputs = RoundInputs(
        live={}, now=NOW, grants=SETTINGS, timeouts=TIMEOUTS, prestage=PRESTAGE, expired=frozenset({"j"})
    )
    for before in (fold(at_work(STOPS)), moving(M.STOPPING, STOPS), moving(M.STARTING, STOPS)):
        after = fold(round_events(before, inputs), before).jobs["j"]
        assert (after.state, after.grant, after.migration_id) == (JobState.QUEUED, None, None)
        assert after.lost_sites == {before.jobs["j"].owner_site}


def decided(kind: DecisionKind = DecisionKind.STAY, value: float = 1.0, satisfied: bool = True) -> Decision:
    term = Term(name="time", value=value, limit=2.0, unit="s", satisfied=satisfied)
    alternative = Alternative(site_id="b", feasible=satisfied, score=value, terms=(term,), rejections=())
    return Decision(
        job_id="j",
        decided_at=NOW,
        policy="static",
        kind=kind,
        source_site="a",
        target_site="a",
        reason=f"{value}",
        alternatives=(alternative,),
    )


def test_figures_alone_are_no_news() -> None:
    assert is_news(decided(), None)
    assert not is_news(decided(value=1.5), decided())
    assert is_news(decided(satisfied=False), decided())
    assert is_news(decided(DecisionKind.MIGRATE), decided())
