"""Laws of the exact replay that hold in any world and under every policy.

In some worlds jobs may be held back, paused and slowed, which `sterna` does.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.policies import policy_named, policy_names
from coordinator.core.policy import PlannerSettings
from coordinator.model.job import SlowRange
from coordinator.replay.bound import bound_wh
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.journal import Interval
from coordinator.replay.metrics import Metrics, measure
from coordinator.replay.record import Record, settings_of
from coordinator.replay.timeline import timeline
from coordinator.replay.verify import recompute
from coordinator.replay.world import Plant, Wan, World
from tests.coordinator.replay.worlds import HOUR, task, world

SITES = ("a", "b", "c")
FORESEEN_S = 48 * HOUR
RANGES = (None, SlowRange(power_frac=0.5, speed_frac=0.75), SlowRange(power_frac=0.81, speed_frac=0.936))
every_policy = pytest.mark.parametrize("name", policy_names())


@st.composite
def worlds(draw: st.DrawFn, *, held_back: bool = True) -> World:
    slow = draw(st.sampled_from(RANGES))
    surplus_w = {
        site: draw(st.lists(st.sampled_from([0.0, 300.0, 500.0, 1700.0]), min_size=8, max_size=8))
        for site in SITES
    }
    times = sorted(draw(st.lists(st.floats(0.0, 6 * HOUR), min_size=1, max_size=7)))
    tasks = [
        task(
            str(number),
            draw(st.sampled_from(SITES)),
            at_s=at_s,
            work_s=draw(st.floats(60.0, 5 * HOUR)),
            size_gb=draw(st.sampled_from([1, 16, 100])),
            slow=slow,
        )
        for number, at_s in enumerate(times)
    ]
    return world(
        surplus_w,
        *tasks,
        slots=draw(st.integers(1, 3)),
        link_bps=draw(st.sampled_from([1e9, 8e9])),
        access_bps=draw(st.sampled_from([None, 0.5e9])),
        eta=0.9,
        hold_back_s=draw(st.sampled_from([None, 12 * HOUR])) if held_back else None,
    )


def replay(day: World, name: str) -> Record:
    declared = day.hold_back_s is not None
    return run(day, policy_named(name), settings_of(day), Perfect(day), declared=declared)


def figures(metrics: Metrics) -> dict[str, float]:
    return {name: getattr(metrics, name) for name in Metrics.__dataclass_fields__}


@every_policy
@settings(max_examples=40, deadline=None)
@given(day=worlds())
def test_the_second_opinion_finds_no_fault_and_the_same_figures(name: str, day: World) -> None:
    # It checks that no slot is violated, every job gets its work once, no seal or load is cut short, and
    # nobody draws what it may not. Policies that hold nobody back can be late where slots are short.
    intervals = replay(day, name).intervals
    found = measure(day, intervals)
    assert figures(recompute(day, intervals)) == pytest.approx(figures(found))
    if name == "sterna":
        assert not found.late


def drawn_by_hand(site: Plant, rows: Sequence[Interval], from_s: float, to_s: float) -> tuple[float, float]:
    """What jobs drew at a site between two instants, and what of it the surplus of that step covered, Wh."""
    here = [row for row in rows if row.site_id == site.site_id and row.start_s < to_s and row.end_s > from_s]
    edges = sorted(
        {from_s, to_s, *(min(to_s, max(from_s, at)) for row in here for at in (row.start_s, row.end_s))}
    )
    drawn_wh = covered_wh = 0.0
    for begin_s, end_s in pairwise(edges):
        middle_s = (begin_s + end_s) / 2
        watts = sum(row.power_w or 500.0 for row in here if row.start_s <= middle_s < row.end_s)
        drawn_wh += watts * (end_s - begin_s) / HOUR
        covered_wh += min(watts, site.surplus_w[int(from_s // HOUR)]) * (end_s - begin_s) / HOUR
    return drawn_wh, covered_wh


@every_policy
@settings(max_examples=40, deadline=None)
@given(day=worlds())
def test_energy_is_conserved_in_every_step(name: str, day: World) -> None:
    intervals = replay(day, name).intervals
    lines = timeline(day, intervals)
    for line in lines:
        site = next(one for one in day.sites if one.site_id == line.site)
        from_s = (datetime.fromisoformat(line.start_utc) - day.start_at).total_seconds()
        drawn_wh, covered_wh = drawn_by_hand(site, intervals, from_s, from_s + day.step_s)
        assert line.surplus_w == site.surplus_w[day.step_of(from_s)]
        assert line.compute_w == pytest.approx(drawn_wh, abs=1e-3)  # steps of an hour
        assert line.renewable_w == pytest.approx(covered_wh, abs=1e-3)
    drawn_wh = sum((row.end_s - row.start_s) * (row.power_w or 500.0) for row in intervals) / HOUR
    metrics = measure(day, intervals)
    assert sum(line.compute_w for line in lines) == pytest.approx(drawn_wh, abs=0.1)
    assert metrics.total_wh == pytest.approx(drawn_wh + metrics.network_wh)
    assert metrics.total_wh == pytest.approx(metrics.nonrenewable_wh + metrics.absorbed_wh)


@every_policy
@pytest.mark.parametrize("declared", [True, False])
@settings(max_examples=30, deadline=None)
@given(day=worlds())
def test_no_policy_makes_a_job_late_where_nobody_waits_for_a_slot(
    declared: bool, name: str, day: World
) -> None:
    sites = tuple(replace(site, slots=len(day.tasks)) for site in day.sites)
    roomy = replace(day, sites=sites, hold_back_s=12 * HOUR)
    made = run(roomy, policy_named(name), settings_of(roomy), Perfect(roomy), declared=declared)
    ended = {row.job_id: row.end_s for row in sorted(made.intervals, key=lambda row: row.end_s)}
    for one in roomy.tasks:
        assert ended[one.job_id] <= one.submitted_s + 2 * one.work_s + 12 * HOUR
    assert not measure(roomy, made.intervals).late


@every_policy
@settings(max_examples=30, deadline=None)
@given(day=worlds())
def test_no_link_carries_more_than_it_can(name: str, day: World) -> None:
    courses: dict[str, list[tuple[float, float, str, str]]] = {}
    for row in sorted(replay(day, name).intervals, key=lambda row: row.start_s):
        courses.setdefault(row.job_id, []).append((row.start_s, row.end_s, row.stage.value, row.site_id))
    flights = [
        (before[1], after[0], before[3], after[3], job_id)
        for job_id, rows in courses.items()
        for before, after in pairwise(rows)
        if before[2] == "seal"
    ]
    sizes = {one.job_id: one.checkpoint_bytes for one in day.tasks}
    for site in SITES:
        for limit_bps, end in ((day.wan.uplink_bps[site], 2), (day.wan.downlink_bps[site], 3)):
            mine = [flight for flight in flights if flight[end] == site]
            for start_s in {flight[0] for flight in mine}:
                for end_s in {flight[1] for flight in mine if flight[1] > start_s}:
                    inside = [f for f in mine if f[0] >= start_s and f[1] <= end_s]
                    bits = sum(8 * sizes[f[4]] for f in inside)
                    assert bits <= limit_bps * day.costs.eta * (end_s - start_s) * (1 + 1e-6)


@every_policy
@settings(max_examples=30, deadline=None)
@given(day=worlds(), order=st.permutations(range(len(SITES))))
def test_the_order_of_sites_changes_nothing(name: str, day: World, order: list[int]) -> None:
    other = replace(day, sites=tuple(day.sites[place] for place in order))
    assert replay(other, name).intervals == replay(day, name).intervals
    assert bound_wh(other) == pytest.approx(bound_wh(day))


@every_policy
@settings(max_examples=30, deadline=None)
@given(day=worlds())
def test_the_same_replay_twice_is_the_same(name: str, day: World) -> None:
    assert replay(day, name) == replay(day, name)


@every_policy
@settings(max_examples=30, deadline=None)
@given(day=worlds(held_back=False))
def test_hours_squeezed_into_seconds_give_the_same_replay(name: str, day: World) -> None:
    """Nothing in a policy or in the replay knows how long a window usually is."""
    squeeze = 512.0  # a power of two: only instants are rounded, to microseconds
    costs, wan = day.costs, _no_link_like_another(day.wan)
    day = replace(day, wan=wan)
    quick = replace(
        day,
        step_s=day.step_s / squeeze,
        tasks=tuple(
            replace(one, submitted_s=one.submitted_s / squeeze, work_s=one.work_s / squeeze)
            for one in day.tasks
        ),
        wan=Wan(
            pair_bps={pair: bps * squeeze for pair, bps in wan.pair_bps.items()},
            uplink_bps={site: bps * squeeze for site, bps in wan.uplink_bps.items()},
            downlink_bps={site: bps * squeeze for site, bps in wan.downlink_bps.items()},
        ),
        costs=replace(
            costs,
            store_bytes_per_s=costs.store_bytes_per_s * squeeze,
            downtime_s=costs.downtime_s / squeeze,
            network_wh_per_gb=costs.network_wh_per_gb / squeeze,
        ),
    )
    numbers = settings_of(quick, horizon_s=PlannerSettings().horizon_s / squeeze)
    again = run(quick, policy_named(name), numbers, Perfect(quick, FORESEEN_S / squeeze))
    assert [
        (row.job_id, row.site_id, row.stage, row.start_s * squeeze, row.end_s * squeeze)
        for row in again.intervals
    ] == [
        (row.job_id, row.site_id, row.stage, pytest.approx(row.start_s), pytest.approx(row.end_s))
        for row in run(day, policy_named(name), settings_of(day), Perfect(day, FORESEEN_S)).intervals
    ]


def _no_link_like_another(wan: Wan) -> Wan:
    """Let no two sites be as good as one another but for what is rounded."""
    pairs = sorted(wan.pair_bps)
    return replace(
        wan, pair_bps={pair: wan.pair_bps[pair] * (1 - number / 128) for number, pair in enumerate(pairs)}
    )


@settings(max_examples=60, deadline=None)
@given(day=worlds())
def test_where_nobody_waits_no_policy_beats_the_bound(day: World) -> None:
    # With a slot for each job at each site the start times of all policies are the same.
    roomy = replace(day, sites=tuple(replace(site, slots=len(day.tasks)) for site in day.sites))
    least_wh = bound_wh(roomy)
    assert measure(roomy, replay(roomy, "static").intervals).nonrenewable_wh >= least_wh - 1e-6
