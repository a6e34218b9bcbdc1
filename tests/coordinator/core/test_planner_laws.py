"""Laws of planning that hold for any fleet and under every policy."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import copysign, isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.judgement import judge_everywhere
from coordinator.core.policies import policy_named, policy_names
from coordinator.core.policy import PlannerSettings, changes_of
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.job import SlowRange
from coordinator.model.view import FleetView, JobView, LinkView, Phase, SiteView
from tests.coordinator.core.fleets import NOW, costs, fleet, forecast, job, site

SITES = ("a", "b", "c", "d")
watts = st.floats(0.0, 3000.0)


@st.composite
def some_site(draw: st.DrawFn, site_id: str) -> SiteView:
    slots = draw(st.integers(0, 4))
    curve = forecast(
        *draw(st.lists(watts, min_size=1, max_size=6)),
        slot_s=draw(st.sampled_from([7.5, 300.0, 3600.0])),
        spread=draw(st.sampled_from([0.0, 0.3])),
    )
    return site(
        site_id,
        surplus_w=draw(st.one_of(st.none(), watts)),
        windows=draw(st.sampled_from([curve, curve, curve, None])),
        slots=slots,
        slots_held=draw(st.integers(0, slots)),
        available=draw(st.sampled_from([True, True, True, False])),
        draining=draw(st.sampled_from([False, False, False, True])),
        ok=draw(st.sampled_from([True, True, True, False])),
        shed=draw(st.sampled_from([False, False, False, True])),
        cost=draw(
            st.sampled_from([None, None, costs(*[50.0] * 24), costs(*[400.0, 90.0] * 12), costs(600.0)])
        ),
    )


@st.composite
def some_job(draw: st.DrawFn, job_id: str) -> JobView:
    phase = draw(st.sampled_from([Phase.QUEUED, Phase.RUNNING, Phase.RUNNING, Phase.MIGRATING, Phase.HELD]))
    return job(
        job_id,
        None if phase is Phase.QUEUED else draw(st.sampled_from(SITES)),
        phase=phase,
        home=draw(st.sampled_from([None, *SITES, "elsewhere"])),
        power_w=draw(st.floats(0.0, 1000.0)),
        checkpoint_bytes=draw(st.sampled_from([None, 0, 8_000_000, 10**9, 10**11])),
        may_migrate=draw(st.booleans()),
        resident_s=draw(st.sampled_from([0.0, 30.0, 3600.0])),
        min_residence_s=draw(st.sampled_from([0.0, 60.0])),
        held_at=draw(st.sets(st.sampled_from(SITES))),
        progress=draw(st.booleans()),
        bound_for=draw(st.sampled_from(SITES)) if phase is Phase.MIGRATING else None,
        slack_s=draw(st.sampled_from([None, None, 0.0, 5_000.0, 90_000.0])),
        may_pause=draw(st.booleans()),
        work_s=draw(st.sampled_from([None, 7_200.0])),
        slow=draw(st.sampled_from([None, SlowRange(power_frac=0.81, speed_frac=0.936)])),
    )


@st.composite
def fleets(draw: st.DrawFn) -> FleetView:
    rates = st.sampled_from([None, 0.0, 1e6, 1e9, 1e10])
    links = [
        LinkView(source=a, destination=b, free_bps=rate)
        for a in SITES
        for b in SITES
        if a != b and (rate := draw(rates)) is not None
    ]
    jobs = [draw(some_job(f"j{i}")) for i in range(draw(st.integers(0, 6)))]
    return fleet([draw(some_site(s)) for s in SITES], jobs, links=links)


numbers = st.builds(
    PlannerSettings,
    alpha=st.sampled_from([0.1, 0.5, 1.0]),
    epsilon=st.sampled_from([0.05, 0.1, 0.5]),
    min_residence_s=st.sampled_from([0.0, 45.0]),
    gain_margin_s=st.sampled_from([0.0, 60.0]),
)
every_policy = pytest.mark.parametrize("name", policy_names())


def decided(name: str, view: FleetView, planner: PlannerSettings) -> tuple[Decision, ...]:
    return policy_named(name).decide(view, planner)


@every_policy
@settings(max_examples=60, deadline=None)
@given(view=fleets(), planner=numbers)
def test_nothing_is_promised_twice(name: str, view: FleetView, planner: PlannerSettings) -> None:
    arrivals: Counter[str] = Counter()
    carried: Counter[tuple[str, str]] = Counter()
    for decision in decided(name, view, planner):
        if decision.kind in (DecisionKind.START, DecisionKind.MIGRATE):
            assert decision.target_site is not None
            arrivals[decision.target_site] += 1
        if decision.kind is DecisionKind.MIGRATE:
            assert decision.source_site is not None and decision.target_site is not None
            if decision.reserved_bps is None:
                continue  # it shares the link with others, nothing is promised
            assert decision.reserved_bps > 0
            carried[decision.source_site, decision.target_site] += decision.reserved_bps
    for site_id, count in arrivals.items():
        assert count <= view.sites[site_id].slots - view.sites[site_id].slots_held
    for pair, rate_bps in carried.items():
        assert rate_bps <= view.links[pair].free_bps


@every_policy
@settings(max_examples=60, deadline=None)
@given(view=fleets(), planner=numbers)
def test_only_what_may_move_moves_and_only_where_it_may_go(
    name: str, view: FleetView, planner: PlannerSettings
) -> None:
    for decision in decided(name, view, planner):
        subject = view.jobs[decision.job_id]
        assert decision.source_site == (None if subject.phase is Phase.QUEUED else subject.site_id)
        if decision.kind is DecisionKind.START:
            assert subject.phase is Phase.QUEUED
            assert not subject.must_start_at_holder or decision.target_site in subject.held_at
        if decision.kind in (DecisionKind.START, DecisionKind.MIGRATE):
            target = view.sites[decision.target_site or ""]
            assert target.available and not target.draining and not target.wants_to_shed
        if decision.kind is DecisionKind.MIGRATE:
            source = view.sites[subject.site_id or ""]
            assert subject.phase is Phase.RUNNING and subject.may_migrate
            assert subject.site_id != decision.target_site
            if not source.draining:
                chosen = next(a for a in decision.alternatives if a.site_id == decision.target_site)
                assert chosen.feasible
                assert target.surplus_w is not None and target.surplus_quality_ok
            if not (source.draining or source.wants_to_shed):
                assert subject.resident_since is not None
                stayed_s = (NOW - subject.resident_since).total_seconds()
                assert stayed_s >= max(subject.min_residence_s, planner.min_residence_s)


@every_policy
@settings(max_examples=60, deadline=None)
@given(view=fleets(), planner=numbers)
def test_every_decision_explains_itself(name: str, view: FleetView, planner: PlannerSettings) -> None:
    decisions = decided(name, view, planner)
    assert [d.job_id for d in decisions] == sorted(view.jobs)
    for decision in decisions:
        assert decision.reason and decision.policy == name
        assert [a.site_id for a in decision.alternatives] == sorted(view.sites)
        for alternative in decision.alternatives:
            assert bool(alternative.rejections) == (alternative.site_id != decision.target_site)


@settings(max_examples=60, deadline=None)
@given(view=fleets(), planner=numbers)
def test_what_explains_a_decision_is_made_of_figures(view: FleetView, planner: PlannerSettings) -> None:
    told = [one for name in policy_names() for one in decided(name, view, planner)]
    alternatives = [alternative for one in told for alternative in one.alternatives]
    for job_id in view.jobs:
        alternatives += judge_everywhere(view, job_id, planner).values()
    words = [one.reason for one in told] + [text for one in alternatives for text in one.rejections]
    for sentence in words:
        assert not re.search(r"\bnan\b|\binf\b|(?<![\w.])-\d", sentence)
    for alternative in alternatives:
        assert isfinite(alternative.score)
        for term in alternative.terms:
            figures = [term.value] if term.limit is None else [term.value, term.limit]
            assert all(isfinite(figure) for figure in figures)
            assert term.name in ("gain", "saved") or all(copysign(1.0, figure) > 0.0 for figure in figures)


@every_policy
@settings(max_examples=40, deadline=None)
@given(view=fleets(), planner=numbers, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_sites_and_jobs_decides_nothing(
    name: str, view: FleetView, planner: PlannerSettings, shuffle: object
) -> None:
    def mixed(mapping: dict[str, object]) -> dict[str, object]:
        items = list(mapping.items())
        mix: Callable[[list[object]], None] = shuffle.shuffle  # type: ignore[attr-defined]
        mix(items)  # type: ignore[arg-type]
        return dict(items)

    other = replace(
        view, sites=mixed(dict(view.sites)), jobs=mixed(dict(view.jobs)), links=mixed(dict(view.links))
    )  # type: ignore[arg-type]
    assert decided(name, view, planner) == decided(name, other, planner)


@every_policy
@settings(max_examples=60, deadline=None)
@given(view=fleets(), planner=numbers)
def test_deciding_without_saying_why_decides_the_same(
    name: str, view: FleetView, planner: PlannerSettings
) -> None:
    unchanged = (DecisionKind.STAY, DecisionKind.WAIT)
    brief = changes_of(policy_named(name), view, planner)
    full = [decision for decision in decided(name, view, planner) if decision.kind not in unchanged]
    assert [replace(one, alternatives=()) for one in brief] == [replace(one, alternatives=()) for one in full]


@pytest.mark.parametrize("name", [name for name in policy_names() if name != "static"])
def test_what_a_site_carries_in_all_bounds_every_link_of_it(name: str) -> None:
    sunny = forecast(2000.0, 0.0, slot_s=36_000.0)
    view = fleet(
        [
            replace(site("a", windows=forecast(0.0)), uplink_free_bps=1e9),
            site("b", surplus_w=2000.0, windows=sunny),
            site("c", surplus_w=2000.0, windows=sunny),
        ],
        [job("1", "a"), job("2", "a")],
    )
    moved = [one for one in decided(name, view, PlannerSettings()) if one.kind is DecisionKind.MIGRATE]
    promised_bps = sum(one.reserved_bps for one in moved if one.reserved_bps is not None)
    assert moved and promised_bps <= 1e9
