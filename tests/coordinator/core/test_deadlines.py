"""A job's own deadline: what is left to it, who goes first because of it, and what it keeps the plan from."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.deadlines import deadline_of, deadline_slack_s
from coordinator.core.fleet import fold
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.core.starting import NEAR_S
from coordinator.core.view import ViewSettings, build_view
from coordinator.model import events as ev
from coordinator.model.decision import DecisionKind as Kind
from coordinator.model.fleet import JobState
from coordinator.model.view import JobView
from tests.coordinator.core import fleets
from tests.coordinator.core.histories import NOW, SPEC, at_work, here, submitted

HOUR_S = 3600.0
WORK = replace(SPEC, declared_work_s=HOUR_S)
HOLDING = ViewSettings(hold_back_s=100 * HOUR_S)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("spec", "deadline_at", "slack_s"),
    [
        (WORK, None, None),
        (replace(WORK, deadline_at=after(3 * HOUR_S)), after(3 * HOUR_S), 2 * HOUR_S),
        (replace(WORK, deadline_after_s=3 * HOUR_S), after(3 * HOUR_S), 2 * HOUR_S),
        (replace(WORK, deadline_after_s=0.0), NOW, -HOUR_S),
        (replace(WORK, deadline_at=after(-HOUR_S)), after(-HOUR_S), -2 * HOUR_S),
        (
            replace(SPEC, deadline_after_s=1.0),
            after(1.0),
            None,
        ),  # of a store that was edited: nobody checks it
    ],
)
def test_what_is_left(spec: ev.JobSpec, deadline_at: datetime | None, slack_s: float | None) -> None:
    job = fold(submitted(spec)).jobs["j"]
    assert deadline_of(job) == deadline_at
    assert deadline_slack_s(job, NOW) == slack_s


@given(waited_s=st.floats(0, 1e6), ran_s=st.floats(0, HOUR_S), speed=st.floats(0.1, 1.0))
def test_waiting_uses_it_up_running_does_not_and_running_slowly_does_in_part(
    waited_s: float, ran_s: float, speed: float
) -> None:
    job = fold(submitted(replace(WORK, deadline_after_s=9 * HOUR_S))).jobs["j"]
    assert deadline_slack_s(job, after(waited_s)) == pytest.approx(8 * HOUR_S - waited_s, abs=1e-3)
    runs = replace(job, state=JobState.RUNNING, running_since=after(waited_s), speed_frac=speed)
    left_s = deadline_slack_s(runs, after(waited_s + ran_s))
    assert left_s == pytest.approx(8 * HOUR_S - waited_s - (1.0 - speed) * ran_s, abs=1e-3)


def test_of_a_job_that_has_ended_nothing_is_said() -> None:
    over = ev.JobEnded(at=NOW, job_id="j", state=JobState.COMPLETED, message="")
    state = fold([*at_work(replace(WORK, deadline_after_s=9.0)), over])
    assert deadline_slack_s(state.jobs["j"], NOW) is None


@pytest.mark.parametrize(
    ("settings", "own_s", "slack_s", "spare_s"),
    [
        (ViewSettings(), None, None, None),
        (ViewSettings(), 5 * HOUR_S, None, 4 * HOUR_S),
        (HOLDING, None, 101 * HOUR_S, 101 * HOUR_S),
        (HOLDING, 5 * HOUR_S, 4 * HOUR_S, 4 * HOUR_S),
        (HOLDING, 900 * HOUR_S, 899 * HOUR_S, 899 * HOUR_S),
    ],
)
def test_its_own_deadline_stands_for_the_fleets_and_holds_nobody_back_where_nobody_is(
    settings: ViewSettings, own_s: float | None, slack_s: float | None, spare_s: float | None
) -> None:
    state = fold(submitted(replace(WORK, deadline_after_s=own_s)))
    seen = build_view(state, here(), {}, NOW, settings).jobs["j"]
    assert (seen.slack_s, seen.spare_s) == (slack_s, spare_s)
    assert seen.deadline_slack_s == (None if own_s is None else own_s - HOUR_S)


def queued(job_id: str, *, waited_s: float, left_s: float | None, slack_s: float | None = None) -> JobView:
    job = fleets.job(job_id, work_s=HOUR_S, slack_s=slack_s)
    return replace(job, submitted_at=fleets.NOW - timedelta(seconds=waited_s), deadline_slack_s=left_s)


FIRST = [
    (NEAR_S, None, "near"),
    (0.0, None, "near"),
    (NEAR_S + 1.0, None, "long"),
    (-1.0, None, "long"),  # it cannot be kept: that is no way to the front
    (None, None, "long"),
    (NEAR_S, NEAR_S / 2, "long"),
]


@pytest.mark.parametrize(("left_s", "of_the_other_s", "first"), FIRST)
@pytest.mark.parametrize("policy", ["static", "energy-only", "feasibility-aware", "sterna"])
def test_where_one_slot_is_free_the_nearest_deadline_goes_first(
    policy: str, left_s: float | None, of_the_other_s: float | None, first: str
) -> None:
    jobs = [
        queued("near", waited_s=1.0, left_s=left_s),
        queued("long", waited_s=9.0, left_s=of_the_other_s),
    ]
    view = fleets.fleet([fleets.site("a", slots=1)], jobs)
    decisions = policy_named(policy).decide(view, PlannerSettings())
    assert [one.job_id for one in decisions if one.kind is Kind.START] == [first]


@pytest.mark.parametrize(("left_s", "first"), [(NEAR_S / 4, "near"), (2 * NEAR_S, "plain")])
def test_one_that_may_wait_goes_before_those_that_may_not_once_its_deadline_is_near(
    left_s: float, first: str
) -> None:
    jobs = [
        queued("near", waited_s=1.0, left_s=left_s, slack_s=left_s),
        queued("plain", waited_s=9.0, left_s=None),
    ]
    view = fleets.fleet([fleets.site("a", surplus_w=9000.0, slots=1)], jobs)
    decisions = policy_named("sterna").decide(view, PlannerSettings())
    assert [one.job_id for one in decisions if one.kind is Kind.START] == [first]


def test_no_voluntary_move_makes_a_job_late() -> None:
    day = fleets.forecast(9000.0, 9000.0, slot_s=24 * HOUR_S)
    dark = fleets.site("a", surplus_w=0.0, windows=fleets.forecast(0.0, 0.0, slot_s=24 * HOUR_S))
    sites, planner = (
        [dark, fleets.site("b", surplus_w=9000.0, windows=day)],
        PlannerSettings(gain_margin_frac=0.0),
    )

    def goes(left_s: float | None) -> tuple[Kind, str]:
        job = replace(fleets.job("j", "a"), deadline_slack_s=left_s)
        (decision,) = policy_named("sterna").decide(fleets.fleet(sites, [job]), planner)
        there = next(one for one in decision.alternatives if one.site_id == "b")
        return decision.kind, "; ".join(there.rejections)

    assert goes(None)[0] is goes(10 * HOUR_S)[0] is Kind.MIGRATE
    kind, why = goes(HOUR_S)
    assert kind is Kind.STAY and "it would end late" in why
