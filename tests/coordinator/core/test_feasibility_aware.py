"""Feasibility-aware: leave when the surplus ends, for the feasible destination that gains most."""

from dataclasses import replace
from typing import Any

import pytest

from coordinator.core.judgement import judge, judge_everywhere
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.model.decision import Alternative, Decision, DecisionKind
from coordinator.model.view import FleetView, LinkView, Phase, SiteView
from sterna.errors import PermanentError
from tests.coordinator.core.fleets import GBPS, NOW, fleet, forecast, job, site

HOURS = 3600.0


def decide(view: FleetView, **numbers: Any) -> dict[str, Decision]:
    decisions = policy_named("feasibility-aware").decide(view, PlannerSettings(**numbers))
    assert [d.job_id for d in decisions] == sorted(view.jobs)
    return {d.job_id: d for d in decisions}


def sunny(site_id: str, hours: float = 4.0, watts: float = 2000.0, **more: Any) -> SiteView:
    return site(site_id, surplus_w=watts, windows=forecast(watts, 0.0, slot_s=hours * HOURS), **more)


def dark(site_id: str, **more: Any) -> SiteView:
    return site(site_id, surplus_w=0.0, windows=forecast(0.0, 0.0, slot_s=HOURS), **more)


def told(decision: Decision) -> dict[str, Alternative]:
    return {a.site_id: a for a in decision.alternatives}


def test_depleted_goes_to_the_longest_window() -> None:
    got = decide(fleet([dark("a"), sunny("b", 2), sunny("c", 5)], [job("j", "a")]))["j"]
    assert (got.kind, got.source_site, got.target_site) == (DecisionKind.MIGRATE, "a", "c")
    assert got.predicted_s == pytest.approx(1 + 8 + 2 + 1)
    assert got.reserved_bps == GBPS
    assert told(got)["c"].rejections == ()
    assert told(got)["b"].rejections == ("c gains as much or more",)
    assert told(got)["a"].rejections == (
        "the surplus at a no longer covers the job, or ends before a move could",
    )
    assert told(got)["c"].score == pytest.approx(5 * HOURS - 12)


def test_with_surplus_it_stays_however_much_another_site_gains() -> None:
    got = decide(fleet([sunny("a", 1), sunny("b", 9)], [job("j", "a")]))["j"]
    assert (got.kind, got.reason) == (DecisionKind.STAY, "the surplus here covers it for 3600.0 s more")
    assert told(got)["b"].rejections == ("the surplus here lasts 3600.0 s, longer than the move of 12.0 s",)


def test_leaves_before_the_end_when_the_window_ends_within_the_move() -> None:
    ending = site("a", surplus_w=2000.0, windows=forecast(2000.0, 0.0, slot_s=10.0))
    got = decide(fleet([ending, sunny("b", 1)], [job("j", "a")]))["j"]
    assert got.kind is DecisionKind.MIGRATE


def test_windows_of_a_minute_are_windows() -> None:
    view = fleet(
        [dark("a"), site("b", surplus_w=900.0, windows=forecast(*[900.0] * 8, 0.0, slot_s=7.5))],
        [replace(job("j", "a", checkpoint_bytes=8_000_000), seal_s=0.5, load_s=1.0, downtime_s=0.5)],
        link_bps=40e6,
    )
    got = decide(view)["j"]
    assert (got.kind, got.predicted_s) == (DecisionKind.MIGRATE, pytest.approx(3.6))


@pytest.mark.parametrize(
    ("destination", "change", "rejection"),
    [
        (sunny("b", 4, available=False), {}, "the site is not available"),
        (sunny("b", 4, draining=True), {}, "the site is draining"),
        (sunny("b", 4, shed=True), {}, "the site asks for jobs to be moved away"),
        (sunny("b", 4, slots_held=2), {}, "no free slot: all 2 are held"),
        (sunny("b", 4, ok=False), {}, "window: no window is open"),
        (site("b", surplus_w=None, windows=forecast(2000.0)), {}, "window: no window is open"),
        (site("b", surplus_w=2000.0), {}, "window: no window is open"),
        (sunny("b", 4, watts=400.0), {}, "window: no window is open"),
        (sunny("b", 0.03), {}, "time: 12.000 s, but 0.1 of the window left on arrival is 9.600 s"),
        (sunny("b", 4), {"may_migrate": False}, "the job may not migrate"),
        (
            sunny("b", 4),
            {"resident_since": NOW, "min_residence_s": 60.0},
            "resident for 0.0 s, at least 60.0 s",
        ),
        (sunny("b", 4), {"checkpoint_bytes": None}, "checkpoint: not known"),
        (sunny("b", 4), {"checkpoint_bytes": 0}, "checkpoint: not known"),
        (sunny("b", 4), {"power_w": 0.0}, "break_even: the move would avoid no non-renewable energy"),
    ],
)
def test_why_it_stays(destination: SiteView, change: dict[str, Any], rejection: str) -> None:
    got = decide(fleet([dark("a"), destination], [replace(job("j", "a"), **change)]))["j"]
    assert got.kind is DecisionKind.STAY
    assert any(r.startswith(rejection) for r in told(got)["b"].rejections), told(got)["b"].rejections


