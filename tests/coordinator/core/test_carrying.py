"""Waiting jobs whose checkpoints lie where there is no room: which they are, and what is ordered for them."""

from collections.abc import Iterable
from dataclasses import replace
from math import inf

import pytest

from coordinator.core.arrivals import obstacle_to_arrival
from coordinator.core.carrying import is_stuck
from coordinator.core.coming import carried_to, carry_id, slots_promised
from coordinator.core.endings import GrantSettings
from coordinator.core.fleet import fold
from coordinator.core.holding import Holds, holds_of
from coordinator.core.orders import OrderSettings, orders_for
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.core.reports import events_for_report
from coordinator.core.view import ViewSettings, build_view
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState
from coordinator.model.job import JobPhase as P
from coordinator.model.job import JobReport
from coordinator.model.live import Live
from coordinator.model.orders import Fetch, Offer, Order, Prepare, Release
from coordinator.model.site import ActiveLimit
from tests.coordinator.core.fleets import fleet, job, site
from tests.coordinator.core.histories import C1, C2, NOW, SPEC, granted, here, report, seen, submitted

CARRY = "carry-j-2"
SETTINGS = OrderSettings(reservation_s=99.0, view=ViewSettings(default_bps=1e6), stuck=frozenset({"j"}))
HOLDS = {"a": report(P.SEALED, checkpoints=(C2,))}


def waiting(*events: ev.Event, slots: int = 1, full: bool = True, address: str = ":1") -> FleetState:
    """A job that ran at a, and waits; at a, another one has the slot."""
    return fold(
        [
            *seen("a", slots=slots, address=address),
            *seen("b", "c"),
            *submitted(),
            granted(),
            ev.CheckpointSealed(at=NOW, job_id="j", site_id="a", checkpoints=(C2,)),
            ev.JobRequeued(at=NOW, job_id="j", epoch=2, message="stopped"),
            *([*submitted(job_id="other"), granted(job_id="other")] if full else []),
            *events,
        ]
    )


def orders(state: FleetState, live: Live, settings: OrderSettings = SETTINGS) -> tuple[Order, ...]:
    return orders_for(state, state.jobs["j"], live, settings)


def brief(found: Iterable[Order]) -> list[tuple[str, str, str]]:
    return [(one.site_id, type(one.action).__name__, one.migration_id) for one in found]


def coming(phase: P, **changes: object) -> JobReport:
    return replace(report(phase, 0, migration_id=CARRY), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "gone", "stuck"),
    [
        (waiting(), (), True),
        (waiting(full=False), (), False),
        (waiting(ev.SiteDrained(at=NOW, site_id="a"), full=False), (), True),
        (waiting(slots=2), (), False),
        (waiting(), ("a",), False),  # nobody could send it
        (waiting(ev.CancelRequested(at=NOW, job_id="j")), (), False),
        (waiting(ev.CheckpointSealed(at=NOW, job_id="j", site_id="b", checkpoints=(C2,))), (), False),
        (waiting(ev.SiteFenced(at=NOW, site_id="a")), (), False),
        (fold([*seen("a"), *submitted()]), (), False),
    ],
)
def test_which_jobs_are_stuck(state: FleetState, gone: tuple[str, ...], stuck: bool) -> None:
    live = {site_id: site for site_id, site in here(**HOLDS).items() if site_id not in gone}
    assert is_stuck(state, state.jobs["j"], live, {}) is stuck


def test_a_job_that_is_carried_begins_to_wait_anew() -> None:
    state = waiting()
    for phase, stuck in ((P.RESERVED, False), (P.FETCHING, False), (P.RELEASED, True)):
        assert is_stuck(state, state.jobs["j"], here(**HOLDS, b=coming(phase)), {}) is stuck


