"""What the power budget believes of its site: the load that is not ours, and what our jobs really draw.

Meters lag behind: after a change of our own draw they show the old one for seconds. The belief therefore
moves only by what our own recent draws cannot explain, so that our own acts never look like somebody else's
load. A sample that cannot be trusted changes nothing.
"""

import math
from dataclasses import replace

from agent.core.power_budget_values import BudgetJob, BudgetSettings, BudgetState, CapRange, Sight
from agent.core.sitepower import others_w
from agent.model.readings import Quality, SitePower

TRUSTED = (Quality.OK, Quality.ESTIMATED)
TRIM_RELEASE_PER_S = 0.005
"""Share of an overestimated trim that is given back in a second: a job that idles for a minute keeps most."""

DRIFT_LEARNT_S = 10.0
DRIFT_HOLDS_S = 5.0
SMALL_W, SMALL_FRAC = 150.0, 0.05
"""A change of power is small up to so many watts, or that part of our draw. A load that changes by more
between two looks was switched, and counts no more towards the drift than that."""


def sees(power: SitePower | None) -> bool:
    """Whether the sample shows the site's import and can be trusted."""
    return power is not None and power.grid_w is not None and power.import_quality in TRUSTED


def observe(
    state: BudgetState,
    *,
    now_boot_s: float,
    power: SitePower | None,
    jobs: tuple[BudgetJob, ...],
    cap: CapRange | None,
    settings: BudgetSettings,
) -> Sight:
    """Learn from one sample.

    Parameters
    ----------
    state : BudgetState
        From the look before.
    now_boot_s : float
        CLOCK_BOOTTIME now, in seconds.
    power : SitePower or None
        The site's balance; None: no meter has spoken yet.
    jobs : tuple of BudgetJob
        As they are now.
    cap : CapRange or None
        What the accelerators can be capped to.
    settings : BudgetSettings
        In force now.
    """
    sight = state.sight
    running = frozenset(job.job_id for job in jobs if not job.paused)
    if running != sight.running or sight.running_since_s is None:
        sight = replace(sight, running=running, running_since_s=now_boot_s)
    since_s = now_boot_s - settings.meter_lag_s
    sight = replace(sight, draws=_recent(sight.draws, since_s), intended=_recent(sight.intended, since_s))
    if power is None:
        return sight
    sight = _surplus(sight, power, now_boot_s, settings)
    if power.grid_w is None or not sees(power):
        return sight
    if power.compute_w is not None:
        sight = replace(sight, draws=(*sight.draws, (now_boot_s, power.compute_w)))
    sight = _others(sight, power, now_boot_s, settings)
    if power.compute_w is None:
        return sight
    unexplained_w = _unexplained_w(
        sight,
        power.compute_w,
        cap_w=state.cap_w,
        jobs=jobs,
        now_boot_s=now_boot_s,
        settings=settings,
    )
    sight = replace(sight, unexplained_w=unexplained_w)
    return _trim(sight, power, state=state, jobs=jobs, cap=cap, now_boot_s=now_boot_s, settings=settings)


def believed_others_w(sight: Sight, now_boot_s: float, settings: BudgetSettings) -> float | None:
    """Return the import that is not ours, in watts: the last within the grace time, then the worst.

    Returns
    -------
    float or None
        None: it was never measured, and nothing is assumed.
    """
    if sight.others_w is None:
        return settings.assumed_others_w
    if not blind(sight, now_boot_s, settings):
        # The meter is late by its lag: what grows has grown since. What shrinks is believed when it is seen.
        return sight.others_w + max(0.0, sight.drift_w_per_s) * settings.meter_lag_s
    if settings.assumed_others_w is not None:
        return max(sight.others_w, settings.assumed_others_w)
    return max(sight.others_w, sight.worst_w or sight.others_w)


def blind(sight: Sight, now_boot_s: float, settings: BudgetSettings) -> bool:
    """Whether the grace time is over without a sample that tells our share of the import."""
    return sight.known_s is None or now_boot_s - sight.known_s > settings.meter_grace_s


def _recent(history: tuple[tuple[float, float], ...], since_s: float) -> tuple[tuple[float, float], ...]:
    """Keep what is young, and the one before it, which held when the window began."""
    old = [entry for entry in history if entry[0] < since_s]
    return (*old[-1:], *(entry for entry in history if entry[0] >= since_s))


def _others(sight: Sight, power: SitePower, now_boot_s: float, settings: BudgetSettings) -> Sight:
    assert power.grid_w is not None
    raw_w = others_w(power)
    if raw_w is None:
        # Our share is unknown. A blink changes nothing; later all of the import counts as others'.
        return replace(sight, others_w=power.grid_w) if blind(sight, now_boot_s, settings) else sight
    scale_w = _scale_w(sight)
    sight = replace(sight, others_w=_drifted_w(sight, now_boot_s))
    theirs_w = raw_w
    if not power.load_metered:
        theirs_w = _unexplained_by_us(sight, power.grid_w, raw_w, now_boot_s, settings)
    drift_w_per_s = _drift_w_per_s(sight, theirs_w, now_boot_s, kettle_w=scale_w)
    sight = replace(sight, drift_w_per_s=drift_w_per_s)
    plantless_w = theirs_w + (power.generation_w or 0.0) + max(0.0, -(power.battery_w or 0.0))
    worst_w = plantless_w if sight.worst_w is None else max(sight.worst_w, plantless_w)
    return replace(sight, others_w=theirs_w, worst_w=worst_w, known_s=now_boot_s)


