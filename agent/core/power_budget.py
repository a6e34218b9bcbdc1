"""The power budget: limits, surplus and jobs to caps, pauses, stops and requests to move. One pure function.

It closes the loop on metered watts: what is believed of the site (`power_budget_sight`) and what binds it
(`power_budget_ceiling`) give what compute may draw, and the ladder holds the jobs to it. A meter that blinks
changes nothing within the grace time; nothing rises while it is silent under a limit; after the grace the
worst is assumed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agent.core.fairness import accrue, is_spent
from agent.core.ladder import Draws, Rungs, cap_for, draws_of, resume, shed, swap
from agent.core.power_budget_ceiling import Ceiling, Moment, ceiling, ease, follow
from agent.core.power_budget_sight import believed_others_w, observe, sees
from agent.core.power_budget_values import (
    BudgetActions,
    BudgetJob,
    BudgetSettings,
    BudgetState,
    CapRange,
    JobMark,
)
from agent.model.limits import Envelope
from agent.model.readings import SitePower

ROUNDING_W = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetInputs:
    """What one look rests on.

    Parameters
    ----------
    now, now_boot_s
        The same instant on the calendar and on CLOCK_BOOTTIME.
    envelope : Envelope
        The limits in force.
    power : SitePower or None
        The site's balance; None: no meter has spoken yet.
    jobs : tuple of BudgetJob
        Jobs that run, or that this budget has paused.
    cap : CapRange or None
        What the accelerators can be capped to; None: they cannot.
    cap_stuck : bool
        The last cap could not be set: go on deciding caps, and count on none.
    """

    now: datetime
    now_boot_s: float
    envelope: Envelope
    power: SitePower | None
    jobs: tuple[BudgetJob, ...]
    cap: CapRange | None
    cap_stuck: bool = False


def decide(
    state: BudgetState, inputs: BudgetInputs, settings: BudgetSettings
) -> tuple[BudgetState, BudgetActions]:
    """Look once and decide.

    Parameters
    ----------
    state : BudgetState
        From the look before; a fresh one after a start.
    inputs : BudgetInputs
        What is seen now.
    settings : BudgetSettings
        In force now.

    Returns
    -------
    tuple of BudgetState and BudgetActions
        To be kept, and to be done.
    """
    state, draws, bound = _look(state, inputs, settings)
    rungs = Rungs(
        state=state,
        now_boot_s=inputs.now_boot_s,
        jobs=inputs.jobs,
        marks={mark.job_id: mark for mark in state.marks},
        draws=draws,
        allowed_w=math.inf if bound.allowed_w is None else bound.allowed_w,
        reach_w=bound.reach_w,
        target_w=bound.target_w,
        limited=inputs.envelope.binding is not None,
        sees=sees(inputs.power),
        settings=settings,
    )
    pause = shed(rungs)
    back = () if pause else resume(rungs)
    if not pause and not back:
        pause, back = swap(rungs)
    allowed_w = _from_the_bottom(bound.allowed_w, rungs, pause, back)
    running = [*(job_id for job_id in rungs.running if job_id not in pause), *back]
    if allowed_w is None or _is_released(allowed_w, rungs, inputs.cap, running):
        allowed_w = None
    cap_w = cap_for(allowed_w, inputs.cap, draws)
    draw_w = draws.draw_w(running, None if inputs.cap_stuck else cap_w)
    others_w = believed_others_w(state.sight, inputs.now_boot_s, settings)
    over = rungs.limited and others_w is not None and draw_w > rungs.reach_w + ROUNDING_W
    intended = (*state.sight.intended, (inputs.now_boot_s, draw_w))
    kept = replace(
        state,
        sight=replace(state.sight, intended=intended),
        allowed_w=allowed_w,
        cap_w=cap_w,
        looked_s=inputs.now_boot_s,
        changed_s=inputs.now_boot_s if pause or back else state.changed_s,
        marks=tuple(_mark(job, rungs, pause, back, unachievable=over) for job in inputs.jobs),
    )
    lowest = [job.job_id for job in inputs.jobs if not job.pausable and not job.paused]
    asked = {mark.job_id for mark in state.marks if mark.move_requested}
    wanted = tuple(mark.job_id for mark in kept.marks if mark.move_requested)
    return kept, BudgetActions(
        cap_w=cap_w,
        pause=pause,
        resume=back,
        stop=tuple(mark.job_id for mark in kept.marks if _is_deaf(mark, inputs.now_boot_s, settings)),
        request_move=tuple(job_id for job_id in wanted if job_id not in asked),
        wants_move=wanted,
        unachievable=over,
        predicted_w=_import_w(others_w, draw_w),
        achievable_min_w=_import_w(others_w, draws.least_w(lowest)),
        achievable_max_w=_import_w(others_w, draws.draw_w([job.job_id for job in inputs.jobs], None)),
        because=replace(bound.because, budget_w=_finite(allowed_w)),
    )


def _look(
    state: BudgetState, inputs: BudgetInputs, settings: BudgetSettings
) -> tuple[BudgetState, Draws, Ceiling]:
    """Bring what is remembered up to now, and bound our draw."""
    now_s, jobs, cap = inputs.now_boot_s, inputs.jobs, inputs.cap
    sight = observe(state, now_boot_s=now_s, power=inputs.power, jobs=jobs, cap=cap, settings=settings)
    state = ease(replace(state, sight=sight), inputs.envelope, now_s)
    draws = draws_of(jobs, sight, cap, settings.idle_w, cap_stuck=inputs.cap_stuck)
    running = [job.job_id for job in jobs if not job.paused]
    elapsed_s = 0.0 if state.looked_s is None else max(0.0, now_s - state.looked_s)
    draw_w = draws.draw_w(running, state.cap_w)
    full_w = draws.draw_w(running, None) - settings.idle_w
    speed_frac = (draw_w - settings.idle_w) / full_w if 0.0 < full_w < math.inf else 1.0
    known = {mark.job_id: mark for mark in state.marks}
    marks = tuple(
        accrue(
            known.get(job.job_id) or JobMark(job_id=job.job_id),
            job,
            elapsed_s=elapsed_s,
            speed_frac=speed_frac,
        )
        for job in jobs
    )
    lowest_w = math.inf if draws.cap is None else settings.idle_w + draws.cap.min_w + draws.trim_w
    state = follow(replace(state, marks=marks), now_s, lowest_w, settings)
    moment = Moment(
        now=inputs.now,
        now_boot_s=now_s,
        elapsed_s=elapsed_s,
        sees=sees(inputs.power),
        others_w=believed_others_w(sight, now_s, settings),
        least_w=draws.least_w(running),
        draw_w=draw_w,
    )
    follow_w = math.inf if state.follow_w is None else state.follow_w
    bound = ceiling(
        state,
        moment,
        envelope=inputs.envelope,
        follow_w=follow_w,
        plan_w=max(moment.least_w, _plan_w(jobs, draws)),
        settings=settings,
    )
    return state, draws, bound


def _plan_w(jobs: Sequence[BudgetJob], draws: Draws) -> float:
    """Return what all jobs may draw together where the plan slows some; inf: it slows none."""
    if all(job.slow_w is None for job in jobs):
        return math.inf
    return draws.idle_w + sum(draws.power_w[job.job_id] if job.slow_w is None else job.slow_w for job in jobs)


def _from_the_bottom(
    allowed_w: float | None, rungs: Rungs, pause: tuple[str, ...], back: tuple[str, ...]
) -> float | None:
    """Let a job that goes on begin at the lowest cap: what rose meanwhile is not its to take in one step."""
    if allowed_w is None or not back:
        return allowed_w
    before_w = rungs.draws.draw_w(rungs.running, rungs.state.cap_w)
    running = [job_id for job_id in rungs.running if job_id not in pause]
    return min(allowed_w, max(before_w, rungs.draws.least_w([*running, *back])))


def _is_released(allowed_w: float, rungs: Rungs, cap: CapRange | None, running: list[str]) -> bool:
    """Whether nothing bounds us any more: no limit, nobody paused, and the ramp has come to its end."""
    if rungs.reach_w < math.inf or len(running) < len(rungs.jobs):
        return False
    most_w = math.inf if cap is None else rungs.draws.idle_w + cap.max_w
    return cap is None or allowed_w >= min(most_w, rungs.draws.draw_w(running, None))


def _mark(
    job: BudgetJob, rungs: Rungs, pause: tuple[str, ...], back: tuple[str, ...], *, unachievable: bool
) -> JobMark:
    """Remember of a job since when it is paused, or asked in vain to be, and whether it should leave."""
    mark, now_s = rungs.marks[job.job_id], rungs.now_boot_s
    rests = (job.paused or job.job_id in pause) and job.job_id not in back
    paused_s = (now_s if mark.paused_since_s is None else mark.paused_since_s) if rests else None
    asked_s = (now_s if mark.asked_since_s is None else mark.asked_since_s) if job.job_id in pause else None
    long = paused_s is not None and (
        now_s - paused_s >= rungs.settings.move_after_s or is_spent(job, mark) or mark.move_requested
    )
    stubborn = unachievable and not job.pausable and not job.paused
    return replace(
        mark,
        paused_since_s=paused_s,
        asked_since_s=asked_s,
        move_requested=job.movable and (long or stubborn),
    )


def _is_deaf(mark: JobMark, now_boot_s: float, settings: BudgetSettings) -> bool:
    return mark.asked_since_s is not None and now_boot_s - mark.asked_since_s >= settings.stop_after_s


def _import_w(others_w: float | None, draw_w: float) -> float | None:
    return None if others_w is None or not math.isfinite(draw_w) else others_w + draw_w


def _finite(power_w: float | None) -> float | None:
    return power_w if power_w is not None and math.isfinite(power_w) else None
