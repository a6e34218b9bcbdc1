"""Holding back within slack: who starts, who waits, who pauses, and when that ends."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.deferral import DeferralRules, may_wait, slots_suffice
from coordinator.core.policy import PlannerSettings, changes_of
from coordinator.core.sterna_policy import SternaPolicy
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.forecast import SurplusForecast
from coordinator.model.view import FleetView, JobView, Phase
from tests.coordinator.core.fleets import fleet, forecast, job, site

HOUR = 3600.0
DAY = 24 * HOUR
K = DecisionKind


def decided(view: FleetView) -> dict[str, Decision]:
    return {one.job_id: one for one in SternaPolicy().decide(view, PlannerSettings(gain_margin_frac=0.0))}


def kinds(view: FleetView) -> dict[str, DecisionKind]:
    return {job_id: one.kind for job_id, one in decided(view).items()}


def steady(watts: float) -> SurplusForecast:
    return forecast(watts, watts, slot_s=DAY)


def alone(surplus_w: float | None, *jobs: JobView, slots: int = 4) -> FleetView:
    held = sum(one.site_id is not None for one in jobs)
    here = site("a", surplus_w=surplus_w, windows=steady(surplus_w or 0.0), slots=slots, slots_held=held)
    return fleet([here], jobs)


@pytest.mark.parametrize(
    ("surplus_w", "slack_s", "kind"),
    [
        (500.0, DAY, K.START),
        (0.0, DAY, K.WAIT),
        (None, DAY, K.WAIT),
        (240.0, DAY, K.WAIT),
        (260.0, DAY, K.START),
        (0.0, HOUR + 1.0, K.WAIT),
        (0.0, HOUR - 1.0, K.START),
        (0.0, -5.0, K.START),
        (0.0, None, K.START),
    ],
)
def test_a_queued_job_waits_for_surplus_as_long_as_its_slack_allows(
    surplus_w: float | None, slack_s: float | None, kind: DecisionKind
) -> None:
    assert kinds(alone(surplus_w, job("1", home="a", slack_s=slack_s))) == {"1": kind}


@pytest.mark.parametrize(
    ("phase", "surplus_w", "slack_s", "may_pause", "kind"),
    [
        (Phase.RUNNING, 0.0, DAY, True, K.PAUSE),
        (Phase.RUNNING, 0.0, DAY, False, K.STAY),
        (Phase.RUNNING, 0.0, 60.0, True, K.STAY),
        (Phase.RUNNING, 0.0, None, True, K.STAY),
        (Phase.RUNNING, 1000.0, DAY, True, K.STAY),
        (Phase.PAUSED, 1000.0, DAY, True, K.RESUME),
        (Phase.PAUSED, 0.0, None, True, K.RESUME),
        (Phase.PAUSED, 0.0, DAY, True, K.STAY),
        (Phase.PAUSED, 0.0, 60.0, True, K.RESUME),
    ],
)
def test_a_job_pauses_and_resumes_with_the_surplus(
    phase: Phase, surplus_w: float, slack_s: float | None, may_pause: bool, kind: DecisionKind
) -> None:
    one = job("1", "a", phase=phase, slack_s=slack_s, may_pause=may_pause)
    # A second that may wait keeps deferral in force where the first may not.
    other = job("2", "a", phase=Phase.HELD, slack_s=DAY)
    assert kinds(alone(surplus_w, one, other))["1"] is kind


def test_surplus_goes_to_those_with_the_least_slack() -> None:
    jobs = [job(str(n), "a", slack_s=n * DAY, may_pause=True) for n in (3, 1, 2)]
    assert kinds(alone(1000.0, *jobs)) == {"1": K.STAY, "2": K.STAY, "3": K.PAUSE}


def test_those_who_cannot_wait_have_the_surplus_first() -> None:
    urgent = job("9", "a", slack_s=60.0, may_pause=True)
    arriving = job("8", "a", phase=Phase.MIGRATING, slack_s=DAY, may_pause=True)
    found = kinds(alone(1000.0, job("1", "a", slack_s=DAY, may_pause=True), urgent, arriving))
    assert found == {"1": K.PAUSE, "8": K.STAY, "9": K.STAY}


def test_a_held_job_starts_where_surplus_is_left_not_at_its_dark_home() -> None:
    view = fleet(
        [
            site("a", surplus_w=0.0, windows=steady(0.0)),
            site("b", surplus_w=600.0, windows=forecast(600.0, 0.0, slot_s=HOUR)),
            site("c", surplus_w=600.0, windows=steady(600.0)),
        ],
        [
            job("1", home="a", slack_s=DAY),
            job("2", home="a", slack_s=2 * DAY),
            job("3", home="a", slack_s=DAY),
        ],
    )
    found = decided(view)
    assert {i: one.target_site for i, one in found.items()} == {"1": "c", "3": "b", "2": None}
    told = {one.site_id: one.rejections for one in found["2"].alternatives}
    assert told["c"] == ("100 W of surplus are left of 500 W",)
    assert "held back for surplus, with 172800 s of slack left" in found["2"].reason


def test_a_paused_job_moves_to_surplus_unless_that_would_make_it_late() -> None:
    sites = [
        site("a", surplus_w=0.0, windows=steady(0.0), slots_held=1),
        site("b", surplus_w=600.0, windows=steady(600.0)),
    ]
    one = job("1", "a", phase=Phase.PAUSED, slack_s=DAY, may_pause=True)
    assert kinds(fleet(sites, [one])) == {"1": K.MIGRATE}
    # 100 GB over a link of 0.2 Gbit/s take 4000 s, and an hour of slack is to be left.
    big = replace(one, checkpoint_bytes=10**11)
    planner = PlannerSettings(gain_margin_frac=0.0, alpha=1.0)
    for slack_s, kind in ((2 * HOUR, K.STAY), (3 * HOUR, K.MIGRATE)):
        view = fleet(sites, [replace(big, slack_s=slack_s)], link_bps=2e8)
        assert [found.kind for found in SternaPolicy().decide(view, planner)] == [kind]


def test_who_must_not_wait_is_started_before_those_who_may() -> None:
    found = decided(alone(500.0, job("1", home="a", slack_s=DAY), job("2", home="a"), slots=1))
    assert found["2"].kind is K.START and found["1"].kind is K.WAIT
    assert found["1"].alternatives[0].rejections == ("its free slots are for those without slack",)


@pytest.mark.parametrize(
    ("held_work_s", "slack_s", "enough"),
    [
        (2 * HOUR, 6 * HOUR, True),  # free in 3 h, 2 h of margin
        (2 * HOUR, 5 * HOUR - 1.0, False),
        (None, 21 * HOUR, True),  # nobody knows when it will be free
        (None, 19 * HOUR, False),
        (2 * HOUR, None, False),
    ],
)
def test_slots_suffice_if_those_who_wait_get_one_in_time(
    held_work_s: float | None, slack_s: float | None, enough: bool
) -> None:
    holder = job("1", "a", slack_s=DAY, may_pause=True, work_s=held_work_s)
    view = alone(0.0, holder, job("2", slack_s=slack_s, work_s=HOUR), slots=1)
    assert slots_suffice(view, DeferralRules()) is enough
    assert (kinds(view)["1"] is K.PAUSE) is enough  # nobody pauses on a slot that another needs


def test_a_fleet_without_slots_has_none_to_give() -> None:
    assert not slots_suffice(fleet([], [job("2", slack_s=HOUR, work_s=HOUR)]), DeferralRules())


JOBS = st.lists(
    st.tuples(
        st.sampled_from(["q", "a", "b", "pa", "pb"]),
        st.sampled_from([None, -60.0, 1800.0, 5 * HOUR, 30 * HOUR]),
        st.sampled_from([None, HOUR, 40 * HOUR]),
        st.booleans(),
    ),
    max_size=8,
)


def made(rows: list[tuple[str, float | None, float | None, bool]], watts: tuple[float, float]) -> FleetView:
    jobs = []
    for number, (where, slack_s, work_s, may_pause) in enumerate(rows):
        paused = where.startswith("p")
        phase = Phase.QUEUED if where == "q" else Phase.PAUSED if paused else Phase.RUNNING
        place = None if where == "q" else where[-1]
        able = may_pause or paused
        jobs.append(
            job(str(number), place, phase=phase, home="a", slack_s=slack_s, may_pause=able, work_s=work_s)
        )
    sites = []
    for name, surplus_w in zip("ab", watts, strict=True):
        held = sum(one.site_id == name for one in jobs)
        sites.append(
            site(name, surplus_w=surplus_w, windows=steady(surplus_w), slots=max(4, held), slots_held=held)
        )
    return fleet(sites, jobs)


@settings(max_examples=150, deadline=None)
@given(rows=JOBS, watts=st.tuples(*[st.sampled_from([0.0, 300.0, 900.0, 4000.0])] * 2))
def test_nobody_without_slack_waits_and_the_short_answer_is_the_long_one(
    rows: list[tuple[str, float | None, float | None, bool]], watts: tuple[float, float]
) -> None:
    view, planner = made(rows, watts), PlannerSettings(gain_margin_frac=0.0)
    found = decided(view)
    assert set(found) == set(view.jobs)
    free = {name: one.slots - one.slots_held for name, one in view.sites.items()}
    for job_id, one in found.items():
        if one.kind in (K.START, K.MIGRATE):
            free[str(one.target_site)] -= 1
        if one.kind is K.PAUSE:
            assert may_wait(view.jobs[job_id], DeferralRules())
    assert min(free.values()) >= 0
    for job_id, one in view.jobs.items():
        if one.phase is Phase.PAUSED and found[job_id].kind is K.STAY:
            assert may_wait(one, DeferralRules())
        if one.phase is Phase.QUEUED and found[job_id].kind is K.WAIT and sum(free.values()):
            assert may_wait(one, DeferralRules())
    brief = {(d.job_id, d.kind, d.target_site) for d in changes_of(SternaPolicy(), view, planner)}
    changing = {(d.job_id, d.kind, d.target_site) for d in found.values() if d.kind not in (K.STAY, K.WAIT)}
    assert brief == changing
