"""Laws of the true optimum, by HiGHS, in drawn fleets: of one tick with links, and of days with deferral.

The optimum of a tick is over whole moves (`Tick`), that of days over work that may be cut at will.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings, changes_of
from coordinator.model.forecast import SurplusForecast
from coordinator.model.view import FleetView, LinkView, SiteView
from coordinator.replay.bound import bound_wh
from coordinator.replay.deferral_bound import deferred_bound_wh
from coordinator.replay.tick_bound import Tick
from coordinator.replay.world import World
from tests.coordinator.core.fleets import fleet, forecast, job, site
from tests.coordinator.replay.worlds import HOUR, task, world

DAY = 24 * HOUR
DARK, SUNNY = ("a", "b"), ("c", "d", "e")
PLANNER = PlannerSettings(gain_margin_frac=0.0, epsilon=0.5)
factors = st.sampled_from([1.0, 1.0, 1.3, 4.0])
rates_bps = st.floats(1e8, 1e10)


@st.composite
def fleets(draw: st.DrawFn) -> FleetView:
    """Jobs without surplus that may all leave, and sites that have some for a while."""
    dark = [site(name, windows=forecast(0.0, slot_s=DAY), slots=6) for name in DARK]
    sunny = []
    for name in SUNNY:
        watts = draw(st.floats(300.0, 1800.0))
        shares = draw(st.lists(st.floats(0.0, 1.2), min_size=1, max_size=3))
        ahead = forecast(watts, *(share * watts for share in shares), slot_s=1800.0, spread=0.2)
        sunny.append(site(name, surplus_w=watts, windows=ahead, slots=draw(st.integers(1, 3))))
    jobs = [
        job(
            f"j{number}",
            draw(st.sampled_from(DARK)),
            power_w=draw(st.floats(200.0, 600.0)),
            checkpoint_bytes=draw(st.integers(10**9, 10**11)),
        )
        for number in range(draw(st.integers(1, 6)))
    ]
    names = (*DARK, *SUNNY)
    links = [
        LinkView(source=a, destination=b, free_bps=draw(rates_bps)) for a in names for b in names if a != b
    ]
    return fleet([*dark, *sunny], jobs, links=links)


def best_j(view: FleetView) -> float:
    best = Tick(view, PLANNER, reach_frac=0.125).best(limit_s=60.0, gap_frac=0.0)
    assert best.found_j == pytest.approx(best.bound_j, rel=1e-6, abs=1.0)  # it is the optimum
    return best.found_j


def never_worse(after_j: float, before_j: float) -> bool:
    return after_j >= before_j - 1e-6 * abs(before_j) - 1.0


def longer(ahead: SurplusForecast, end_w: float, more_w: float) -> SurplusForecast:
    """Let every slot bring more, and the last one go on for a while."""
    slots = tuple(
        replace(one, p10_w=one.p10_w + more_w, p50_w=one.p50_w + more_w, p90_w=one.p90_w + more_w)
        for one in ahead.slots
    )
    last = slots[-1]
    more = replace(
        last, start_at=last.end_at, end_at=last.end_at + 4 * (last.end_at - last.start_at), p10_w=end_w
    )
    return replace(ahead, slots=(*slots, replace(more, p50_w=end_w, p90_w=end_w)))


@settings(max_examples=40, deadline=None)
@given(view=fleets(), data=st.data())
def test_more_bandwidth_never_makes_the_best_tick_worse(view: FleetView, data: st.DataObject) -> None:
    wider = {
        pair: replace(link, free_bps=data.draw(factors) * (link.free_bps or 0.0))
        for pair, link in view.links.items()
    }
    assert never_worse(best_j(replace(view, links=wider)), best_j(view))


@settings(max_examples=40, deadline=None)
@given(view=fleets(), data=st.data())
def test_longer_windows_never_make_the_best_tick_worse(view: FleetView, data: st.DataObject) -> None:
    def extended(one: SiteView) -> SiteView:
        if one.site_id in DARK or one.forecast is None or one.surplus_w is None:
            return one
        more_w, end_w = data.draw(st.sampled_from([0.0, 150.0])), data.draw(st.floats(0.0, 1800.0))
        ahead = longer(one.forecast, end_w, more_w)
        return replace(one, surplus_w=one.surplus_w + more_w, forecast=ahead)

    sites = {name: extended(one) for name, one in view.sites.items()}
    assert never_worse(best_j(replace(view, sites=sites)), best_j(view))


@settings(max_examples=40, deadline=None)
@given(view=fleets(), data=st.data())
def test_the_order_of_sites_jobs_and_links_changes_no_optimum_and_nobody_exceeds_it(
    view: FleetView, data: st.DataObject
) -> None:
    other = fleet(
        data.draw(st.permutations(list(view.sites.values()))),
        data.draw(st.permutations(list(view.jobs.values()))),
        links=data.draw(st.permutations(list(view.links.values()))),
    )
    most_j = best_j(view)
    assert best_j(other) == pytest.approx(most_j, rel=1e-6, abs=1.0)
    made = changes_of(policy_named("sterna"), view, PLANNER)
    assert Tick(view, PLANNER, reach_frac=0.125).value_j(made) <= most_j + 1e-6 * abs(most_j) + 1.0


@st.composite
def days(draw: st.DrawFn) -> World:
    surplus_w = {
        name: draw(st.lists(st.sampled_from([0.0, 300.0, 500.0, 1700.0]), min_size=24, max_size=24))
        for name in DARK
    }
    tasks = [
        task(str(number), draw(st.sampled_from(DARK)), at_s=at_s, work_s=draw(st.floats(60.0, 5 * HOUR)))
        for number, at_s in enumerate(sorted(draw(st.lists(st.floats(0.0, DAY), min_size=1, max_size=6))))
    ]
    return world(surplus_w, *tasks, slots=draw(st.integers(2, 3)), hold_back_s=DAY)


@settings(max_examples=40, deadline=None)
@given(day=days(), data=st.data())
def test_more_surplus_or_slots_never_make_the_best_of_days_worse(day: World, data: st.DataObject) -> None:
    def richer(watts: tuple[float, ...]) -> tuple[float, ...]:
        more = data.draw(st.lists(st.sampled_from([0.0, 200.0]), min_size=24, max_size=24))
        return (*(w + m for w, m in zip(watts, more, strict=False)), *watts[24:])

    sites = tuple(replace(one, surplus_w=richer(one.surplus_w)) for one in day.sites)
    roomy = tuple(replace(one, slots=one.slots + 1) for one in day.sites)
    for bound in (deferred_bound_wh, bound_wh):
        assert bound(replace(day, sites=sites)) <= bound(day) + 1e-3
    assert deferred_bound_wh(replace(day, sites=roomy)) <= deferred_bound_wh(day) + 1e-3


@settings(max_examples=40, deadline=None)
@given(day=days(), order=st.permutations(range(len(DARK))))
def test_the_order_of_sites_changes_neither_bound(day: World, order: list[int]) -> None:
    other = replace(day, sites=tuple(day.sites[place] for place in order))
    assert deferred_bound_wh(other) == pytest.approx(deferred_bound_wh(day), abs=1e-3)
    assert bound_wh(other) == pytest.approx(bound_wh(day))