def _drifted_w(sight: Sight, now_boot_s: float) -> float | None:
    """Carry the belief on to now, as it was drifting."""
    if sight.others_w is None or sight.known_s is None:
        return sight.others_w
    return sight.others_w + sight.drift_w_per_s * min(DRIFT_HOLDS_S, now_boot_s - sight.known_s)


def _drift_w_per_s(sight: Sight, theirs_w: float, now_boot_s: float, *, kettle_w: float) -> float:
    """Learn how fast the load that is not ours grows: a cloud that comes, not a kettle switched on."""
    elapsed_s = 0.0 if sight.known_s is None else now_boot_s - sight.known_s
    if sight.others_w is None or elapsed_s <= 0.0:
        return sight.drift_w_per_s
    missed_w = min(kettle_w, max(-kettle_w, theirs_w - sight.others_w))
    return sight.drift_w_per_s + missed_w / elapsed_s * min(1.0, elapsed_s / DRIFT_LEARNT_S)


def _scale_w(sight: Sight) -> float:
    """Return what counts as a small change of power at this site, in watts."""
    return max(SMALL_W, SMALL_FRAC * max((draw_w for _, draw_w in sight.draws), default=0.0))


def _unexplained_by_us(
    sight: Sight, grid_w: float, raw_w: float, now_boot_s: float, settings: BudgetSettings
) -> float:
    """Move the belief as little as the sample allows, whichever of our recent draws the meter has shown.

    While our draw changes but little, the sample cannot be far wrong, and the belief goes on towards it:
    else a load that grows as slowly as we give way would stay hidden behind our own change.
    """
    draws = [draw_w for _, draw_w in sight.draws]
    intended = [draw_w for _, draw_w in sight.intended]
    if intended and max(intended) - min(intended) > settings.deadband_w:
        draws += intended  # a change is under way, and the meter may have seen it before the GPU told us
    if not draws:
        return raw_w
    low_w, high_w = grid_w - max(draws), grid_w - min(draws)
    if sight.others_w is None:
        return high_w
    near_w = min(high_w, max(low_w, sight.others_w))
    if max(draws) - min(draws) > _scale_w(sight) or sight.known_s is None:
        return near_w
    elapsed_s = now_boot_s - sight.known_s
    left_frac = math.exp(-elapsed_s / settings.meter_lag_s) if settings.meter_lag_s > 0 else 0.0
    return raw_w + (near_w - raw_w) * left_frac


def _unexplained_w(
    sight: Sight,
    compute_w: float,
    *,
    cap_w: float | None,
    jobs: tuple[BudgetJob, ...],
    now_boot_s: float,
    settings: BudgetSettings,
) -> float:
    """Jobs that draw more than they declared: the meter is believed once it can have settled."""
    declared = [job.power_w for job in jobs if not job.paused]
    settling = sight.running_since_s is None or now_boot_s - sight.running_since_s < settings.settle_s
    if not declared or settling or any(power_w is None for power_w in declared):
        return sight.unexplained_w if declared else 0.0
    excess_w = max(0.0, compute_w - settings.idle_w - sum(power_w or 0.0 for power_w in declared))
    # Under a cap the meter cannot show what they would draw without it.
    return excess_w if cap_w is None else max(excess_w, sight.unexplained_w)


def _trim(
    sight: Sight,
    power: SitePower,
    *,
    state: BudgetState,
    jobs: tuple[BudgetJob, ...],
    cap: CapRange | None,
    now_boot_s: float,
    settings: BudgetSettings,
) -> Sight:
    """Learn what a cap lets through beyond its figure: at once what is too much, slowly what is too little.

    It never exceeds the range of the cap, where the cap has no effect at all, and never falls below zero: a
    job that draws less than its cap may draw all of it in the next second.
    """
    fresh = power.measured_at != sight.trimmed_at
    if not fresh or cap is None or state.cap_w is None or power.compute_w is None or not sight.intended:
        return sight
    sight = replace(sight, trimmed_at=power.measured_at)
    full_w = sight.unexplained_w + sum(
        math.inf if job.power_w is None else job.power_w for job in jobs if not job.paused
    )
    if full_w <= state.cap_w + sight.trim_w:
        return sight  # the cap does not bind
    recent = _recent(sight.intended, now_boot_s - settings.gpu_lag_s)
    error_w = power.compute_w - max(draw_w for _, draw_w in recent)
    elapsed_s = 0.0 if state.looked_s is None else max(0.0, now_boot_s - state.looked_s)
    if error_w <= 0:
        error_w = max(-sight.trim_w, error_w) * min(1.0, TRIM_RELEASE_PER_S * elapsed_s)
    elif error_w <= settings.deadband_w / 2:
        return sight
    return replace(sight, trim_w=min(cap.max_w - cap.min_w, max(0.0, sight.trim_w + error_w)))


def _surplus(sight: Sight, power: SitePower, now_boot_s: float, settings: BudgetSettings) -> Sight:
    """Smooth the surplus that is followed: a cloud that passes in a moment moves no cap."""
    if settings.follow is None or power.surplus_w is None or power.quality not in TRUSTED:
        return sight
    if sight.surplus_w is None or sight.surplus_known_s is None:
        return replace(sight, surplus_w=power.surplus_w, surplus_known_s=now_boot_s)
    elapsed_s = max(0.0, now_boot_s - sight.surplus_known_s)
    left_frac = math.exp(-elapsed_s / settings.follow.smooth_s) if settings.follow.smooth_s > 0 else 0.0
    smooth_w = power.surplus_w + (sight.surplus_w - power.surplus_w) * left_frac
    return replace(sight, surplus_w=smooth_w, surplus_known_s=now_boot_s)
