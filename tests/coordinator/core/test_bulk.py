"""The moves of a large fleet: the same gates and gains as in a small one, where every pair is rated."""

from collections import Counter, defaultdict
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import bulk, moving
from coordinator.core.bookings import Bookings
from coordinator.core.bulk import BulkMoves
from coordinator.core.horizon import HorizonJudge
from coordinator.core.manner import Made
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings, changes_of
from coordinator.model.decision import DecisionKind
from coordinator.model.forecast import SurplusForecast
from coordinator.model.view import FleetView, Phase
from tests.coordinator.core.fleets import fleet, forecast, job, site
from tests.coordinator.core.test_planner_laws import fleets, numbers

DAY = 86_400.0
laws = settings(max_examples=40, deadline=None)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "LARGE_PAIRS", -1)


def chosen(view: FleetView, planner: PlannerSettings) -> list[Made]:
    """What the bulk chooses of the jobs that no site wants gone."""
    calm = {name for name, one in view.sites.items() if not (one.draining or one.wants_to_shed)}
    jobs = [one for one in view.jobs.values() if one.phase is Phase.RUNNING and one.site_id in calm]
    return BulkMoves(HorizonJudge(view, planner, Bookings(view), reach_frac=0.125), 60.0).run(jobs)


@laws
@given(view=fleets(), planner=numbers)
def test_every_move_passes_the_gates_of_the_judge_when_it_is_made(
    view: FleetView, planner: PlannerSettings
) -> None:
    judge = HorizonJudge(view, planner, Bookings(view), reach_frac=0.125)
    for made in chosen(view, planner):
        ratings, pair = judge.rate([made.job]), (0, made.column)
        target = judge.sites[made.column]
        assert ratings.terms.feasible[pair]
        assert made.job.may_migrate and target.available and not target.wants_to_shed
        assert judge.bookings.slots[made.column] >= 1
        assert made.total_s == ratings.terms.migration_s[pair] >= ratings.lasts_s[0]
        assert made.rate_bps == ratings.link_bps[pair]
        assert made.ends_s == ratings.ends_s[1, 0, made.column]
        margin_s = judge.margin_s(float(ratings.stay_s[pair]))
        assert ratings.gain_s[pair] > margin_s - 1e-5
        judge.bookings.move(made.job, target.site_id, made.rate_bps)


@laws
@given(view=fleets(), planner=numbers)
def test_each_job_goes_where_it_gains_most_by_then(view: FleetView, planner: PlannerSettings) -> None:
    planner = replace(planner, effort_pairs=0)
    judge = HorizonJudge(view, planner, Bookings(view), reach_frac=0.125)
    takes = np.array([one.available and not one.wants_to_shed for one in judge.sites])
    for made in chosen(view, planner):
        ratings = judge.rate([made.job])
        able = takes & (judge.bookings.slots >= 1) & (ratings.link_bps[0] > 0.0) & ratings.terms.feasible[0]
        able &= ratings.terms.migration_s[0] >= ratings.lasts_s[0]
        best_s = ratings.gain_s[0, able].max()
        stay_s = float(ratings.stay_s[0, 0])
        assert ratings.gain_s[0, made.column] + stay_s >= 0.99 * (best_s + stay_s) - 0.01
        judge.bookings.move(made.job, judge.sites[made.column].site_id, made.rate_bps)


@pytest.mark.usefixtures("large")
@laws
@given(view=fleets(), planner=numbers)
def test_a_large_fleet_is_told_briefly_and_decided_the_same(
    view: FleetView, planner: PlannerSettings
) -> None:
    for name in ("sterna", "feasibility-aware"):
        policy = policy_named(name)
        told = policy.decide(view, planner)
        assert [one.job_id for one in told] == sorted(view.jobs)
        assert all(one.reason for one in told)
        # Who may be held back is told where else it could start, in a large fleet, too.
        assert not any(one.alternatives for one in told if view.jobs[one.job_id].slack_s is None)
        unchanged = (DecisionKind.STAY, DecisionKind.WAIT)
        changes = [replace(one, alternatives=()) for one in told if one.kind not in unchanged]
        brief = changes_of(policy, view, planner)
        assert [replace(one, alternatives=()) for one in brief] == changes


