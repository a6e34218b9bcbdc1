"""The policy `sterna`: who leaves a crowded site, where to, and when it is not worth it."""

from dataclasses import replace

import numpy as np
import pytest

from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings, changes_of
from coordinator.core.sterna_policy import SternaPolicy
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.forecast import SurplusForecast
from coordinator.model.view import FleetView, JobView
from tests.coordinator.core.fleets import fleet, forecast, job, site

DAY = 86_400.0
GB = 1_000_000_000


def decided(view: FleetView, name: str = "sterna", **numbers: float) -> dict[str, Decision]:
    planner = PlannerSettings(gain_margin_frac=0.0, **numbers)
    return {one.job_id: one for one in policy_named(name).decide(view, planner)}


def moved(view: FleetView, name: str = "sterna", **numbers: float) -> dict[str, str | None]:
    found = decided(view, name, **numbers)
    return {i: one.target_site for i, one in found.items() if one.kind is DecisionKind.MIGRATE}


def steady(watts: float, spread: float = 0.0) -> SurplusForecast:
    return forecast(watts, watts, slot_s=DAY, spread=spread)


def crowded(*jobs: JobView, here_w: float = 1200.0, there_w: float = 600.0) -> FleetView:
    return fleet(
        [
            site("a", surplus_w=here_w, windows=steady(here_w), slots=4, slots_held=len(jobs)),
            site("b", surplus_w=there_w, windows=steady(there_w)),
        ],
        jobs,
    )


def test_a_crowded_site_is_relieved_by_the_cheapest_move() -> None:
    view = crowded(
        job("big", "a", checkpoint_bytes=40 * GB, resident_s=60.0),
        job("old", "a", checkpoint_bytes=40 * GB, resident_s=9000.0),
        job("small", "a", checkpoint_bytes=GB, resident_s=9000.0),
    )
    assert moved(view) == {"small": "b"}
    # The rules of the paper take the one that came last.
    assert moved(view, "feasibility-aware") == {"big": "b"}


def test_where_the_surplus_covers_everyone_nobody_leaves() -> None:
    assert moved(crowded(job("1", "a"), job("2", "a"), there_w=5000.0)) == {}


def test_as_many_leave_as_the_other_site_covers() -> None:
    view = fleet(
        [
            site("a", windows=steady(0.0)),
            site("b", surplus_w=600.0, windows=steady(600.0)),
            site("c", windows=steady(0.0)),
        ],
        [job("1", "a", checkpoint_bytes=2 * GB), job("2", "c")],
    )
    assert moved(view) == {"2": "b"}
    sunnier = replace(view.sites["b"], surplus_w=1100.0, forecast=steady(1100.0))
    assert moved(replace(view, sites={**view.sites, "b": sunnier})) == {"1": "b", "2": "b"}


def test_a_part_of_the_surplus_here_counts_for_staying() -> None:
    view = crowded(job("1", "a"), here_w=480.0, there_w=500.0)
    assert moved(view) == {"1": "b"}
    assert moved(view, gain_margin_s=1800.0) == {}  # 20 of 500 W, over three hours, is 432 s
    assert moved(crowded(job("1", "a"), here_w=0.0, there_w=500.0), gain_margin_s=1800.0) == {"1": "b"}


def test_a_move_that_costs_more_than_it_brings_is_left() -> None:
    # 1 GB costs some 3 Wh; 0.1 of 500 W over three hours brings 0.3 Wh.
    assert moved(crowded(job("1", "a"), here_w=499.9, there_w=500.0)) == {}


def test_it_moves_where_success_is_more_likely_than_not() -> None:
    view = fleet(
        [
            site("a", windows=steady(0.0)),
            site("b", surplus_w=600.0, windows=forecast(600.0, 600.0, slot_s=10.0, spread=0.5)),
        ],
        [job("1", "a")],
    )
    longer = replace(view.sites["b"], forecast=forecast(600.0, 600.0, slot_s=DAY, spread=0.5))
    view = replace(view, sites={**view.sites, "b": longer})
    assert moved(view) == {"1": "b"}
    short = replace(view.sites["b"], forecast=forecast(600.0, 400.0, slot_s=60.0))
    assert moved(replace(view, sites={**view.sites, "b": short})) == {}


def test_the_gate_is_the_median_unless_the_planner_takes_more_risk() -> None:
    # Certain for 100 s, then 0.5: the lowest quantile ends the window there, the median does not.
    doubtful = forecast(600.0, *[600.0] * 5, slot_s=100.0, spread=0.5)
    view = fleet(
        [site("a", windows=steady(0.0)), site("b", surplus_w=600.0, windows=doubtful)], [job("1", "a")]
    )
    planner = PlannerSettings(gain_margin_frac=0.0)
    assert [one.target_site for one in changes_of(SternaPolicy(), view, planner)] == ["b"]
    assert changes_of(SternaPolicy(epsilon=0.1), view, planner) == ()
    bold = replace(planner, epsilon=0.5)
    assert [one.target_site for one in changes_of(SternaPolicy(epsilon=0.1), view, bold)] == ["b"]


def test_with_whole_paths_deciding_briefly_decides_the_same() -> None:
    # Each slot's median covers the job, but no path does throughout: it had better leave.
    dips = np.full((3, 3), 900.0, dtype=np.float32)
    np.fill_diagonal(dips, 0.0)
    here = replace(forecast(900.0, 900.0, 900.0, slot_s=5.0), paths_w=dips)
    view = fleet(
        [site("a", surplus_w=900.0, windows=here), site("b", surplus_w=900.0, windows=steady(900.0))],
        [job("1", "a")],
    )
    planner = PlannerSettings(gain_margin_frac=0.0, horizon_s=3 * DAY)
    for name in ("sterna", "feasibility-aware"):
        policy = policy_named(name)
        full = [one for one in policy.decide(view, planner) if one.kind is DecisionKind.MIGRATE]
        brief = changes_of(policy, view, planner)
        assert [one.target_site for one in brief] == [one.target_site for one in full]


def test_it_says_why() -> None:
    told = decided(crowded(job("1", "a"), job("2", "a"), job("3", "a")))
    move = next(one for one in told.values() if one.kind is DecisionKind.MIGRATE)
    assert move.reason == (
        "the surplus at a no longer covers every job there, or ends before a move could; b gains the most"
    )
    chosen = next(a for a in move.alternatives if a.site_id == "b")
    gain = next(term for term in chosen.terms if term.name == "gain")
    # 500 W at b against 200 W at a for three hours, less the move and its energy.
    assert gain.value == pytest.approx(10_800 * 0.6, rel=0.01) and gain.satisfied
    assert chosen.score == gain.value


@pytest.mark.parametrize(
    ("surplus_w", "ok", "here"),
    [
        (0.0, True, "no surplus here covers it"),
        (None, True, "the surplus here is not known"),
        (900.0, False, "the surplus here is not known"),
    ],
)
def test_surplus_that_is_not_known_is_not_told_as_none(surplus_w: float | None, ok: bool, here: str) -> None:
    told = decided(fleet([site("a", surplus_w=surplus_w, ok=ok), site("b")], [job("1", "a")]))
    assert told["1"].reason == f"{here}, but no move elsewhere passes every test"


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [({"reach_frac": 0.0}, "reach_frac"), ({"reach_frac": 1.5}, "reach_frac"), ({"epsilon": 1.0}, "epsilon")],
)
def test_figures_out_of_range_are_refused(numbers: dict[str, float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        SternaPolicy(**numbers)