@pytest.mark.parametrize(
    ("link_bps", "rejection"), [(None, "link: not known"), (0.0, "link: 0 bit/s cannot be used")]
)
def test_without_a_link_there_is_no_move(link_bps: float | None, rejection: str) -> None:
    got = decide(fleet([dark("a"), sunny("b")], [job("j", "a")], link_bps=link_bps))["j"]
    assert got.kind is DecisionKind.STAY
    assert any(r.startswith(rejection) for r in told(got)["b"].rejections)


def test_every_failing_reason_is_kept() -> None:
    view = fleet(
        [dark("a"), dark("b", slots_held=2, shed=True)], [job("j", "a", may_migrate=False)], link_bps=0
    )
    names = [r.split(":")[0] for r in told(decide(view)["j"])["b"].rejections]
    assert names == [
        "the site asks for jobs to be moved away",
        "no free slot",
        "the job may not migrate",
        "link",
        "window",
    ]


def test_the_gain_must_exceed_its_margin() -> None:
    # Staying has its own window again soon; what the move gains is the gap only.
    soon = site("a", surplus_w=0.0, windows=forecast(0.0, *[2000.0] * 9, slot_s=600.0))
    view = fleet([soon, sunny("b", 1.5)], [job("j", "a")])
    assert decide(view, gain_margin_frac=0.2)["j"].kind is DecisionKind.STAY
    assert decide(view, gain_margin_frac=0.0, gain_margin_s=500.0)["j"].kind is DecisionKind.MIGRATE
    assert decide(view, gain_margin_frac=0.0, gain_margin_s=600.0)["j"].kind is DecisionKind.STAY


def test_epsilon_decides_which_quantile_is_relied_on() -> None:
    unsure = site("b", surplus_w=900.0, windows=forecast(900.0, *[600.0] * 20, slot_s=30.0, spread=0.5))
    view = fleet([dark("a"), unsure], [job("j", "a")])
    assert decide(view, epsilon=0.5)["j"].kind is DecisionKind.MIGRATE
    assert decide(view, epsilon=0.1)["j"].kind is DecisionKind.STAY
    assert decide(view, epsilon=0.05)["j"].kind is DecisionKind.STAY  # nothing is stated below 0.10


def test_one_slot_goes_to_the_job_that_gains_most_and_ties_to_the_first_id() -> None:
    view = fleet(
        [dark("a"), sunny("b", 4, slots=1)],
        [job("j1", "a", checkpoint_bytes=5_000_000_000), job("j2", "a"), job("j3", "a")],
    )
    got = decide(view)
    assert [d.kind.value for d in got.values()] == ["stay", "migrate", "stay"]


def test_two_transfers_never_share_a_promised_link() -> None:
    view = fleet([dark("a"), sunny("b", 4)], [job("j1", "a"), job("j2", "a")])
    got = decide(view)
    assert (got["j1"].kind, got["j2"].kind) == (DecisionKind.MIGRATE, DecisionKind.STAY)
    assert any(r.startswith("link: 0 bit/s") for r in told(got["j2"])["b"].rejections)


def test_surplus_is_not_promised_twice() -> None:
    view = fleet([dark("a"), dark("c"), sunny("b", 4, watts=800.0)], [job("j1", "a"), job("j2", "c")])
    assert [d.kind.value for d in decide(view).values()] == ["migrate", "stay"]


def test_surplus_for_one_of_two_moves_one_of_two() -> None:
    view = fleet(
        [sunny("a", 4, watts=600.0), sunny("b", 4)],
        [job("new", "a", resident_s=100.0), job("old", "a", resident_s=9000.0)],
    )
    got = decide(view)
    assert (got["new"].kind, got["old"].kind) == (DecisionKind.MIGRATE, DecisionKind.STAY)


def test_incoming_jobs_count_at_their_destination() -> None:
    coming = job("c", "x", phase=Phase.MIGRATING, bound_for="b")
    view = fleet([dark("a"), dark("x"), sunny("b", 4, watts=800.0, slots_held=1)], [job("j", "a"), coming])
    got = decide(view)
    assert got["j"].kind is DecisionKind.STAY
    assert (got["c"].kind, got["c"].reason) == (DecisionKind.STAY, "a migration of the job is under way")