def test_step_by_step() -> None:
    state = waiting()
    assert carry_id(state.jobs["j"]) == CARRY
    assert orders(state, here(**HOLDS), replace(SETTINGS, stuck=frozenset())) == ()
    (prepare,) = orders(state, here(**HOLDS))
    assert brief([prepare]) == [("b", "Prepare", CARRY)]
    assert prepare.action == Prepare(spec=SPEC, checkpoint_bytes=2000, expires_after_s=99.0)
    (fetch,) = orders(state, here(**HOLDS, b=coming(P.RESERVED)))
    assert fetch.action == Fetch(checkpoint_id="c2", holder_site="a", holder_address="a:1", max_bps=1e6)
    assert (fetch.site_id, fetch.epoch) == ("b", 2)
    # It goes on to its end, whoever is stuck meanwhile.
    under_way = here(**HOLDS, b=coming(P.FETCHING))
    assert orders(state, under_way, replace(SETTINGS, stuck=frozenset())) == (fetch,)
    held = waiting(ev.CheckpointSealed(at=NOW, job_id="j", site_id="b", checkpoints=(C2,)))
    arrived = here(**HOLDS, b=coming(P.HELD, checkpoints=(C2,)))
    assert orders(held, arrived, replace(SETTINGS, stuck=frozenset())) == ()


def test_the_site_that_cannot_be_dialled_dials() -> None:
    state = waiting(address="")
    found = orders(state, here(**HOLDS, b=coming(P.RESERVED)))
    assert brief(found) == [("b", "Fetch", CARRY), ("a", "Offer", CARRY)]
    assert found[1].action == Offer(
        checkpoint_id="c2", receiver_site="b", receiver_address="b:1", max_bps=1e6
    )


def test_where_it_goes() -> None:
    assert brief(orders(waiting(), here(**HOLDS)))[0][0] == "b"
    drained = waiting(ev.SiteDrained(at=NOW, site_id="b"))
    assert brief(orders(drained, here(**HOLDS))) == [("c", "Prepare", CARRY)]
    measured = ev.LinkMeasured(at=NOW, source="a", destination="b", goodput_bps=1e5, allotted_bps=None)
    assert brief(orders(waiting(measured), here(**HOLDS))) == [("c", "Prepare", CARRY)]
    assert orders(waiting(), here(**HOLDS), replace(SETTINGS, view=ViewSettings())) == ()
    away = {site_id: site for site_id, site in here(**HOLDS).items() if site_id == "a"}
    assert orders(waiting(), away) == ()


def test_what_is_begun_is_not_begun_elsewhere_too() -> None:
    state = waiting()
    live = here(**HOLDS, c=coming(P.FETCHING))
    assert carried_to(state.jobs["j"], live) == "c"
    assert brief(orders(state, live)) == [("c", "Fetch", CARRY)]
    both = here(**HOLDS, b=coming(P.RESERVED), c=coming(P.FETCHING))
    assert brief(orders(state, both)) == [("b", "Fetch", CARRY), ("c", "Release", "")]


def test_where_it_failed_the_slot_is_given_back_at_once() -> None:
    state = waiting()
    failed = here(**HOLDS, b=coming(P.RESERVED, message="fetch failed: no progress"))
    assert carried_to(state.jobs["j"], failed) is None
    assert is_stuck(state, state.jobs["j"], failed, {})
    not_yet = replace(SETTINGS, stuck=frozenset())
    (release,) = orders(state, failed, not_yet)
    assert brief([release]) == [("b", "Release", "")]
    assert slots_promised(state, failed, "b") == 1, "nobody else is sent there before it has let go"
    assert orders(state, here(**HOLDS, b=coming(P.RELEASED)), not_yet) == ()
    # A site that has not heard of it until the next try is asked again, or lets go for another one's sake.
    assert brief(orders(state, failed)) == [("b", "Prepare", CARRY)]
    full = fold(seen("b", slots=1), state)
    assert brief(orders(full, failed)) == [("c", "Prepare", CARRY), ("b", "Release", "")]


