"""Which orders stand in each state, and that a report that shows the effect ends them."""

from dataclasses import replace

import pytest

from coordinator.core.fleet import fold
from coordinator.core.orders import OrderSettings, orders_for
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, JobState
from coordinator.model.job import JobPhase as P
from coordinator.model.job import JobReport
from coordinator.model.live import Live
from coordinator.model.orders import Fetch, Offer, Order, Prepare, Release, Start, Stop
from tests.coordinator.core.histories import (
    C1,
    C2,
    NOW,
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


def orders(state: FleetState, live: Live) -> tuple[Order, ...]:
    return orders_for(state, state.jobs["j"], live, OrderSettings(reservation_s=99.0))


def brief(state: FleetState, live: Live) -> list[tuple[str, str, int]]:
    return [(one.site_id, type(one.action).__name__, one.epoch) for one in orders(state, live)]


M_RESERVED = report(P.RESERVED, 0, migration_id="m")
M_FETCHING = report(P.FETCHING, 0, migration_id="m")
M_HELD = report(P.HELD, 0, migration_id="m", checkpoints=(C2,))
RUNS, SEALED = report(P.RUNNING), report(P.SEALED, checkpoints=(C2,))


@pytest.mark.parametrize(
    ("state", "reports", "standing"),
    [
        (M.PLANNED, {"a": RUNS}, [("b", "Prepare", 1)]),
        (M.PREPARED, {"a": RUNS, "b": M_RESERVED}, []),
        (M.STOPPING, {"a": RUNS, "b": M_RESERVED}, [("a", "Stop", 1)]),
        (M.STOPPING, {"b": M_RESERVED}, [("a", "Stop", 1)]),
        (M.STOPPING, {"a": report(P.STOPPING), "b": M_RESERVED}, []),
        (M.SEALED, {"a": SEALED, "b": M_RESERVED}, []),
        (M.TRANSFERRING, {"a": SEALED, "b": M_RESERVED}, [("b", "Fetch", 1)]),
        (M.TRANSFERRING, {"a": SEALED, "b": M_FETCHING}, [("b", "Fetch", 1)]),
        (M.TRANSFERRING, {"a": SEALED, "b": M_HELD}, []),
        (M.VERIFIED, {"a": SEALED, "b": M_HELD}, []),
        (M.COMMITTED, {"a": SEALED, "b": M_HELD}, []),
        (M.STARTING, {"a": SEALED, "b": M_HELD}, [("b", "Start", 2)]),
        (M.STARTING, {"a": SEALED, "b": report(P.RUNNING, 2)}, []),
        (M.CONFIRMED, {"a": SEALED, "b": report(P.RUNNING, 2)}, []),
        (M.DONE, {"a": SEALED, "b": report(P.RUNNING, 2)}, [("a", "Release", 2)]),
        (M.DONE, {"a": report(P.RELEASED), "b": report(P.RUNNING, 2)}, []),
        (M.COMPENSATING, {"a": SEALED, "b": M_RESERVED}, [("a", "Start", 2), ("b", "Release", 2)]),
        (M.COMPENSATING, {"a": report(P.RUNNING, 2), "b": report(P.RELEASED, 0)}, []),
        (M.ABORTED, {"a": report(P.RUNNING, 2), "b": M_HELD}, [("b", "Release", 2)]),
        # Somebody else has something of the job.
        (M.PLANNED, {"a": RUNS, "c": RUNS}, [("b", "Prepare", 1), ("c", "Stop", 1)]),
    ],
)
def test_what_stands_during_a_move(
    state: M, reports: dict[str, JobReport], standing: list[tuple[str, str, int]]
) -> None:
    assert brief(moving(state), here(**reports)) == standing


def test_a_start_resumes_from_the_newest_that_its_site_holds() -> None:
    (start, *_) = orders(moving(M.COMPENSATING), here(a=SEALED))
    assert isinstance(start.action, Start) and start.action.checkpoint_id == "c1"
    newer = ev.CheckpointSealed(at=NOW, job_id="j", site_id="a", checkpoints=(C2, C1))
    (start, *_) = orders(fold([newer], moving(M.COMPENSATING)), here(a=SEALED))
    assert isinstance(start.action, Start) and start.action.checkpoint_id == "c2"
    (start,) = orders(moving(M.STARTING, STOPS), here(a=SEALED, b=M_HELD))
    assert isinstance(start.action, Start)
    assert (start.action.checkpoint_id, start.migration_id) == ("c2", "m")


def test_what_the_orders_carry() -> None:
    (prepare,) = orders(moving(M.PLANNED), here())
    assert prepare.action == Prepare(
        spec=moving(M.PLANNED).jobs["j"].spec, checkpoint_bytes=C1.size_bytes, expires_after_s=99.0
    )
    (fetch,) = orders(moving(M.TRANSFERRING), here())
    assert fetch.action == Fetch(
        checkpoint_id="c2", holder_site="a", holder_address="a:1", max_bps=1e6, for_start=True
    )


def test_a_holder_that_cannot_be_dialled_dials() -> None:
    blind = seen("a", address="")
    state = fold(blind, moving(M.TRANSFERRING))
    fetch, offer = orders(state, here(b=M_RESERVED))
    assert isinstance(fetch.action, Fetch) and fetch.action.holder_address == ""
    assert offer.site_id == "a"
    assert offer.action == Offer(checkpoint_id="c2", receiver_site="b", receiver_address="b:1", max_bps=1e6)
    assert brief(state, here(b=M_FETCHING)) == [("b", "Fetch", 1), ("a", "Offer", 1)]
    assert brief(state, here(b=M_HELD)) == []


CANCEL = ev.CancelRequested(at=NOW, job_id="j")


@pytest.mark.parametrize(
    ("events", "reports", "standing"),
    [
        (submitted(), {}, []),
        ([*submitted(), granted()], {}, [("a", "Start", 1)]),
        ([*submitted(), granted()], {"a": report(P.SEALED, 0)}, [("a", "Start", 1)]),
        ([*submitted(), granted()], {"a": report(P.STARTING)}, []),
        (at_work(), {}, []),
        (at_work(), {"a": RUNS, "b": RUNS}, [("b", "Stop", 1)]),
        (at_work(), {"a": RUNS, "b": M_RESERVED}, [("b", "Release", 1)]),
        ([*at_work(), CANCEL], {"a": RUNS}, [("a", "Stop", 1)]),
        ([*at_work(), CANCEL], {"a": SEALED}, []),
        ([*events_to(M.STOPPING), CANCEL], {"a": RUNS}, [("a", "Stop", 1)]),
        ([*events_to(M.STARTING), CANCEL], {"a": SEALED, "b": report(P.RUNNING, 2)}, [("b", "Stop", 2)]),
        ([*events_to(M.STARTING), CANCEL], {"a": SEALED, "b": M_HELD}, []),
        # A number that was only heard of: nobody is started under it.
        (
            [
                *submitted(),
                granted(),
                ev.EpochAdopted(at=NOW, job_id="j", epoch=9, owner=None, lease_ttl_s=None),
            ],
            {},
            [],
        ),
        # Withdrawn: released under the higher epoch, stopped first if it does run after all.
        (
            [*submitted(), granted(), ev.JobWithdrawn(at=NOW, job_id="j", epoch=2, message="full")],
            {},
            [("a", "Release", 2)],
        ),
        (
            [*submitted(), granted(), ev.JobWithdrawn(at=NOW, job_id="j", epoch=2, message="full")],
            {"a": RUNS},
            [("a", "Stop", 2)],
        ),
        # Waiting: what runs is stopped, what is sealed stays as it is.
        (
            [*at_work(), ev.JobRequeued(at=NOW, job_id="j", epoch=2, message="")],
            {"a": RUNS, "b": SEALED, "c": M_FETCHING},
            [("a", "Stop", 2), ("c", "Release", 2)],
        ),
    ],
)
def test_what_stands_without_a_move(
    events: list[ev.Event], reports: dict[str, JobReport], standing: list[tuple[str, str, int]]
) -> None:
    assert brief(fold(events), here(**reports)) == standing


def test_only_what_is_to_end_is_stopped_for_good() -> None:
    ended = fold([*at_work(), ev.JobEnded(at=NOW, job_id="j", state=JobState.CANCELLED, message="")])
    (stop,) = orders(ended, here(a=RUNS))
    assert isinstance(stop.action, Stop) and stop.action.cancel
    (release,) = orders(ended, here(a=report(P.COMPLETED)))
    assert release.action == Release(keep_checkpoints=2)
    (stop,) = orders(moving(M.STOPPING), here(a=RUNS))
    assert isinstance(stop.action, Stop) and not stop.action.cancel


def test_an_order_sent_again_is_the_same_order() -> None:
    first, again = (orders(moving(M.STOPPING), here(a=RUNS))[0] for _ in range(2))
    assert first.key == again.key == ("a", "m", "j", "Stop", 1)
    assert replace(first, epoch=2).key != first.key
