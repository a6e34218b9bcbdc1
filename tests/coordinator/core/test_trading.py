"""Jobs that trade places: a plan that is never worse for it, and better where watts are short."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.absorption import Absorption
from coordinator.core.bookings import Bookings
from coordinator.core.bulk import BulkMoves
from coordinator.core.horizon import HorizonJudge
from coordinator.core.manner import Made
from coordinator.core.policy import PlannerSettings
from coordinator.core.trading import Pairs, Trading
from coordinator.model.view import FleetView, JobView
from sterna.units import SECONDS_PER_HOUR
from tests.coordinator.core.fleets import fleet, forecast, job, site
from tests.coordinator.core.test_bulk import many
from tests.coordinator.core.test_planner_laws import fleets, numbers

DAY = 86_400.0
EVEN = PlannerSettings(epsilon=0.5, gain_margin_frac=0.0)
EFFORTS = (0, 100, 1_000, 10_000, 100_000)


def chosen(view: FleetView, planner: PlannerSettings, effort_pairs: int) -> tuple[list[Made], HorizonJudge]:
    planner = replace(planner, effort_pairs=effort_pairs)
    judge = HorizonJudge(view, planner, Bookings(view), reach_frac=0.125)
    calm = {name for name, one in view.sites.items() if not (one.draining or one.wants_to_shed)}
    jobs = [one for one in view.jobs.values() if one.phase.value == "running" and one.site_id in calm]
    return BulkMoves(judge, 60.0).run(jobs), judge


def gained_j(made: Sequence[Made], judge: HorizonJudge) -> float:
    """What a plan brings: the energy that all sites carry, less what is lost and drawn on the way."""
    absorbs = Absorption(judge.ahead, judge.reach_s)
    before_w = Bookings(judge.view).draws_w
    spent_j = 0.0
    for one in made:
        energy_wh = float(judge.terms_of([one.job]).energy_wh[0])
        draw_w = float(before_w[one.column])
        spared_j = absorbs.spared_one(one.column, draw_w, one.job.power_w, one.total_s)
        spent_j += one.job.power_w * one.total_s + SECONDS_PER_HOUR * energy_wh - spared_j
    after = sum(absorbs.carried_one(c, float(w)) for c, w in enumerate(judge.bookings.draws_w))
    return after - sum(absorbs.carried_one(c, float(w)) for c, w in enumerate(before_w)) - spent_j


def crowd(there_w: float, *powers: float) -> FleetView:
    """One site in the sun, and a dark one for each job."""
    jobs = [job(f"j{i}", f"a{i}", power_w=power) for i, power in enumerate(powers)]
    dark = [site(f"a{i}", windows=forecast(0.0, slot_s=DAY)) for i in range(len(powers))]
    sunny = site("b", surplus_w=there_w, windows=forecast(there_w, there_w, slot_s=DAY), slots=len(powers))
    return fleet([*dark, sunny], jobs)


def who(made: Sequence[Made]) -> set[str]:
    return {one.job.job_id for one in made}


def test_two_small_jobs_take_the_place_of_a_large_one() -> None:
    view = crowd(800.0, 600.0, 400.0, 390.0)
    assert who(chosen(view, EVEN, 0)[0]) == {"j0"}
    assert who(chosen(view, EVEN, 10_000)[0]) == {"j1", "j2"}


def test_no_trade_is_made_for_less_than_the_margin_asks() -> None:
    view = crowd(800.0, 600.0, 400.0, 390.0)
    wanting = replace(EVEN, gain_margin_s=3 * DAY)
    assert chosen(view, wanting, 10_000)[0] == []


@pytest.mark.parametrize("seed", range(4))
def test_more_effort_makes_a_plan_no_worse_and_some_better(seed: int) -> None:
    view = many(seed)
    found = [gained_j(*chosen(view, EVEN, effort)) for effort in EFFORTS]
    assert all(later >= sooner - 1.0 for sooner, later in pairwise(found))
    assert found[-1] > found[0]
    again, _ = chosen(view, EVEN, EFFORTS[-1])
    assert again == chosen(view, EVEN, EFFORTS[-1])[0]


@settings(max_examples=40, deadline=None)
@given(view=fleets(), planner=numbers, effort_pairs=st.sampled_from(EFFORTS[1:]))
def test_trades_pass_every_gate_and_never_cost_energy(
    view: FleetView, planner: PlannerSettings, effort_pairs: int
) -> None:
    made, judge = chosen(view, planner, effort_pairs)
    plain, plain_judge = chosen(view, planner, 0)
    assert gained_j(made, judge) >= gained_j(plain, plain_judge) - 1.0
    judge = HorizonJudge(view, planner, Bookings(view), reach_frac=0.125)
    for one in made:
        ratings = judge.rate([one.job])
        assert ratings.terms.feasible[0, one.column]
        assert ratings.lasts_s[0] <= one.total_s
        assert one.rate_bps == ratings.link_bps[0, one.column]
        judge.bookings.move(one.job, judge.sites[one.column].site_id, one.rate_bps)


def test_a_move_that_is_taken_back_leaves_nothing_behind() -> None:
    sites = [replace(site(name, slots=3), uplink_free_bps=5e9, downlink_free_bps=4e9) for name in "ab"]
    view = fleet(sites, [job("1", "a"), job("2", "a", power_w=300.0), job("3", "b")], link_bps=3e9)
    bookings, untouched = Bookings(view), Bookings(view)
    moved: JobView = view.jobs["1"]
    bookings.move(moved, "b", 1e9)
    assert bookings.free_bps("a", "b") == 2e9 and bookings.free_slots("b") == untouched.free_slots("b") - 1
    bookings.take_back(moved, "b", 1e9)
    for one in view.jobs.values():
        assert bookings.need_here_w(one) == untouched.need_here_w(one)
    assert np.array_equal(bookings.slots, untouched.slots)
    assert np.array_equal(bookings.draws_w, untouched.draws_w)
    assert bookings.free_bps("a", "b") == untouched.free_bps("a", "b")
    bookings.move(moved, "b", 3e9)
    assert bookings.free_bps("a", "b") == 0.0


def trading(taken: dict[int, int], slots: list[int]) -> Trading:
    """Two jobs of site 0, which is dark, and one of site 1; sites 1 and 2 have 500 W."""
    sites = [
        site(name, surplus_w=watts, windows=forecast(watts, watts, slot_s=DAY))
        for name, watts in (("a", 0.0), ("b", 500.0), ("c", 500.0))
    ]
    view = fleet(sites, [])
    judge = HorizonJudge(view, EVEN, Bookings(view), reach_frac=0.125)
    powers = np.array([400.0, 300.0, 450.0])
    sources = np.array([0, 0, 1])
    draws = np.array([700.0, 450.0, 0.0])
    for row, place in taken.items():
        draws[sources[row]] -= powers[row]
        draws[place + 1] += powers[row]
    costs = np.full((3, 2), 1e5)
    costs[2, 0] = np.inf
    pairs = Pairs(
        powers_w=powers,
        sources=sources,
        columns=np.array([1, 2]),
        costs_j=costs,
        most_w=np.full((3, 2), 500.0),
        leave_above_w=np.array([0.0, 500.0, 500.0]),
    )
    return Trading(Absorption(judge.ahead, judge.reach_s), pairs, taken, draws, np.array(slots))


def test_a_better_job_takes_a_place() -> None:
    assert trading({1: 1}, [0, 0, 0]).improve(1_000) == {0: 1}


def test_a_place_without_a_free_slot_takes_nobody_more() -> None:
    assert trading({0: 1}, [0, 0, 0]).improve(1_000) == {0: 1}


def test_jobs_of_one_site_change_places_with_each_other() -> None:
    # Each place has room for one of both; the large one is at the small site, and a link carries one job.
    sites = [
        site(name, surplus_w=watts, windows=forecast(watts, watts, slot_s=DAY))
        for name, watts in (("a", 0.0), ("b", 400.0), ("c", 300.0))
    ]
    judge = HorizonJudge(fleet(sites, []), EVEN, Bookings(fleet(sites, [])), reach_frac=0.125)
    pairs = Pairs(
        powers_w=np.array([400.0, 300.0]),
        sources=np.array([0, 0]),
        columns=np.array([1, 2]),
        costs_j=np.full((2, 2), 1e5),
        most_w=np.full((2, 2), 400.0),
        leave_above_w=np.zeros(3),
    )
    absorbs = Absorption(judge.ahead, judge.reach_s)
    paper = Trading(absorbs, pairs, {0: 1, 1: 0}, np.array([0.0, 300.0, 400.0]), np.array([2, 0, 0]))
    assert paper.improve(1_000) == {0: 0, 1: 1}


def test_without_effort_nothing_changes() -> None:
    paper = trading({1: 1}, [0, 0, 0])
    assert paper.improve(0) == {1: 1}
    assert paper.looked == 0
