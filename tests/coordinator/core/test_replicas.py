"""Replicas of distributed jobs: how many, where, and what their exchanges cost."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.exchanges import (
    exchange_s,
    link_share_bytes,
    ring,
    sync_power_w,
    training_rate,
    work_rate,
)
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings, changes_of
from coordinator.core.replicas import GROWTH, ReplicaPlan, plan_replicas
from coordinator.model.decision import DecisionKind
from coordinator.model.replication import Replication
from coordinator.model.view import FleetView, JobView, LinkView, Phase
from tests.coordinator.core.fleets import fleet, forecast, job, site

GB = 1_000_000_000
PAIR = Replication(least=2, most=4, sync_bytes=GB // 3, round_s=3600.0, efficiency=(1.0, 0.95, 0.92, 0.9))
SETTINGS = PlannerSettings()
SUN = forecast(*[2000.0] * 48, slot_s=3600.0)


def replica(name: str, site_id: str | None, how: Replication = PAIR, **more: object) -> JobView:
    progressed_s = more.pop("progressed_s", 100.0)
    plain = job(name, site_id, **more)  # type: ignore[arg-type]
    return replace(
        plain,
        replica_of=name.partition("/")[0],
        replication=how,
        progressed_s=progressed_s if site_id is not None else 0.0,
    )


def plan(view: FleetView, name: str = "sterna") -> ReplicaPlan:
    return plan_replicas(policy_named(name), view, SETTINGS, GROWTH[name])


def joins(found: ReplicaPlan) -> list[tuple[str, str, str]]:
    return [(one.job_id, one.source_site, one.target_site) for one in found.joins]


def leaves(found: ReplicaPlan) -> list[str]:
    return [one.replica for one in found.leaves]


def test_exchanges_go_round_the_ring_in_order_of_ids() -> None:
    assert ring(["c", "a", "b"]) == (("a", "b"), ("b", "c"), ("c", "a"))
    assert ring(["a"]) == ring([]) == ()


def test_an_exchange_takes_as_long_as_its_thinnest_link() -> None:
    # Two: each gives all its 1/3 GB once; four: 3/2 of it over each link.
    assert link_share_bytes(PAIR, 2) == pytest.approx(GB / 3)
    assert link_share_bytes(PAIR, 4) == pytest.approx(GB / 2)
    assert exchange_s(PAIR, [1e9, 0.5e9], 1.0) == pytest.approx(8 * GB / 3 / 0.5e9)
    assert exchange_s(PAIR, [1e9, 0.0], 1.0) == inf
    assert exchange_s(PAIR, [], 1.0) == 0.0
    assert work_rate(PAIR, [1e9, 1e9], 1.0, replicas=2) == pytest.approx(1.9 * 3600 / (3600 + 8 / 3))
    assert work_rate(PAIR, [1e9, 0.0], 1.0, replicas=2) == 0.0
    assert work_rate(PAIR, [], 1.0, replicas=1) == 1.0
    assert training_rate(PAIR, 0) == 0.0
    # 2/3 GB an hour at 1.9 Wh each.
    assert sync_power_w(PAIR, [inf, inf], 1.0, 1.9) == pytest.approx(1.9 * 2 / 3)
    assert sync_power_w(PAIR, [0.0, 0.0], 1.0, 1.9) == 0.0


def test_a_replica_joins_where_surplus_is_left_one_at_a_time() -> None:
    sunny = [site(name, surplus_w=2000.0, windows=SUN, slots_held=0) for name in ("c", "d")]
    here = [site(name, surplus_w=2000.0, windows=SUN, slots_held=1) for name in ("a", "b")]
    view = fleet([*here, *sunny], [replica("1/0", "a"), replica("1/1", "b")])
    found = plan(view)
    assert joins(found) == [("1", "b", "d")] and leaves(found) == []
    terms = {term.name: term for term in found.joins[0].terms}
    assert terms["work_rate_gained"].value == pytest.approx(3 * 0.92 - 2 * 0.95, abs=0.02)
    assert terms["exchanges"].satisfied and found.joins[0].reason == "surplus at d covers one more"
    coming = replica("1/2", "d", phase=Phase.MIGRATING, bound_for="d")
    on_the_way = replace(view, jobs={**view.jobs, "1/2": coming})
    assert joins(plan(on_the_way)) == []


def test_one_that_has_no_surplus_leaves_down_to_the_least_and_is_replaced_there() -> None:
    bright = site("c", surplus_w=2000.0, windows=SUN)
    dark = [site("a", surplus_w=0.0, slots_held=1), site("b", surplus_w=600.0, windows=SUN, slots_held=1)]
    two = [replica("1/0", "a"), replica("1/1", "b")]
    found = plan(fleet([*dark, bright], two))
    assert joins(found) == [("1", "b", "c")] and leaves(found) == []
    three = fleet([*dark, replace(bright, slots_held=1)], [*two, replica("1/2", "c")])
    assert leaves(plan(three)) == ["1/0"] and joins(plan(three)) == []


def test_as_many_as_may_are_replaced_all_the_same() -> None:
    fixed = replace(PAIR, most=2, efficiency=(1.0, 0.95))
    sites = [
        site("a", surplus_w=0.0, slots_held=1),
        site("b", surplus_w=600.0, windows=SUN, slots_held=1),
        site("c", surplus_w=2000.0, windows=SUN, slots_held=1),
    ]
    two = [replica("1/0", "a", fixed), replica("1/1", "b", fixed)]
    assert joins(plan(fleet(sites, two))) == [("1", "b", "c")]
    covered = [replace(sites[0], surplus_w=600.0, forecast=SUN), *sites[1:]]
    assert joins(plan(fleet(covered, two))) == []
    # The one that replaces it trains: whoever has no surplus goes, whatever the number was for an instant.
    three = fleet(sites, [*two, replica("1/2", "c", fixed)])
    assert leaves(plan(three)) == ["1/0"]
    happy = fleet([replace(one, surplus_w=600.0) for one in sites], [*two, replica("1/2", "c", fixed)])
    assert leaves(plan(happy)) == ["1/2"]


def test_below_the_least_one_joins_anywhere() -> None:
    dark = [site("a", surplus_w=0.0, slots_held=1), site("b", surplus_w=None)]
    view = fleet(dark, [replica("1/0", "a")])
    found = plan(view)
    assert joins(found) == [("1", "a", "b")]
    assert found.joins[0].reason == "fewer than 2 replicas run"
    assert joins(plan(replace(view, links={}))) == []
    assert joins(plan(view, "static")) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"surplus_w": 400.0}, "energy-only"),  # not enough for one more
        ({"slots_held": 2}, "energy-only"),  # no slot
        ({"draining": True, "available": False}, "energy-only"),
        ({"wants_to_shed": True}, "energy-only"),
        ({"forecast": forecast(2000.0, 0.0, slot_s=30.0)}, "sterna"),  # a window of a minute at most
        ({"forecast": None}, "feasibility-aware"),
    ],
)
def test_nobody_joins_where_it_does_not_pay(change: dict[str, object], name: str) -> None:
    here = [site(one, surplus_w=600.0, windows=SUN, slots_held=1) for one in ("a", "b")]
    there = site("c", surplus_w=2000.0, windows=SUN)
    two = [replica("1/0", "a"), replica("1/1", "b")]
    assert joins(plan(fleet([*here, there], two), name)) == [("1", "b", "c")]
    worse = replace(there, **change)  # type: ignore[arg-type]
    assert joins(plan(fleet([*here, worse], two), name)) == []


def test_nobody_joins_over_links_whose_exchanges_cost_more_than_they_bring() -> None:
    heavy = replace(PAIR, sync_bytes=100 * GB)
    here = [site(one, surplus_w=600.0, windows=SUN, slots_held=1) for one in ("a", "b")]
    sites = [*here, site("c", surplus_w=2000.0, windows=SUN)]
    two = [replica("1/0", "a", heavy), replica("1/1", "b", heavy)]
    assert joins(plan(fleet(sites, two, link_bps=0.1e9))) == []


def test_replicas_that_wait_start_at_home_or_elsewhere_but_never_beside_a_sibling() -> None:
    sites = [site("a", slots=1), site("b", slots=1, surplus_w=50.0), site("c", slots=1, surplus_w=90.0)]
    fresh = [replica("1/0", None, home="a"), replica("1/1", None, home="a"), replica("1/2", None, home="a")]
    found = plan(fleet(sites, fresh), "energy-only")
    starts = {one.job_id: one.target_site for one in found.decisions if one.kind is DecisionKind.START}
    assert starts == {"1/0": "a", "1/1": "c", "1/2": "b"}
    # Once others have trained, one at a time fetches the state.
    late = fleet([replace(sites[0], slots_held=1), *sites[1:]], [replica("1/0", "a"), *fresh[1:]])
    found = plan(late, "energy-only")
    assert [(one.job_id, one.target_site) for one in found.decisions] == [("1/1", "c")]
    assert found.joins == ()
    # Nobody has the state while all are on their way.
    away = replace(late.jobs["1/0"], phase=Phase.MIGRATING, bound_for="a")
    assert plan(replace(late, jobs={**late.jobs, "1/0": away}), "energy-only").decisions == ()


def test_without_replicas_a_plan_is_the_policys() -> None:
    view = fleet([site("a", surplus_w=0.0), site("b", surplus_w=2000.0, windows=SUN)], [job("1", "a")])
    for name in GROWTH:
        assert plan(view, name).decisions == changes_of(policy_named(name), view, SETTINGS)


def test_whole_jobs_go_first_and_what_they_take_is_taken() -> None:
    sites = [site(one, surplus_w=600.0, windows=SUN, slots_held=1) for one in ("a", "b")]
    there = site("c", surplus_w=600.0, windows=SUN)
    dark = site("d", surplus_w=0.0, slots_held=1)
    two = [replica("1/0", "a"), replica("1/1", "b")]
    found = plan(fleet([*sites, there, dark], [*two, job("2", "d")]), "feasibility-aware")
    assert [(one.job_id, one.target_site) for one in found.decisions] == [("2", "c")]
    assert found.joins == ()
    limited = [replace(one, uplink_free_bps=1e9, downlink_free_bps=1e9) for one in (*sites, there, dark)]
    again = plan(fleet(limited, [*two, job("2", "d")]), "feasibility-aware")
    assert again.decisions[0].reserved_bps == 1e9 and again.joins == ()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"least": 0}, "least 0"),
        ({"most": 1}, "most 1: expected 2"),
        ({"sync_bytes": -1}, "sync_bytes"),
        ({"round_s": 0.0}, "round_s"),
        ({"efficiency": (1.0, 0.9)}, "4 figures"),
        ({"efficiency": (1.0, 1.1, 1.0, 1.0)}, "efficiency"),
    ],
)
def test_a_replication_that_cannot_be_is_refused(change: dict[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        replace(PAIR, **change)  # type: ignore[arg-type]


SITES = ("a", "b", "c", "d")
replications = st.builds(
    lambda least, more, sync_bytes, round_s: Replication(
        least=least,
        most=least + more,
        sync_bytes=sync_bytes,
        round_s=round_s,
        efficiency=tuple(1.0 / (1.0 + 0.05 * n) for n in range(least + more)),
    ),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from([0, GB, 100 * GB]),
    st.sampled_from([60.0, 3600.0]),
)


@st.composite
def fleets(draw: st.DrawFn) -> FleetView:
    jobs: dict[str, JobView] = {}
    for number in range(draw(st.integers(1, 3))):
        how = draw(replications)
        if draw(st.booleans()):
            places = draw(st.lists(st.sampled_from(SITES), unique=True, min_size=1, max_size=how.most))
            moving = draw(st.booleans()) and len(places) > how.least
            for place, at in enumerate(places):
                name = f"{number}/{place}"
                phase = Phase.MIGRATING if moving and place == 0 else Phase.RUNNING
                bound_for = at if phase is Phase.MIGRATING else None
                jobs[name] = replica(name, at, how, phase=phase, bound_for=bound_for)
        else:
            for place in range(how.least):
                name = f"{number}/{place}"
                jobs[name] = replica(name, None, how, home=draw(st.sampled_from(SITES)))
    for number in range(draw(st.integers(0, 3))):
        at = draw(st.sampled_from([None, *SITES]))
        jobs[f"w{number}"] = job(f"w{number}", at, home=at)
    held = {name: sum(one.site_id == name for one in jobs.values()) for name in SITES}
    curve = st.lists(st.sampled_from([0.0, 600.0, 2000.0]), min_size=1, max_size=4)
    sites = [
        site(
            name,
            surplus_w=draw(st.sampled_from([None, 0.0, 600.0, 2000.0])),
            windows=forecast(*draw(curve), slot_s=3600.0),
            slots=held[name] + draw(st.integers(0, 2)),
            slots_held=held[name],
            available=draw(st.sampled_from([True, True, False])),
        )
        for name in SITES
    ]
    rates = st.sampled_from([0.0, 1e8, 1e10])
    links = [
        LinkView(source=one, destination=two, free_bps=draw(rates))
        for one in SITES
        for two in SITES
        if one != two
    ]
    return fleet(sites, jobs.values(), links=links)


@pytest.mark.parametrize("name", sorted(GROWTH))
@settings(max_examples=60, deadline=None)
@given(view=fleets())
def test_the_rules_of_replicas_hold_in_any_fleet(name: str, view: FleetView) -> None:
    found = plan(view, name)
    assert found == plan(view, name)
    taken = dict.fromkeys(SITES, 0)
    for one in (*found.decisions, *found.joins):
        if one.target_site is not None:
            taken[one.target_site] += 1
    assert all(view.sites[at].slots_held + n <= view.sites[at].slots for at, n in taken.items())
    groups = {one.replica_of for one in view.jobs.values() if one.replica_of is not None}
    assert not any(view.jobs[one.job_id].replica_of for one in found.decisions if one.source_site)
    for group in groups:
        mine = [one for one in view.jobs.values() if one.replica_of == group]
        running = [one for one in mine if one.phase is Phase.RUNNING]
        left = [one.replica for one in found.leaves if one.job_id == group]
        how = mine[0].replication
        assert how is not None
        # Never below the least by anybody's leaving, and one at a time on the way.
        assert not left or len(running) - len(left) >= how.least
        joined = [one for one in found.joins if one.job_id == group]
        assert len(joined) + sum(one.phase is Phase.MIGRATING for one in mine) <= 1 or not joined
        started = [one.target_site for one in found.decisions if one.job_id in {m.job_id for m in mine}]
        places = [one.bound_for or one.site_id for one in mine if one.site_id is not None]
        every = [*places, *started, *(one.target_site for one in joined)]
        assert len(every) == len(set(every))
        if joined:
            assert joined[0].source_site in {one.site_id for one in running}
            assert len(running) - len(left) + 1 <= how.most + 1
        if name == "static":
            assert not joined and not left


@settings(max_examples=100, deadline=None)
@given(
    how=replications,
    link_bps=st.lists(st.floats(1e6, 1e11), min_size=2, max_size=4),
    more=st.floats(1.0, 100.0),
)
def test_more_bandwidth_never_hurts(how: Replication, link_bps: list[float], more: float) -> None:
    richer = [more * bps for bps in link_bps]
    assert exchange_s(how, richer, 0.9) <= exchange_s(how, link_bps, 0.9)
    assert work_rate(how, richer, 0.9, replicas=2) >= work_rate(how, link_bps, 0.9, replicas=2)
