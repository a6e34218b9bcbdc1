"""Who gives way first: by the tier that a job's owner has chosen, by what it has lost, by what is unsaved.

The tiers are those of Emerald's field test (arXiv 2507.00909): a job of a tier tolerates the loss of 0, 10,
25 or 50 % of its throughput, averaged over hours. The account is a leaky one: what a job loses beyond its
share is its debt, and running at full speed pays it back.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from agent.core.power_budget_values import BudgetJob, JobMark
from agent.model.jobs import Flexibility

TOLERATED_FRAC: Mapping[Flexibility, float] = MappingProxyType(
    {
        Flexibility.FLEX_0: 0.0,
        Flexibility.FLEX_1: 0.10,
        Flexibility.FLEX_2: 0.25,
        Flexibility.FLEX_3: 0.50,
    }
)
AVERAGED_OVER_S = 3 * 3600.0
"""Hours over which a tier's loss is averaged: the length of the events that the tiers were made for."""
# Debts that differ by less are equal: else the first second of an event would decide for all of it.
EVEN_DEBT_S = 300.0

Order = tuple[float, bool, float, float, float, str]


def accrue(mark: JobMark, job: BudgetJob, *, elapsed_s: float, speed_frac: float) -> JobMark:
    """Book what a job has lost since the last look.

    Parameters
    ----------
    mark : JobMark
        As it was.
    job : BudgetJob
        As it was meanwhile.
    elapsed_s : float
        Seconds since the last look.
    speed_frac : float
        The running jobs' share of their full power, 0 to 1; a paused job has none.
    """
    lost_frac = 1.0 if job.paused else 1.0 - speed_frac
    debt_s = mark.debt_s + elapsed_s * (lost_frac - TOLERATED_FRAC[job.flexibility])
    return replace(mark, debt_s=max(0.0, debt_s))


def is_spent(job: BudgetJob, mark: JobMark) -> bool:
    """Whether a job has lost all that its tier tolerates."""
    tolerated = TOLERATED_FRAC[job.flexibility]
    return mark.debt_s > tolerated * (1.0 - tolerated) * AVERAGED_OVER_S


def shed_order(job: BudgetJob, mark: JobMark) -> Order:
    """Sort key: the first is paused first."""
    return (
        -TOLERATED_FRAC[job.flexibility],
        is_spent(job, mark),
        math.floor(mark.debt_s / EVEN_DEBT_S),
        math.inf if job.unsaved_s is None else job.unsaved_s,
        -(math.inf if job.power_w is None else job.power_w),
        job.job_id,
    )


def resume_order(job: BudgetJob, mark: JobMark) -> Order:
    """Sort key: the first goes on first."""
    return (
        TOLERATED_FRAC[job.flexibility],
        not is_spent(job, mark),
        -math.floor(mark.debt_s / EVEN_DEBT_S),
        -(math.inf if job.unsaved_s is None else job.unsaved_s),
        math.inf if job.power_w is None else job.power_w,
        job.job_id,
    )
