"""The power ladder: which jobs pause and go on, and what cap holds, so that compute draws what it may.

Cheapest first: cap, pause, stop what does not pause. Coming down is immediate; going up is one job at a time,
at the lowest cap. It knows what compute may draw, not why.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.core.fairness import is_spent, resume_order, shed_order
from agent.core.power_budget_values import (
    BudgetJob,
    BudgetSettings,
    BudgetState,
    CapRange,
    JobMark,
    Sight,
)
from agent.model.jobs import Flexibility


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """What the jobs can draw, in watts: full power per job, and what a cap makes of their sum.

    `cap` None: the draw cannot be capped.
    """

    power_w: Mapping[str, float]
    cap: CapRange | None
    idle_w: float
    unexplained_w: float
    trim_w: float

    def draw_w(self, running: Iterable[str], cap_w: float | None) -> float:
        """Compute draw with these jobs running under this cap."""
        ids = list(running)
        if not ids:
            return self.idle_w
        full_w = sum(self.power_w[job_id] for job_id in ids) + self.unexplained_w
        return self.idle_w + (full_w if cap_w is None else min(full_w, cap_w + self.trim_w))

    def least_w(self, running: Iterable[str]) -> float:
        """Compute draw with these jobs running at the lowest cap."""
        return self.draw_w(running, None if self.cap is None else self.cap.min_w)


def draws_of(
    jobs: Sequence[BudgetJob], sight: Sight, cap: CapRange | None, idle_w: float, *, cap_stuck: bool
) -> Draws:
    """Say what the jobs can draw.

    Parameters
    ----------
    jobs : sequence of BudgetJob
        All of the site. One that declares nothing may draw what the cap allows at most.
    sight : Sight
        What is believed of them.
    cap : CapRange or None
        What the accelerators can be capped to.
    idle_w : float
        Draw with no job.
    cap_stuck : bool
        The cap could not be set: it counts for nothing.
    """
    unknown_w = math.inf if cap is None else cap.max_w
    return Draws(
        power_w={job.job_id: unknown_w if job.power_w is None else job.power_w for job in jobs},
        cap=None if cap_stuck else cap,
        idle_w=idle_w,
        unexplained_w=sight.unexplained_w,
        trim_w=sight.trim_w,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rungs:
    """Everything that one look at the ladder rests on. Its three ceilings are inf where free."""

    state: BudgetState
    now_boot_s: float
    jobs: tuple[BudgetJob, ...]
    marks: Mapping[str, JobMark]
    draws: Draws
    allowed_w: float
    reach_w: float
    target_w: float
    limited: bool
    sees: bool
    settings: BudgetSettings

    @property
    def running(self) -> list[str]:
        """The jobs that run."""
        return [job.job_id for job in self.jobs if not job.paused]

    @property
    def rests(self) -> bool:
        """Whether jobs must not be let go on now: too soon, not our turn, or nothing is seen."""
        state, settings = self.state, self.settings
        recent = state.changed_s is not None and self.now_boot_s - state.changed_s < settings.resume_hold_s
        waits = state.eased_s is not None and self.now_boot_s - state.eased_s < settings.release_delay_s
        return recent or waits or (self.limited and not self.sees)


def too_dark(job: BudgetJob, state: BudgetState) -> bool:
    """Whether a job is to be paused for want of surplus; one that tolerates no loss never is."""
    return state.dark and job.flexibility is not Flexibility.FLEX_0


def shed(rungs: Rungs) -> tuple[str, ...]:
    """Pause, the most flexible first, until the rest fits at the lowest cap."""
    running = rungs.running
    pause: list[str] = []
    for job in sorted(rungs.jobs, key=lambda job: shed_order(job, rungs.marks[job.job_id])):
        if job.paused or not job.pausable:
            continue
        if too_dark(job, rungs.state) or rungs.draws.least_w(running) > rungs.reach_w:
            running.remove(job.job_id)
            pause.append(job.job_id)
    return tuple(pause)


def resume(rungs: Rungs) -> tuple[str, ...]:
    """Let one job go on, if it fits with room to spare, now and once every ramp is done."""
    if rungs.rests:
        return ()
    paused = [job for job in rungs.jobs if job.paused and not too_dark(job, rungs.state)]
    for job in sorted(paused, key=lambda job: resume_order(job, rungs.marks[job.job_id])):
        needed_w = rungs.draws.least_w([*rungs.running, job.job_id])
        fits = needed_w <= rungs.allowed_w or needed_w == math.inf  # of unknown draw: not while limited
        if fits and needed_w + rungs.settings.resume_margin_w <= rungs.target_w:
            return (job.job_id,)
    return ()


def swap(rungs: Rungs) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Take turns: a job that has lost what its tier tolerates goes on in place of one that has not.

    Returns
    -------
    tuple of the jobs to pause and the jobs to let go on
        Empty, or one each, of the same tier.
    """
    if rungs.rests:
        return (), ()
    spent = {job.job_id for job in rungs.jobs if is_spent(job, rungs.marks[job.job_id])}
    paused = [job for job in rungs.jobs if job.paused and job.job_id in spent]
    running = [job for job in rungs.jobs if not job.paused and job.pausable and job.job_id not in spent]
    running.sort(key=lambda job: shed_order(job, rungs.marks[job.job_id]))
    for back in sorted(paused, key=lambda job: resume_order(job, rungs.marks[job.job_id])):
        for away in running:
            if away.flexibility is not back.flexibility or too_dark(back, rungs.state):
                continue
            others = [job_id for job_id in rungs.running if job_id != away.job_id]
            if rungs.draws.least_w([*others, back.job_id]) <= rungs.allowed_w:
                return (away.job_id,), (back.job_id,)
    return (), ()


def cap_for(allowed_w: float | None, cap: CapRange | None, draws: Draws) -> float | None:
    """Return the cap that holds a draw; None: no cap is needed, or none can be set."""
    if cap is None or allowed_w is None:
        return None
    return min(cap.max_w, max(cap.min_w, allowed_w - draws.idle_w - draws.trim_w))
