"""The best that one tick could do: a small one by hand, and no plan beyond it."""

import random
from dataclasses import replace

import pytest

from coordinator.core import moving
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings, changes_of
from coordinator.model.view import FleetView, LinkView, SiteView
from coordinator.replay.tick_bound import Tick
from tests.coordinator.core.fleets import fleet, forecast, job, site

DAY = 86_400.0
PLANNER = PlannerSettings(gain_margin_frac=0.0, epsilon=0.5)
REACH_FRAC = 0.125


def some_fleet(seed: int) -> FleetView:
    dice = random.Random(seed)
    dark = [site(f"a{i}", windows=forecast(0.0, slot_s=DAY), slots=6, slots_held=6) for i in range(3)]
    sunny = []
    for i in range(3):
        watts = dice.uniform(400.0, 1800.0)
        ahead = forecast(watts, dice.uniform(0.3, 1.1) * watts, watts, slot_s=3600.0, spread=0.2)
        sunny.append(site(f"b{i}", surplus_w=watts, windows=ahead, slots=dice.randint(1, 4)))
    jobs = [
        job(
            f"j{i:02}",
            f"a{i % 3}",
            power_w=dice.uniform(200.0, 600.0),
            checkpoint_bytes=dice.randint(10**9, 4 * 10**10),
        )
        for i in range(12)
    ]
    names = [one.site_id for one in (*dark, *sunny)]
    links = [
        LinkView(source=a, destination=b, free_bps=dice.uniform(1e9, 1e10))
        for a in names
        for b in names
        if a != b
    ]
    return fleet([*dark, *sunny], jobs, links=links)


def test_two_jobs_and_room_for_one() -> None:
    view = fleet(
        [
            site("a", windows=forecast(0.0, slot_s=DAY)),
            site("b", surplus_w=700.0, windows=forecast(700.0, 700.0, slot_s=DAY)),
        ],
        [job("1", "a", power_w=600.0), job("2", "a", power_w=500.0)],
    )
    tick = Tick(view, PLANNER, reach_frac=REACH_FRAC)
    best = tick.best(limit_s=10.0, gap_frac=1e-6)
    made = changes_of(policy_named("sterna"), view, PLANNER)
    # 8 s of transfer and 4 s besides; the energy of the move is 1.9 Wh and 4 s of 600 W.
    gained_j = 600.0 * (10_800.0 - 12.0) - 3600.0 * 1.9 - 600.0 * 4.0
    assert best.moves == 1
    assert best.found_j == pytest.approx(gained_j) == best.bound_j
    assert tick.value_j(made) == pytest.approx(gained_j)
    assert tick.value_j([]) == 0.0


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_no_plan_is_better_and_ours_is_not_far_behind(
    seed: int, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(moving, "LARGE_PAIRS", 0)
    view = some_fleet(seed)
    tick = Tick(view, PLANNER, reach_frac=REACH_FRAC)
    best = tick.best(limit_s=20.0, gap_frac=1e-4)
    value_j = tick.value_j(changes_of(policy_named("sterna"), view, PLANNER))
    assert best.moves > 0
    assert 0.85 * best.bound_j < value_j <= best.bound_j * (1.0 + 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_more_bandwidth_or_longer_windows_never_make_the_best_worse(seed: int) -> None:
    view = some_fleet(seed)
    wider = replace(
        view,
        links={pair: replace(link, free_bps=1.5 * link.free_bps) for pair, link in view.links.items()},
    )
    longer = replace(view, sites={name: with_longer_window(one) for name, one in view.sites.items()})
    found = [
        Tick(one, PLANNER, reach_frac=REACH_FRAC).best(limit_s=20.0, gap_frac=1e-6)
        for one in (view, wider, longer)
    ]
    least_j = found[0].found_j * (1.0 - 1e-5)
    assert least_j > 0.0
    assert found[1].found_j >= least_j and found[2].found_j >= least_j


def with_longer_window(place: SiteView) -> SiteView:
    """Let no later step bring less than the first."""
    assert place.forecast is not None
    first = place.forecast.slots[0]
    slots = tuple(
        replace(
            one,
            p10_w=max(one.p10_w, first.p10_w),
            p50_w=max(one.p50_w, first.p50_w),
            p90_w=max(one.p90_w, first.p90_w),
        )
        for one in place.forecast.slots
    )
    return replace(place, forecast=replace(place.forecast, slots=slots))


def test_who_came_a_moment_ago_stays() -> None:
    view = some_fleet(1)
    fresh = {name: replace(one, min_residence_s=7200.0) for name, one in view.jobs.items()}
    best = Tick(replace(view, jobs=fresh), PLANNER, reach_frac=REACH_FRAC).best(limit_s=10.0, gap_frac=1e-4)
    assert (best.moves, best.found_j) == (0, pytest.approx(0.0, abs=1e-3))


def test_where_more_is_drawn_than_there_is_nobody_arrives_before_so_much_has_left() -> None:
    # 700 W of surplus for 900 W: one of the two must leave before the smaller job of the dark site may come.
    sunny = {name: forecast(watts, watts, slot_s=DAY) for name, watts in (("b", 700.0), ("c", 500.0))}
    view = fleet(
        [
            site("a", windows=forecast(0.0, slot_s=DAY)),
            site("b", surplus_w=700.0, windows=sunny["b"]),
            site("c", surplus_w=500.0, windows=sunny["c"], slots=1),
        ],
        [job("1", "a", power_w=200.0), job("2", "b", power_w=500.0), job("3", "b", power_w=400.0)],
    )
    tick = Tick(view, PLANNER, reach_frac=REACH_FRAC)
    best = tick.best(limit_s=10.0, gap_frac=1e-6)
    assert best.moves == 2  # the 500 W go to c, and what is left of b takes the 200 W
    alone = fleet(list(view.sites.values())[:2], list(view.jobs.values()))
    assert Tick(alone, PLANNER, reach_frac=REACH_FRAC).best(limit_s=10.0, gap_frac=1e-6).moves == 0
