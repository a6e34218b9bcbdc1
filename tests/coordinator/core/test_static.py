"""Static: home when there is a slot, and there for ever."""

import pytest

from coordinator.core.policies import policy_named, policy_names
from coordinator.core.policy import PlannerSettings
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.view import FleetView, Phase
from sterna.errors import ConfigError
from tests.coordinator.core.fleets import fleet, job, site


def decide(view: FleetView) -> dict[str, Decision]:
    decisions = policy_named("static").decide(view, PlannerSettings())
    assert [d.job_id for d in decisions] == sorted(view.jobs)
    return {d.job_id: d for d in decisions}


def test_starts_at_home_though_another_site_has_the_sun() -> None:
    view = fleet([site("a", surplus_w=9000.0), site("b")], [job("j", home="b")])
    got = decide(view)["j"]
    assert (got.kind, got.target_site, got.reason) == (DecisionKind.START, "b", "starts at its home b")
    rejections = {a.site_id: a.rejections for a in got.alternatives}
    assert rejections == {"a": ("not the job's home, which is b",), "b": ()}


def test_waits_for_a_slot_at_home() -> None:
    view = fleet([site("a"), site("b", slots=2, slots_held=2)], [job("j", home="b")])
    got = decide(view)["j"]
    assert (got.kind, got.target_site) == (DecisionKind.WAIT, None)
    assert all(a.rejections for a in got.alternatives)


def test_the_last_slot_goes_to_one_job() -> None:
    view = fleet([site("b", slots=1)], [job("j1", home="b"), job("j2", home="b")])
    got = decide(view)
    assert (got["j1"].kind, got["j2"].kind) == (DecisionKind.START, DecisionKind.WAIT)


def test_without_home_the_first_site_by_id_that_may_take_it() -> None:
    view = fleet([site("c"), site("b"), site("a", available=False)], [job("j")])
    got = decide(view)["j"]
    assert got.target_site == "b"
    assert got.alternatives[2].rejections == ("b comes first by id",)


def test_progress_starts_only_where_its_checkpoint_is() -> None:
    view = fleet([site("a"), site("b"), site("c")], [job("j", home="a", progress=True, held_at={"c"})])
    assert decide(view)["j"].target_site == "c"


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        (Phase.RUNNING, "static never moves a job"),
        (Phase.MIGRATING, "a migration of the job is under way"),
        (Phase.HELD, "the job is starting, paused by its site or out of contact"),
    ],
)
def test_what_runs_stays_even_when_the_site_drains(phase: Phase, reason: str) -> None:
    view = fleet([site("a", draining=True), site("b", surplus_w=9000.0)], [job("j", "a", phase=phase)])
    got = decide(view)["j"]
    assert (got.kind, got.target_site, got.reason) == (DecisionKind.STAY, "a", reason)


def test_a_site_that_may_not_take_it_says_every_reason() -> None:
    view = fleet(
        [site("a", draining=True, shed=True, slots=1, slots_held=1)], [job("j", progress=True, held_at={"b"})]
    )
    assert decide(view)["j"].alternatives[0].rejections == (
        "the site is draining",
        "the site asks for jobs to be moved away",
        "no free slot: all 1 are held",
        "no verified checkpoint of the job is there, and it has progress to lose",
    )


def test_names() -> None:
    assert "static" in policy_names()
    with pytest.raises(ConfigError, match=r"expected one of .*static"):
        policy_named("statik")


@pytest.mark.parametrize(
    "bad", [{"alpha": 0.0}, {"epsilon": 1.0}, {"eta": 1.2}, {"horizon_s": 0.0}, {"gain_margin_frac": -0.1}]
)
def test_settings_out_of_range(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        PlannerSettings(**bad)
