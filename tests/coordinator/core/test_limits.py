"""What grid limits leave for jobs, and that every policy keeps to it."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import moving
from coordinator.core.bookings import Bookings
from coordinator.core.judgement import judge_everywhere
from coordinator.core.limits import AHEAD_S, LEAVE_S, Ceilings
from coordinator.core.policies import policy_named, policy_names
from coordinator.core.policy import PlannerSettings
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.site import ActiveLimit
from coordinator.model.view import FleetView, JobView, Phase, SiteView
from tests.coordinator.core.fleets import NOW, fleet, forecast, job, site
from tests.coordinator.core.test_planner_laws import fleets

SUNNY = forecast(*[2000.0] * 12, slot_s=3600.0)
every_policy = pytest.mark.parametrize("name", policy_names())
moves_jobs = pytest.mark.parametrize("name", [name for name in policy_names() if name != "static"])


def limit(limit_w: float, *, start_s: float = -60.0, end_s: float | None = None) -> ActiveLimit:
    return ActiveLimit(
        source="mqtt:dso",
        command_id=f"c{limit_w:.0f}",
        limit_w=limit_w,
        start_at=NOW + timedelta(seconds=start_s),
        end_at=None if end_s is None else NOW + timedelta(seconds=end_s),
        reason="",
    )


def limited(where: SiteView, *limits: ActiveLimit, others_w: float | None = 0.0) -> SiteView:
    return replace(where, limits=limits, others_w=others_w)


def decide(name: str, view: FleetView) -> dict[str, Decision]:
    return {one.job_id: one for one in policy_named(name).decide(view, PlannerSettings())}


@pytest.mark.parametrize(
    ("limits", "others_w", "arrives_s", "most_w"),
    [
        ((), 0.0, 0.0, inf),
        ((limit(1000.0),), 200.0, 0.0, 800.0),
        ((limit(1000.0),), -500.0, 0.0, 1500.0),
        ((limit(1000.0),), None, 0.0, -inf),
        ((limit(1000.0, end_s=600.0),), 0.0, 599.0, 1000.0),
        ((limit(1000.0, end_s=600.0),), 0.0, 600.0, inf),
        ((limit(1000.0, start_s=AHEAD_S - 1.0),), 0.0, 0.0, 1000.0),
        ((limit(1000.0, start_s=AHEAD_S),), 0.0, 0.0, inf),
        ((limit(1000.0, start_s=AHEAD_S),), 0.0, 1.0, 1000.0),
        ((limit(900.0), limit(700.0, start_s=1800.0)), 0.0, 0.0, 700.0),
        ((limit(900.0), limit(700.0, start_s=1800.0)), 100.0, float("nan"), 600.0),
        ((limit(900.0, end_s=-1.0),), 0.0, 0.0, inf),
    ],
)
def test_what_limits_leave(
    limits: Sequence[ActiveLimit], others_w: float | None, arrives_s: float, most_w: float
) -> None:
    view = fleet([limited(site("a", windows=SUNNY), *limits, others_w=others_w), site("b")])
    ceilings = Ceilings(view, ["a", "b"])
    bound = ceilings.binding(0, arrives_s)
    assert (inf if bound is None else bound.most_w) == most_w
    columns = np.arange(2)
    assert ceilings.most_w(columns, np.full((3, 2), arrives_s)).tolist() == [[most_w, inf]] * 3
    assert ceilings.most_w(columns[1:], np.array([arrives_s])).tolist() == [inf]
    assert bool(ceilings) is bool(limits)


@pytest.mark.parametrize(
    ("surpluses", "most_w"),
    [
        ((800.0, 800.0), 1800.0),
        ((800.0, 300.0), 1300.0),
        ((800.0, 0.0), 1000.0),
        ((800.0, 5000.0), 1800.0),
        ((800.0,), 1000.0),
        ((), 1000.0),
    ],
)
def test_the_surplus_counts_as_its_lowest_in_the_hour_after(
    surpluses: tuple[float, ...], most_w: float
) -> None:
    windows = forecast(*surpluses, slot_s=1800.0, start_s=-600.0) if surpluses else None
    sunny = limited(site("a", surplus_w=800.0, windows=windows), limit(1000.0, end_s=2000.0), others_w=-800.0)
    bound = Ceilings(fleet([sunny]), ["a"]).binding(0, 0.0)
    assert bound is not None
    assert bound.most_w == most_w
    assert bound.now_w == 1800.0


def test_what_runs_comes_and_is_on_its_way_out_all_counts() -> None:
    view = fleet(
        [limited(site("a", slots=9), limit(2000.0)), site("b")],
        [
            job("1", "a", power_w=300.0),
            job("2", "a", power_w=200.0, phase=Phase.MIGRATING, bound_for="b"),
            job("3", "b", power_w=400.0, phase=Phase.MIGRATING, bound_for="a"),
            job("4", "a", power_w=100.0, phase=Phase.HELD),
            job("5", power_w=150.0),
        ],
    )
    bookings = Bookings(view)
    assert bookings.rooms_w(np.zeros(2)).tolist() == [1000.0, inf]
    bookings.start(view.jobs["5"], "a")
    bookings.move(view.jobs["1"], "b", 1.0)
    assert bookings.rooms_w(np.zeros(2)).tolist() == [850.0, inf], "what leaves is drawn until it has left"
    assert not bookings.against(job("6", power_w=850.0), "a")
    assert bookings.against(job("6", power_w=851.0), "a")


@every_policy
def test_a_start_goes_elsewhere_or_waits_and_says_why(name: str) -> None:
    home = limited(site("a", surplus_w=2000.0, windows=SUNNY), limit(700.0, end_s=7200.0), others_w=400.0)
    view = fleet([home, site("b")], [job("j", home="a", power_w=450.0)])
    decision = decide(name, view)["j"]
    static = name == "static"
    assert decision.kind is (DecisionKind.WAIT if static else DecisionKind.START)
    assert decision.target_site == (None if static else "b")
    told = {one.site_id: one for one in decision.alternatives}["a"]
    assert told.rejections == (
        "the grid limit at a leaves 300 W, the job draws 450 W; would fit after 2026-06-01 14:00 UTC or with "
        "a limit of 850 W",
    )
    assert not told.feasible
    (term,) = [term for term in told.terms if term.name == "grid_limit"]
    assert (term.value, term.limit, term.unit, term.satisfied) == (300.0, 450.0, "W", False)
    assert term.remedy == "150 W more under the limit"


@every_policy
def test_an_unknown_import_leaves_nothing_under_a_limit(name: str) -> None:
    home = limited(site("a", surplus_w=2000.0, windows=SUNNY), limit(9000.0), others_w=None)
    decision = decide(name, fleet([home], [job("j", home="a", power_w=450.0)]))["j"]
    assert decision.kind is DecisionKind.WAIT
    assert decision.alternatives[0].rejections == (
        "what the grid limit of 9000 W at a leaves is not known: the import there is not measured",
    )


def test_a_limit_to_come_is_told_with_its_time() -> None:
    home = limited(site("a"), limit(300.0, start_s=1800.0), limit(200.0, start_s=2400.0, end_s=3000.0))
    bookings = Bookings(fleet([home]))
    said = bookings.against(job("j", power_w=450.0), "a")
    assert said == (
        "the grid limit at a leaves 200 W from 2026-06-01 12:40 UTC on, the job draws 450 W; would fit with "
        "a limit of 450 W"
    )
    assert "after 2026-06-01 12:50 UTC" in bookings.against(job("j", power_w=250.0), "a")


@moves_jobs
def test_nobody_goes_where_a_limit_leaves_no_room(name: str) -> None:
    sunny = site("b", surplus_w=2000.0, windows=SUNNY)
    others = [site("a", windows=forecast(0.0)), sunny]
    jobs = [job("j", "a", power_w=500.0)]
    assert decide(name, fleet(others, jobs))["j"].target_site == "b"
    others[1] = limited(sunny, limit(499.0), others_w=0.0)
    view = fleet(others, jobs)
    decision = decide(name, view)["j"]
    assert decision.kind is DecisionKind.STAY
    by_hand = judge_everywhere(view, "j", PlannerSettings())["b"]
    assert not by_hand.feasible
    assert any("would fit with a limit of 500 W" in text for text in by_hand.rejections)
    draining = fleet([replace(others[0], draining=True, available=False), others[1]], jobs)
    assert decide(name, draining)["j"].kind is DecisionKind.STAY


@moves_jobs
@pytest.mark.parametrize("bulk", [False, True])
def test_a_site_over_its_limit_gives_up_what_it_cannot_feed(
    name: str, bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bulk:
        monkeypatch.setattr(moving, "FEW_PAIRS", 0)
        monkeypatch.setattr(moving, "LARGE_PAIRS", 0)
    sunny = forecast(*[4000.0] * 12, slot_s=3600.0)
    here = limited(site("a", surplus_w=800.0, windows=sunny, slots=4), limit(0.0), others_w=-800.0)
    jobs = [job(f"j{n}", "a", power_w=400.0, resident_s=5.0, min_residence_s=600.0) for n in range(4)]
    view = fleet([here, site("b", surplus_w=4000.0, windows=sunny, slots=4)], jobs)
    decisions = decide(name, view).values()
    moved = [one for one in decisions if one.kind is DecisionKind.MIGRATE]
    # A link carries one at a time where rates are promised; `energy-only` promises none.
    assert len(moved) == (2 if name == "energy-only" else 1)
    if name != "energy-only":
        assert moved[0].reason.startswith("the grid limit at a leaves less than the jobs there draw")
    ends = limit(0.0, end_s=3.0)
    soon = fleet([limited(here, ends, others_w=-800.0), view.sites["b"]], jobs)
    if name != "energy-only":
        assert all(one.kind is DecisionKind.STAY for one in decide(name, soon).values()), (
            "a move takes longer"
        )


def test_where_a_job_is_its_limit_is_a_term_for_all_who_are_there() -> None:
    here = limited(site("a"), limit(700.0))
    view = fleet([here], [job("1", "a", power_w=400.0), job("2", "a", power_w=500.0)])
    told = judge_everywhere(view, "1", PlannerSettings())["a"]
    (term,) = [term for term in told.terms if term.name == "grid_limit"]
    assert (term.value, term.limit, term.satisfied) == (700.0, 900.0, False)
    assert term.remedy == "200 W more under the limit"
    assert decide("sterna", view)["1"].reason == (
        "the grid limit at a leaves less than the jobs there draw, but no destination can take it"
    )


@moves_jobs
def test_who_was_moved_away_does_not_come_back_before_the_limit_ends(name: str) -> None:
    sunny = forecast(*[4000.0] * 12, slot_s=3600.0)
    here = site("a", surplus_w=4000.0, windows=sunny)
    stays, gone = job("1", "a", power_w=400.0), job("2", "b", power_w=400.0)
    dark = site("b", windows=forecast(0.0))
    assert decide(name, fleet([here, dark], [stays, gone]))["2"].target_site == "a"
    under = limited(here, limit(500.0, end_s=7200.0), others_w=0.0)
    assert decide(name, fleet([under, dark], [stays, gone]))["2"].kind is DecisionKind.STAY
    after = limited(here, limit(500.0, end_s=1.0), others_w=0.0)
    comes_back = decide(name, fleet([after, dark], [stays, gone]))["2"].kind is DecisionKind.MIGRATE
    assert comes_back is (name != "energy-only"), "it would arrive when the limit has ended"


@pytest.mark.parametrize(
    ("limits", "others_w", "lasts_s"),
    [
        ((), 0.0, None),
        ((limit(900.0),), 0.0, inf),
        ((limit(900.0),), None, None),
        ((limit(1000.0),), 0.0, None),
        ((limit(900.0, end_s=60.0),), 0.0, 60.0),
        ((limit(900.0, start_s=LEAVE_S, end_s=LEAVE_S + 60.0),), 0.0, 60.0),
        ((limit(900.0, start_s=LEAVE_S + 1.0),), 0.0, None),
        ((limit(900.0, end_s=60.0), limit(700.0, start_s=60.0, end_s=600.0)), 0.0, 540.0),
        ((limit(900.0, end_s=-1.0),), 0.0, None),
    ],
)
def test_which_limit_presses_jobs_to_leave(
    limits: Sequence[ActiveLimit], others_w: float | None, lasts_s: float | None
) -> None:
    view = fleet([limited(site("a"), *limits, others_w=others_w)], [job("j", "a", power_w=1000.0)])
    bound = Bookings(view).pressing("a")
    assert (None if bound is None else bound.lasts_s) == lasts_s


def test_surplus_to_come_counts_against_a_limit_to_come() -> None:
    for watts, presses in ((500.0, False), (400.0, True)):
        here = site("a", surplus_w=900.0, windows=forecast(900.0, watts, slot_s=1500.0, start_s=-900.0))
        soon = limited(here, limit(500.0, start_s=900.0, end_s=1800.0), others_w=-900.0)
        view = fleet([soon], [job("j", "a", power_w=1000.0)])
        assert (Bookings(view).pressing("a") is not None) is presses


@pytest.mark.parametrize("name", ["feasibility-aware", "sterna"])
@pytest.mark.parametrize("bulk", [False, True])
def test_a_job_leaves_before_a_limit_begins(name: str, bulk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if bulk:
        monkeypatch.setattr(moving, "FEW_PAIRS", 0)
        monkeypatch.setattr(moving, "LARGE_PAIRS", 0)

    def decided(*limits: ActiveLimit, there: tuple[ActiveLimit, ...] = (), size_gb: int = 1) -> Decision:
        sites = [limited(site("a"), *limits), limited(site("b"), *there)]
        mine = job("j", "a", power_w=500.0, checkpoint_bytes=size_gb * 10**9, resident_s=1.0)
        return decide(name, fleet(sites, [mine]))["j"]

    evening = limit(300.0, start_s=1200.0, end_s=4 * 3600.0)
    left = decided(evening)
    # Nobody has any surplus: what counts is for how long it would stand still.
    assert (left.kind, left.target_site) == (DecisionKind.MIGRATE, "b")
    assert left.reason.startswith("leaves before the limit of 0.3 kW at 12:20 UTC; b gains the most")
    assert decided(limit(300.0, start_s=LEAVE_S + 1.0)).kind is DecisionKind.STAY, "it runs here until then"
    assert decided(limit(500.0, start_s=1200.0)).kind is DecisionKind.STAY, "there is room for it"
    assert decided(limit(300.0, start_s=1200.0, end_s=1260.0)).kind is DecisionKind.STAY, "it is soon over"
    assert decided(evening, size_gb=600).kind is DecisionKind.STAY, "the move takes a third of that time"
    stays = decided(evening, there=(limit(400.0, start_s=7200.0),))
    assert stays.kind is DecisionKind.STAY, "it would stand still there, too"
    assert stays.reason == (
        "would leave before the limit of 0.3 kW at 12:20 UTC, but no destination can take it"
    )
    assert decided(evening, there=(limit(400.0, start_s=5 * 3600.0),)).target_site == "b"


@pytest.mark.parametrize("name", ["feasibility-aware", "sterna"])
def test_only_those_leave_who_would_stand_still(name: str) -> None:
    here = limited(site("a", slots=4), limit(1000.0, start_s=600.0, end_s=4 * 3600.0))
    jobs = [job(f"j{n}", "a", power_w=400.0, resident_s=1.0) for n in range(4)]
    sites = [here, site("b", slots=9), site("c", slots=9), site("d", slots=9)]
    moved = [one for one in decide(name, fleet(sites, jobs)).values() if one.kind is DecisionKind.MIGRATE]
    assert len(moved) == 2


@every_policy
def test_an_emergency_lets_nobody_in(name: str) -> None:
    home = replace(site("a", surplus_w=2000.0, windows=SUNNY), emergency=True)
    decision = decide(name, fleet([home], [job("j", home="a")]))["j"]
    assert decision.kind is DecisionKind.WAIT
    assert decision.alternatives[0].rejections == ("a grid emergency is in force there",)


@pytest.mark.parametrize(
    ("limit_w", "others_w", "resumed"),
    [(1000.0, 0.0, ["p1", "p2"]), (999.0, 0.0, ["p1"]), (499.0, 0.0, []), (5000.0, None, [])],
)
def test_who_pauses_goes_on_only_where_the_limit_leaves_room(
    limit_w: float, others_w: float | None, resumed: list[str]
) -> None:
    here = limited(site("a", surplus_w=2000.0, windows=SUNNY, slots=4), limit(limit_w), others_w=others_w)
    waiting = [
        job(f"p{n}", "a", phase=Phase.PAUSED, slack_s=20_000.0 + n, may_pause=True, work_s=7200.0)
        for n in (1, 2)
    ]
    decisions = decide("sterna", fleet([here], waiting))
    assert [key for key, one in decisions.items() if one.kind is DecisionKind.RESUME] == resumed
    for one in decisions.values():
        if one.kind is DecisionKind.STAY:
            assert one.reason.startswith("held back for surplus under the grid limit")


# Laws


@st.composite
def limited_fleets(draw: st.DrawFn) -> FleetView:
    view = draw(fleets())
    ends = st.sampled_from([None, 1.0, 60.0, 5_000.0])
    some = st.builds(
        limit, st.floats(0.0, 3000.0), start_s=st.sampled_from([-60.0, 10.0, 3_000.0, 9_000.0]), end_s=ends
    )
    proper = some.filter(lambda one: one.end_at is None or one.end_at > one.start_at)
    sites = {
        site_id: replace(
            one,
            limits=tuple(draw(st.lists(proper, max_size=3))),
            others_w=draw(st.one_of(st.none(), st.floats(-2000.0, 2000.0))),
        )
        for site_id, one in view.sites.items()
    }
    return replace(view, sites=sites)


def drawn_w(view: FleetView, site_id: str) -> float:
    return sum(one.power_w for one in view.jobs.values() if site_id in (one.site_id, one.bound_for))


def known_in_an_hour(one: ActiveLimit) -> bool:
    """Whether a limit counts for whoever comes at once, and still holds when the slowest has come."""
    return one.start_at < NOW + timedelta(seconds=AHEAD_S) and one.end_at is None


def arrivals_w(view: FleetView, decisions: Sequence[Decision]) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in decisions:
        if one.kind in (DecisionKind.START, DecisionKind.MIGRATE):
            found[one.target_site or ""] += view.jobs[one.job_id].power_w  # type: ignore[assignment]
    return found


@every_policy
@pytest.mark.parametrize("bulk", [False, True])
@settings(max_examples=60, deadline=None)
@given(view=limited_fleets())
def test_no_policy_sends_more_than_a_limit_leaves(name: str, bulk: bool, view: FleetView) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if bulk:
            patch.setattr(moving, "FEW_PAIRS", 0)
        decisions = policy_named(name).decide(view, PlannerSettings())
    for site_id, coming_w in arrivals_w(view, decisions).items():
        here = view.sites[site_id]
        for one in filter(known_in_an_hour, here.limits):
            assert here.others_w is not None, "nobody knows what this limit leaves"
            assert coming_w == 0.0 or drawn_w(view, site_id) + coming_w <= one.limit_w - here.others_w + 1e-5


@every_policy
@settings(max_examples=60, deadline=None)
@given(view=limited_fleets(), less_w=st.floats(0.0, 500.0))
def test_a_lower_limit_never_lets_more_in(name: str, view: FleetView, less_w: float) -> None:
    def lowered(here: SiteView) -> SiteView:
        limits = tuple(replace(one, limit_w=max(0.0, one.limit_w - less_w)) for one in here.limits)
        return replace(here, limits=limits)

    lower = replace(view, sites={site_id: lowered(one) for site_id, one in view.sites.items()})
    for job_id in view.jobs:
        before = judge_everywhere(view, job_id, PlannerSettings())
        for site_id, one in judge_everywhere(lower, job_id, PlannerSettings()).items():
            assert before[site_id].feasible or not one.feasible
    assert decide(name, view).keys() == decide(name, lower).keys()


def postponed(view: FleetView, by_s: float, more_w: float) -> FleetView:
    """The fleet with every limit so much later and looser; one without an end has none still."""

    def later(one: ActiveLimit) -> ActiveLimit:
        start_at, end_at = one.start_at + timedelta(seconds=by_s), one.end_at
        return replace(
            one,
            start_at=start_at if end_at is None else min(start_at, end_at),
            limit_w=one.limit_w + more_w,
        )

    sites = {
        site_id: replace(one, limits=tuple(later(limit) for limit in one.limits))
        for site_id, one in view.sites.items()
    }
    return replace(view, sites=sites)


@st.composite
def plain_limited_fleets(draw: st.DrawFn) -> FleetView:
    """Without forecasts, so that the surplus ahead is the same whenever a limit begins."""
    view = draw(limited_fleets())
    sites = {site_id: replace(one, forecast=None) for site_id, one in view.sites.items()}
    return replace(view, sites=sites)


@settings(max_examples=100, deadline=None)
@given(view=plain_limited_fleets(), by_s=st.floats(0.0, 5_000.0), more_w=st.floats(0.0, 500.0))
def test_a_farther_or_looser_limit_never_presses_or_keeps_out_more(
    view: FleetView, by_s: float, more_w: float
) -> None:
    before, after = Bookings(view), Bookings(postponed(view, by_s, more_w))
    at_s = np.zeros(len(view.sites))
    assert (after.rooms_w(at_s) >= before.rooms_w(at_s) - 1e-6).all()
    for site_id in view.sites:
        assert before.pressing(site_id) is not None or after.pressing(site_id) is None


@pytest.mark.parametrize("name", ["feasibility-aware", "sterna"])
@settings(max_examples=60, deadline=None)
@given(view=plain_limited_fleets(), by_s=st.floats(0.0, 5_000.0), more_w=st.floats(0.0, 500.0))
def test_a_looser_limit_never_leaves_a_job_behind(
    name: str, view: FleetView, by_s: float, more_w: float
) -> None:
    # One job, since of several the order decides who gets a slot or a link that both want.
    for job_id in view.jobs:
        alone = replace(view, jobs={job_id: view.jobs[job_id]})
        looser = postponed(alone, 0.0, more_w)
        assert not left_behind(name, looser) or left_behind(name, alone)


def left_behind(name: str, view: FleetView) -> bool:
    """Whether the plan leaves a job where it will stand still, or nowhere."""
    ((job_id, decision),) = decide(name, view).items()
    if decision.kind is DecisionKind.WAIT:
        return True
    presses = Bookings(view).pressing(view.jobs[job_id].site_id or "")
    return decision.kind is DecisionKind.STAY and presses is not None


@every_policy
@settings(max_examples=40, deadline=None)
@given(view=limited_fleets())
def test_a_limit_of_another_day_changes_nothing(name: str, view: FleetView) -> None:
    def with_limits(*limits: ActiveLimit) -> dict[str, tuple[DecisionKind, str | None, str]]:
        sites = {key: replace(one, limits=limits) for key, one in view.sites.items()}
        # Whoever comes at nobody knows what time may come under any limit.
        jobs = {key: replace(one, checkpoint_bytes=10**9) for key, one in view.jobs.items()}
        found = decide(name, replace(view, sites=sites, jobs=jobs))
        return {key: (one.kind, one.target_site, one.reason) for key, one in found.items()}

    assert with_limits(limit(0.0, start_s=1e8)) == with_limits()


@every_policy
@settings(max_examples=40, deadline=None)
@given(view=limited_fleets())
def test_what_limits_say_is_made_of_figures(name: str, view: FleetView) -> None:
    for decision in policy_named(name).decide(view, PlannerSettings()):
        words = [decision.reason, *(text for one in decision.alternatives for text in one.rejections)]
        for sentence in words:
            assert not re.search(r"\bnan\b|\binf\b|(?<![\w.-])-\d", sentence)
        for alternative in decision.alternatives:
            assert bool(alternative.rejections) == (alternative.site_id != decision.target_site)


def test_without_a_limit_what_is_measured_changes_nothing() -> None:
    jobs: list[JobView] = [job("1", home="a"), job("2", "a")]
    plain = [site("a", surplus_w=800.0, windows=SUNNY), site("b", surplus_w=900.0, windows=SUNNY)]
    metered = [replace(one, others_w=5000.0) for one in plain]
    for name in policy_names():
        assert decide(name, fleet(plain, jobs)) == decide(name, fleet(metered, jobs))
