"""Jobs of a large fleet that may leave where they are, with the figures of them that no booking changes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf

from coordinator.core import domain
from coordinator.core.horizon import LEAST_W, HorizonJudge
from coordinator.core.policy import PlannerSettings
from coordinator.model.view import JobView
from sterna.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Mover:
    """One of them; `source` is the column of its site, `energy_j` what a move of it draws."""

    job: JobView
    source: int
    power_w: float
    size_bytes: float
    energy_j: float
    break_even_s: float
    slack_s: float


def who_may_leave(jobs: Iterable[JobView], now: datetime, settings: PlannerSettings) -> list[JobView]:
    """Return the jobs that neither a rule nor the time that they have been there keeps, by power."""
    able = []
    for job in jobs:
        since = job.resident_since
        resident_s = 0.0 if since is None else (now - since).total_seconds()
        stayed = resident_s >= max(job.min_residence_s, settings.min_residence_s)
        if job.may_migrate and stayed and _size_bytes(job) and job.power_w > LEAST_W:
            able.append(job)
    return sorted(able, key=lambda job: (job.power_w, job.job_id))


def movers_of(jobs: Sequence[JobView], judge: HorizonJudge, slack_margin_s: float) -> list[Mover]:
    """Return jobs with their figures; `slack_margin_s` is what a move must leave of a job's slack."""
    terms = judge.terms_of(jobs)
    return [
        Mover(
            job,
            judge.column_of(job.site_id or ""),
            job.power_w,
            _size_bytes(job),
            SECONDS_PER_HOUR * energy_wh,
            break_even_s,
            inf if job.spare_s is None else job.spare_s - slack_margin_s,
        )
        for job, energy_wh, break_even_s in zip(
            jobs, terms.energy_wh.tolist(), terms.break_even_s.tolist(), strict=True
        )
    ]


def total_s(job: JobView, rate_bps: float, eta: float) -> float:
    """Return T_mig of a job over a link, in seconds."""
    carried_s = domain.transfer_s(_size_bytes(job), rate_bps, eta)
    return domain.migration_s(job.seal_s, carried_s, job.load_s, job.downtime_s)


def _size_bytes(job: JobView) -> float:
    return float(job.stop_bytes or job.checkpoint_bytes or 0)