@pytest.mark.usefixtures("large")
@laws
@given(view=fleets(), planner=numbers, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_a_large_fleet_decides_nothing(
    view: FleetView, planner: PlannerSettings, shuffle: Random
) -> None:
    names, jobs = list(view.sites), list(view.jobs)
    shuffle.shuffle(names)
    shuffle.shuffle(jobs)
    other = replace(
        view,
        sites={name: view.sites[name] for name in names},
        jobs={name: view.jobs[name] for name in jobs},
    )
    policy = policy_named("sterna")
    assert policy.decide(view, planner) == policy.decide(other, planner)


@pytest.mark.usefixtures("large")
@laws
@given(view=fleets(), planner=numbers)
def test_nothing_is_promised_twice_in_a_large_fleet(view: FleetView, planner: PlannerSettings) -> None:
    arrivals: Counter[str] = Counter()
    carried: dict[tuple[str, str], float] = defaultdict(float)
    for one in changes_of(policy_named("sterna"), view, planner):
        if one.kind in (DecisionKind.START, DecisionKind.MIGRATE):
            arrivals[one.target_site or ""] += 1
        if one.kind is DecisionKind.MIGRATE:
            carried[one.source_site or "", one.target_site or ""] += one.reserved_bps or 0.0
    for site_id, count in arrivals.items():
        assert count <= view.sites[site_id].slots - view.sites[site_id].slots_held
    for pair, rate_bps in carried.items():
        assert rate_bps <= view.links[pair].free_bps


@laws
@given(view=fleets(), planner=numbers)
def test_where_one_job_could_leave_size_makes_no_difference(
    view: FleetView, planner: PlannerSettings
) -> None:
    calm = {name: replace(one, draining=False, wants_to_shed=False) for name, one in view.sites.items()}
    ones = [one for one in view.jobs.values() if one.phase is Phase.RUNNING and one.power_w > 1.0][:1]
    view = replace(view, sites=calm, jobs={one.job_id: one for one in ones})
    small = changes_of(policy_named("sterna"), view, planner)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving, "LARGE_PAIRS", -1)
        found = changes_of(policy_named("sterna"), view, planner)
    assert [one.target_site for one in found] == [one.target_site for one in small]


@laws
@given(view=fleets(), planner=numbers)
def test_a_fleet_that_is_not_large_moves_as_one_that_is_and_names_every_site(
    view: FleetView, planner: PlannerSettings
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving, "FEW_PAIRS", -1)
        told = policy_named("sterna").decide(view, planner)
        patch.setattr(moving, "LARGE_PAIRS", -1)
        large = policy_named("sterna").decide(view, planner)
    assert [(one.job_id, one.kind, one.target_site) for one in told] == [
        (one.job_id, one.kind, one.target_site) for one in large
    ]
    moves = [one for one in told if one.kind is DecisionKind.MIGRATE]
    for one in moves:
        rejected = {each.site_id: each.rejections for each in one.alternatives}
        assert rejected.keys() == view.sites.keys()
        assert [site_id for site_id, words in rejected.items() if not words] == [one.target_site]


def crowd(*powers: float, there_w: float, forecast_there: SurplusForecast | None = None) -> FleetView:
    jobs = [job(f"j{i:02}", "a", power_w=power) for i, power in enumerate(powers)]
    ahead = forecast_there or forecast(there_w, there_w, slot_s=DAY)
    there = site("b", surplus_w=there_w, windows=ahead, slots=len(powers))
    return fleet([site("a", windows=forecast(0.0, slot_s=DAY)), there], jobs)


def test_a_link_carries_one_move_in_a_tick() -> None:
    made = chosen(crowd(500.0, 300.0, there_w=2000.0), PlannerSettings(epsilon=0.5))
    assert [one.job.job_id for one in made] == ["j00"]  # 500 W gain more energy than 300 W


