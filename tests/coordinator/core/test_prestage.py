"""What is sent ahead, and when a job is still stopped after that."""

from dataclasses import replace
from datetime import timedelta

import pytest

from coordinator.core.feasibility import Tolerance
from coordinator.core.fleet import fold
from coordinator.core.orders import OrderSettings, orders_for
from coordinator.core.prestage import PrestageSettings, obstacle_to_stop, to_send_ahead, window_closed
from coordinator.core.progress import next_events
from coordinator.core.reports import events_for_report
from coordinator.core.view import ViewSettings, job_view
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, JobState
from coordinator.model.fleet import MigrationState as M
from coordinator.model.job import Checkpoint
from coordinator.model.job import JobPhase as P
from coordinator.model.orders import Fetch
from tests.coordinator.core.histories import NOW, SETTINGS, events_to, here, report

SETTINGS_AHEAD = PrestageSettings(
    view=ViewSettings(), tolerance=Tolerance(alpha=0.1, eta=1.0), least_transfer_s=10.0, least_bytes=1000
)
BIG = Checkpoint(checkpoint_id="big", step=9, epoch=1, size_bytes=10**9, sealed_at=NOW)
LATER = Checkpoint(checkpoint_id="later", step=12, epoch=1, size_bytes=10**9, sealed_at=NOW)


def prepared(
    *, held: Checkpoint = BIG, link_bps: float | None = 1e8, window_s: float | None = 7200.0
) -> FleetState:
    """A move that waits for its stop, with a checkpoint at the source and a link that was measured."""
    events = [
        replace(
            event,
            reserved_bps=None,
            window_end_at=None if window_s is None else NOW + timedelta(seconds=window_s),
        )
        if isinstance(event, ev.MigrationPlanned)
        else event
        for event in events_to(M.PREPARED)
    ]
    sealed = ev.CheckpointSealed(at=NOW, job_id="j", site_id="a", checkpoints=(held,))
    measured = [] if link_bps is None else [measure(link_bps)]
    running = ev.JobPhaseChanged(at=NOW, job_id="j", state=JobState.RUNNING)
    return fold([*events, sealed, running, *measured])


def measure(goodput_bps: float) -> ev.LinkMeasured:
    return ev.LinkMeasured(at=NOW, source="a", destination="b", goodput_bps=goodput_bps)


def step(state: FleetState, **reports: object) -> FleetState:
    told = next_events(state, "j", here(**reports), NOW, prestage=SETTINGS_AHEAD, settings=SETTINGS)
    return fold(told, state)


@pytest.mark.parametrize(
    ("link_bps", "size_bytes", "ahead"),
    [
        (1e8, 10**9, True),  # 80 s
        (1e10, 10**9, False),  # under a second
        (None, 10**9, True),  # nobody knows: sending it tells
        (None, 999, False),
    ],
)
def test_what_is_worth_sending_ahead(link_bps: float | None, size_bytes: int, ahead: bool) -> None:
    state = prepared(held=replace(BIG, size_bytes=size_bytes), link_bps=link_bps)
    chosen = to_send_ahead(state, state.migrations["m"], SETTINGS_AHEAD)
    assert (chosen is not None) is ahead
    assert step(state).migrations["m"].state is (M.PRESTAGING if ahead else M.STOPPING)


def test_a_suspended_job_and_a_checkpoint_that_is_there_are_not_sent_ahead() -> None:
    state = prepared()
    paused = fold([ev.JobPhaseChanged(at=NOW, job_id="j", state=JobState.PAUSED)], state)
    assert to_send_ahead(paused, paused.migrations["m"], SETTINGS_AHEAD) is None
    there = fold([ev.CheckpointSealed(at=NOW, job_id="j", site_id="b", checkpoints=(BIG,))], state)
    assert to_send_ahead(there, there.migrations["m"], SETTINGS_AHEAD) is None
    nothing = fold([ev.CheckpointSealed(at=NOW, job_id="j", site_id="a", checkpoints=())], state)
    assert to_send_ahead(nothing, nothing.migrations["m"], SETTINGS_AHEAD) is None