def test_what_turns_out_corrupt_is_not_carried_any_further() -> None:
    said = report(P.SEALED, checkpoints=(C1,))
    state = waiting(ev.CheckpointSealed(at=NOW, job_id="j", site_id="a", checkpoints=(C1, C2)))
    state = fold(events_for_report(state, "a", said, NOW, GrantSettings()), state)
    live = here(a=said, b=coming(P.RESERVED, message="fetch failed: rotten"))
    assert brief(orders(state, live, replace(SETTINGS, stuck=frozenset()))) == [("b", "Release", "")]
    assert brief(orders(state, here(a=said))) == [("b", "Prepare", "carry-j-3")]
    (fetch,) = orders(state, here(a=said, b=coming(P.RESERVED, migration_id="carry-j-3")))
    assert isinstance(fetch.action, Fetch) and fetch.action.checkpoint_id == "c1"


def test_a_link_that_moves_have_reserved_is_not_taken() -> None:
    move = ev.MigrationPlanned(
        at=NOW,
        migration_id="m",
        job_id="other",
        destination_site="b",
        reason="",
        predicted_s=None,
        reserved_bps=0.7e6,
    )
    live = here(**HOLDS, b=coming(P.RESERVED))
    (fetch,) = orders(waiting(move), live)
    assert isinstance(fetch.action, Fetch) and fetch.action.max_bps == pytest.approx(0.3e6)
    assert orders(waiting(replace(move, reserved_bps=0.99e6)), live) == ()


def test_a_job_that_got_its_slot_lets_go_elsewhere() -> None:
    state = fold([granted(epoch=3)], waiting(full=False))
    live = here(a=report(P.RUNNING, 3), b=coming(P.FETCHING))
    assert ("b", "Release", "") in brief(orders(state, live))
    assert isinstance(orders(state, live)[-1].action, Release)


def test_its_room_is_promised_to_nobody_else() -> None:
    state = waiting()
    live = here(**HOLDS, b=coming(P.RESERVED), c=coming(P.HELD))
    assert [slots_promised(state, live, site_id) for site_id in "abc"] == [0, 1, 0]
    small = fold(seen("b", slots=1), state)
    assert obstacle_to_arrival(small, live, "b") == "site b has no free slot"
    assert build_view(small, live, {}, NOW, ViewSettings()).sites["b"].slots_held == 1


@pytest.mark.parametrize("policy", ["static", "sterna", "feasibility-aware"])
def test_it_is_told_why_a_job_waits(policy: str) -> None:
    view = build_view(waiting(), here(**HOLDS, b=coming(P.FETCHING)), {}, NOW, ViewSettings())
    decisions = policy_named(policy).decide(view, PlannerSettings())
    (mine,) = (one for one in decisions if one.job_id == "j")
    told = {one.site_id: one.rejections for one in mine.alternatives}
    assert "no free slot: all 1 are held" in told["a"]
    assert "its checkpoint is on its way there" in told["b"]
    assert "no verified checkpoint of the job is there, and it has progress to lose" in told["c"]


def test_limits_of_the_grid_are_looked_at_at_both_ends() -> None:
    free, needed_w = waiting(full=False), SPEC.power_w
    live = here(**HOLDS)
    assert not is_stuck(free, free.jobs["j"], live, {"a": needed_w})
    assert is_stuck(free, free.jobs["j"], live, {"a": needed_w - 1.0}), "there is a slot, but not the watts"
    assert is_stuck(free, free.jobs["j"], live, {"a": -inf}), "what the limit leaves is not known"
    for rooms_w, expected in (
        ({"b": needed_w}, "b"),
        ({"b": needed_w - 1.0}, "c"),
        ({"b": -inf, "c": 0.0}, None),
    ):
        found = brief(orders(waiting(), live, replace(SETTINGS, holds=Holds(rooms_w=rooms_w))))
        assert found == ([] if expected is None else [(expected, "Prepare", CARRY)])


def test_the_planner_tells_what_limits_leave() -> None:
    free = fleet([site("b")])
    tight = ActiveLimit(source="dso", command_id="", limit_w=900.0, start_at=free.now, end_at=None, reason="")
    sites = [replace(site("a"), limits=(tight,), others_w=100.0), site("b")]
    view = fleet(sites, [job("1", "a", power_w=300.0)])
    assert holds_of(view, (), 60.0, before=None, live={}).rooms_w == {"a": 500.0}
    assert holds_of(free, (), 60.0, before=None, live={}).rooms_w == {}
