from dataclasses import replace

import pytest

from agent.core.fairness import accrue, is_spent, resume_order, shed_order
from agent.core.power_budget_values import BudgetJob, JobMark
from agent.model.jobs import Flexibility
from tests.agent.core.budget_site import SETTINGS, Site

HOUR_S = 3600.0
JOB = BudgetJob(job_id="j", flexibility=Flexibility.FLEX_2, power_w=100.0, unsaved_s=60.0)
FRESH = JobMark(job_id="j")


@pytest.mark.parametrize(
    ("tier", "paused_s"),
    [
        (Flexibility.FLEX_0, 0.0),
        (Flexibility.FLEX_1, 0.10 * 3 * HOUR_S),
        (Flexibility.FLEX_2, 0.25 * 3 * HOUR_S),
        (Flexibility.FLEX_3, 0.50 * 3 * HOUR_S),
    ],
)
def test_a_tier_is_spent_when_it_has_lost_its_share_of_three_hours(
    tier: Flexibility, paused_s: float
) -> None:
    paused = replace(JOB, flexibility=tier, paused=True)
    mark = accrue(FRESH, paused, elapsed_s=paused_s - 1e-6, speed_frac=1.0)
    assert not is_spent(paused, mark)
    assert is_spent(paused, accrue(mark, paused, elapsed_s=1.0, speed_frac=1.0))


def test_running_pays_back_and_a_cap_costs_its_part() -> None:
    owed = accrue(FRESH, replace(JOB, paused=True), elapsed_s=1000.0, speed_frac=1.0)
    assert owed.debt_s == 750.0
    assert accrue(owed, JOB, elapsed_s=1000.0, speed_frac=1.0).debt_s == 500.0
    assert accrue(owed, JOB, elapsed_s=1000.0, speed_frac=0.75).debt_s == 750.0
    assert accrue(owed, JOB, elapsed_s=1000.0, speed_frac=0.5).debt_s == 1000.0
    assert accrue(owed, JOB, elapsed_s=1e6, speed_frac=1.0).debt_s == 0.0


@pytest.mark.parametrize(
    ("first", "first_mark", "second", "second_mark"),
    [
        (replace(JOB, flexibility=Flexibility.FLEX_3), JobMark(job_id="j", debt_s=9e9), JOB, FRESH),
        (replace(JOB, unsaved_s=9e9), FRESH, JOB, JobMark(job_id="j", debt_s=HOUR_S)),
        (JOB, FRESH, replace(JOB, unsaved_s=61.0), FRESH),
        (JOB, FRESH, replace(JOB, unsaved_s=None), FRESH),
        (replace(JOB, power_w=101.0), FRESH, JOB, FRESH),
        (replace(JOB, power_w=None), FRESH, JOB, FRESH),
        (JOB, FRESH, replace(JOB, job_id="k"), JobMark(job_id="k", debt_s=299.0)),
    ],
    ids=[
        "tier",
        "debt",
        "unsaved",
        "never saved",
        "bigger",
        "unknown power",
        "name, for debts that are even",
    ],
)
def test_who_gives_way_first_goes_on_last(
    first: BudgetJob, first_mark: JobMark, second: BudgetJob, second_mark: JobMark
) -> None:
    assert shed_order(first, first_mark) < shed_order(second, second_mark)
    if first.job_id == second.job_id:
        assert resume_order(first, first_mark) > resume_order(second, second_mark)


def test_in_a_long_event_equal_jobs_take_turns() -> None:
    jobs = [BudgetJob(job_id=name, flexibility=Flexibility.FLEX_1, power_w=500.0) for name in ("a", "b")]
    site = Site(*jobs, settings=replace(SETTINGS, resume_hold_s=60.0))
    rested = {"a": 0.0, "b": 0.0}
    for _ in range(24 * 60):
        site.look(1500.0, after_s=60.0)
        assert len(site.paused) == 1
        for name in site.paused:
            rested[name] += 60.0
    assert 0.3 < rested["a"] / (rested["a"] + rested["b"]) < 0.7