def test_the_job_is_stopped_once_the_first_checkpoint_is_there() -> None:
    state = step(prepared())
    assert state.migrations["m"].ahead == BIG
    (order,) = orders_for(state, state.jobs["j"], here(), OrderSettings())
    assert order.site_id == "b" and isinstance(order.action, Fetch)
    assert order.action.checkpoint_id == "big" and not order.action.for_start
    fetching = report(P.FETCHING, 0, migration_id="m")
    assert step(state, b=fetching).migrations["m"].state is M.PRESTAGING
    held = report(P.HELD, 0, migration_id="m", checkpoints=(BIG,), goodput_bps=5e7)
    assert orders_for(state, state.jobs["j"], here(b=held), OrderSettings()) == ()
    stopping = step(state, b=held)
    assert stopping.migrations["m"].state is M.STOPPING
    assert stopping.links["a", "b"].goodput_bps < 1e8  # what was measured on the way counts
    # The second fetch is asked for although the destination holds something already.
    sealed = fold(
        events_for_report(stopping, "a", report(P.SEALED, checkpoints=(LATER, BIG)), NOW, SETTINGS), stopping
    )
    sealed = step(sealed, b=held)
    assert sealed.migrations["m"].state is M.TRANSFERRING
    (order,) = orders_for(sealed, sealed.jobs["j"], here(b=held), OrderSettings())
    assert isinstance(order.action, Fetch) and order.action.checkpoint_id == "later"
    assert order.action.for_start  # the job has stopped for it
    both = report(
        P.HELD, 0, migration_id="m", checkpoints=(LATER, BIG), goodput_bps=5e7, transferred_bytes=4 * 10**8
    )
    done = fold(events_for_report(sealed, "b", both, NOW, SETTINGS), sealed)
    assert done.migrations["m"].state is M.VERIFIED
    assert done.jobs["j"].sent_frac == pytest.approx(0.4)
    view = job_view(done, done.jobs["j"], ViewSettings())
    assert (view.checkpoint_bytes, view.stop_bytes) == (10**9, 4 * 10**8)


def test_a_link_that_turned_out_slow_leaves_the_job_where_it_is() -> None:
    state = step(prepared(window_s=2000.0))  # at 1e8 bit/s: 80 s of 182 s allowed
    held = report(P.HELD, 0, migration_id="m", checkpoints=(BIG,), goodput_bps=1e7)
    failed = step(state, b=held)
    migration = failed.migrations["m"]
    assert migration.state is M.COMPENSATING
    assert "no longer worth it" in migration.failure and "time" in migration.failure
    assert failed.jobs["j"].grant.site_id == "a"


def test_a_failed_first_transfer_ends_the_move_before_anything_was_stopped() -> None:
    state = step(prepared())
    refused = report(P.RESERVED, 0, migration_id="m", message="disk full")
    failed = fold(events_for_report(state, "b", refused, NOW, SETTINGS), state)
    assert failed.migrations["m"].state is M.COMPENSATING
    assert "disk full" in failed.migrations["m"].failure


def test_a_move_without_a_window_is_not_held_to_one() -> None:
    state = prepared(window_s=None)
    migration = state.migrations["m"]
    assert obstacle_to_stop(state, migration, 1.0, NOW, SETTINGS_AHEAD) == ""
    assert not window_closed(migration, NOW)
    unknown = prepared(link_bps=None)
    assert obstacle_to_stop(unknown, unknown.migrations["m"], None, NOW, SETTINGS_AHEAD) == ""


def test_a_window_that_ends_on_the_way_brings_the_job_back() -> None:
    state = fold(
        [
            replace(event, window_end_at=NOW - timedelta(seconds=1))
            if isinstance(event, ev.MigrationPlanned)
            else event
            for event in events_to(M.TRANSFERRING)
        ]
    )
    back = step(state)
    assert back.migrations["m"].state is M.COMPENSATING
    assert "has ended" in back.migrations["m"].failure