def test_an_access_that_is_used_up_carries_no_more() -> None:
    view = fleet(
        [
            replace(site("a", windows=forecast(0.0, slot_s=DAY)), uplink_free_bps=1e9),
            site("b", surplus_w=2000.0, windows=forecast(2000.0, 2000.0, slot_s=DAY)),
            site("c", surplus_w=2000.0, windows=forecast(2000.0, 2000.0, slot_s=DAY)),
        ],
        [job("1", "a"), job("2", "a")],
    )
    assert len(chosen(view, PlannerSettings(epsilon=0.5))) == 1
    open_wide = replace(view, sites={**view.sites, "a": replace(view.sites["a"], uplink_free_bps=None)})
    assert len(chosen(open_wide, PlannerSettings(epsilon=0.5))) == 2


def test_many_powers_share_rows_without_missing_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [site(f"a{i:02}", windows=forecast(0.0, slot_s=DAY)) for i in range(12)]
    there = [
        site(f"b{i}", surplus_w=w, windows=forecast(w, 0.7 * w, slot_s=3600.0), slots=20)
        for i, w in enumerate((900.0, 1700.0, 2600.0))
    ]
    jobs = [job(f"j{i:02}", one.site_id, power_w=200.0 + 17.0 * i) for i, one in enumerate(sources)]
    view = fleet([*sources, *there], jobs)
    exact = [(one.job.job_id, one.column) for one in chosen(view, PlannerSettings(epsilon=0.5))]
    monkeypatch.setattr(bulk, "_POWERS", 6)
    monkeypatch.setattr(bulk, "_PAIRS", 7)
    close = [(one.job.job_id, one.column) for one in chosen(view, PlannerSettings(epsilon=0.5))]
    assert len(close) == len(exact) > 6


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 0.7, 0.95])
def test_any_accepted_risk_is_kept_to(epsilon: float) -> None:
    doubtful = forecast(*[600.0] * 40, slot_s=100.0, spread=0.3)
    view = crowd(500.0, there_w=600.0, forecast_there=doubtful)
    small = changes_of(policy_named("sterna"), view, PlannerSettings(epsilon=epsilon))
    made = chosen(view, PlannerSettings(epsilon=max(epsilon, 0.5)))
    assert len(made) == len(small)
    assert chosen(view, PlannerSettings(epsilon=0.05)) == []


def many(seed: int, noise_frac: float = 0.0) -> FleetView:
    """Eight sites in the sun and eight without, five jobs at each; forecasts off by some noise."""
    dice, shake = Random(seed), Random(1000 + seed)
    sites, jobs = [], []
    for i in range(16):
        peak_w = dice.uniform(3000.0, 9000.0) if i % 2 else 0.0
        ahead = [
            peak_w * dice.uniform(0.6, 1.0) * (1.0 + shake.uniform(-noise_frac, noise_frac))
            for _ in range(24)
        ]
        windows = forecast(*ahead, slot_s=900.0, spread=0.2)
        sites.append(site(f"s{i:02}", surplus_w=peak_w, windows=windows, slots=12, slots_held=5))
    for i in range(80):
        size = int(dice.uniform(1e9, 4e10))
        power_w = dice.uniform(200.0, 600.0)
        jobs.append(job(f"j{i:02}", f"s{i % 16:02}", power_w=power_w, checkpoint_bytes=size))
    return fleet(sites, jobs, link_bps=4e9)


def targets(view: FleetView) -> dict[str, str]:
    made = changes_of(policy_named("sterna"), view, PlannerSettings(gain_margin_frac=0.0))
    return {one.job_id: one.target_site or "" for one in made}


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("seed", range(3))
def test_a_little_noise_changes_hardly_who_moves(seed: int) -> None:
    calm, noisy = targets(many(seed)), targets(many(seed, noise_frac=0.01))
    assert len(calm) > 20
    assert len(calm.keys() ^ noisy.keys()) <= 0.1 * len(calm)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("seed", range(3))
def test_who_has_moved_stays_and_the_fleet_comes_to_rest(seed: int) -> None:
    view, moved = many(seed), set()
    for _ in range(8):
        made = targets(view)
        if not made:
            break
        assert not moved & made.keys()
        moved |= made.keys()
        held = Counter(made.values())
        held.subtract(Counter(view.jobs[name].site_id or "" for name in made))
        view = replace(
            view,
            jobs={n: replace(one, site_id=made.get(n, one.site_id)) for n, one in view.jobs.items()},
            sites={n: replace(one, slots_held=one.slots_held + held[n]) for n, one in view.sites.items()},
        )
    assert moved and not made