def test_a_drained_site_lets_go_at_any_price_but_never_of_a_job_that_may_not_move() -> None:
    view = fleet(
        [sunny("a", 4, draining=True), dark("b"), dark("c", available=False)],
        [job("j", "a", resident_s=0.0, min_residence_s=900.0), job("fixed", "a", may_migrate=False)],
    )
    got = decide(view)
    assert (got["j"].target_site, got["fixed"].kind) == ("b", DecisionKind.STAY)
    assert told(got["j"])["b"].rejections == ()
    assert not told(got["j"])["b"].feasible


def test_a_drained_site_prefers_a_feasible_destination() -> None:
    view = fleet([sunny("a", 4, draining=True), dark("b"), sunny("c", 1)], [job("j", "a")])
    assert decide(view)["j"].target_site == "c"


def test_a_site_that_must_shed_moves_at_once_but_only_where_it_is_feasible() -> None:
    sheds = sunny("a", 4, shed=True)
    fresh = job("j", "a", resident_s=0.0, min_residence_s=900.0)
    assert decide(fleet([sheds, dark("b"), sunny("c", 1)], [fresh]))["j"].target_site == "c"
    got = decide(fleet([sheds, dark("b")], [fresh]))["j"]
    assert (got.kind, got.reason) == (
        DecisionKind.STAY,
        "a asks for jobs to be moved away, but no destination can take it",
    )


def test_unknown_surplus_at_home_is_no_surplus() -> None:
    blind = site("a", surplus_w=2000.0, ok=False, windows=forecast(2000.0, 0.0, slot_s=600.0))
    assert decide(fleet([blind, sunny("b", 4)], [job("j", "a")]))["j"].kind is DecisionKind.MIGRATE


def test_starts_at_home_else_in_the_longest_window_else_anywhere() -> None:
    sites = [dark("a"), sunny("b", 2), sunny("c", 5)]
    assert decide(fleet(sites, [job("j", home="a")]))["j"].target_site == "a"
    assert decide(fleet(sites, [job("j")]))["j"].target_site == "c"
    full = [dark("a", slots_held=2), dark("d"), dark("e")]
    got = decide(fleet(full, [job("j", home="a")]))["j"]
    assert (got.kind, got.target_site) == (DecisionKind.START, "d")
    assert told(got)["e"].rejections == ("d offers as many renewable seconds or more",)


def test_queued_work_with_progress_waits_for_a_holder() -> None:
    got = decide(fleet([sunny("a"), sunny("b", slots=0)], [job("j", home="a", progress=True, held_at={"b"})]))
    assert (got["j"].kind, got["j"].target_site) == (DecisionKind.WAIT, None)
    assert all(a.rejections for a in got["j"].alternatives)


def test_a_job_at_a_site_nobody_knows_is_left_alone() -> None:
    got = decide(fleet([sunny("b")], [job("j", "gone"), job("k", "gone", phase=Phase.HELD)]))
    assert [d.kind.value for d in got.values()] == ["stay", "stay"]


def test_judge_is_the_same_judgement_without_hysteresis() -> None:
    view = fleet([sunny("a", 4), sunny("b", 2), dark("c")], [job("j", "a"), job("q")])
    assert judge(view, "j", "b", PlannerSettings()).rejections == ()
    assert [r.split(":")[0] for r in judge(view, "j", "c", PlannerSettings()).rejections] == ["window"]
    assert judge(view, "j", "a", PlannerSettings()).rejections == ("the job is there already",)
    assert judge(view, "q", "c", PlannerSettings()).feasible
    for pair in (("x", "a"), ("j", "x")):
        with pytest.raises(PermanentError, match=r"no (job|site) x"):
            judge(view, *pair, PlannerSettings())
    for name in ("j", "q"):
        one_by_one = {site: judge(view, name, site, PlannerSettings()) for site in "abc"}
        assert judge_everywhere(view, name, PlannerSettings()) == one_by_one


def test_terms_carry_figure_limit_and_remedy() -> None:
    terms = {
        t.name: t
        for t in judge(
            fleet([dark("a"), sunny("b", 0.03)], [job("j", "a")]), "j", "b", PlannerSettings()
        ).terms
    }
    assert list(terms) == [
        "slots", "surplus", "seal", "transfer", "load", "downtime", "window", "time", "energy", "break_even",
        "probability", "gain",
    ]  # fmt: skip
    assert (terms["time"].value, terms["time"].limit, terms["time"].satisfied) == (
        12.0,
        pytest.approx(9.6),
        False,
    )
    assert "a window of more than 132 s from now" in terms["time"].remedy
    assert "a checkpoint below 727.3 MB" in terms["time"].remedy


def test_a_link_named_alone_is_directed() -> None:
    view = fleet(
        [dark("a"), sunny("b")], [job("j", "a")], links=[LinkView(source="b", destination="a", free_bps=GBPS)]
    )
    assert decide(view)["j"].kind is DecisionKind.STAY
