"""The power ladder: what to do so that the site's import stays within the limit that binds it.

Cheapest first: cap, pause, ask for migration. Coming down is immediate; going up is slow, one job at a time
and with hysteresis. A meter that blinks changes nothing within the grace time; after it, with a limit in
force, the last known load of others plus everything that our jobs may draw is assumed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agent.core.sitepower import others_w
from agent.model.limits import Envelope
from agent.model.readings import Quality, SitePower


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderJob:
    """A job at this site that runs or that this ladder has paused.

    `power_w` is what it draws uncapped, in watts; None: unknown. The lowest `priority` is paused first.
    """

    job_id: str
    priority: int = 0
    power_w: float | None = None
    pausable: bool = True
    paused: bool = False
    movable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CapRange:
    """What the site's accelerators can be capped to, summed over them, in watts."""

    min_w: float
    max_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderSettings:
    """How the ladder behaves; every field has its unit in its name.

    `margin_w` stays free below the limit. `idle_w` is compute draw with no job running. `settle_s` is how
    long a meter may still show jobs that no longer run. `assumed_others_w` stands in for the load that is
    not ours while it was never measured; None: assume the worst.
    """

    margin_w: float = 0.0
    idle_w: float = 0.0
    cap_rise_w_per_s: float = 50.0
    cap_deadband_w: float = 10.0
    resume_margin_w: float = 50.0
    resume_hold_s: float = 30.0
    move_after_s: float = 300.0
    meter_grace_s: float = 10.0
    settle_s: float = 5.0
    assumed_others_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderState:
    """What the ladder remembers between two looks; every `_s` is CLOCK_BOOTTIME seconds.

    `others_w` is the last known import that is not ours (negative when the site would export);
    `unexplained_w` what our jobs were seen to draw beyond their declaration, watts.
    """

    others_w: float | None = None
    others_known_s: float | None = None
    unexplained_w: float = 0.0
    running: frozenset[str] = field(default_factory=frozenset)
    running_since_s: float | None = None
    cap_w: float | None = None
    looked_s: float | None = None
    changed_s: float | None = None
    paused_since_s: tuple[tuple[str, float], ...] = ()
    move_requested: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderActions:
    """What to do now. `cap_w` None: lift the cap. Figures in watts; None where nothing is known.

    `predicted_w` is import once the actions have taken effect; `achievable_min_w` and `achievable_max_w` are
    the import with everything capped or paused that can be, and with every job at full power.
    """

    cap_w: float | None
    pause: tuple[str, ...]
    resume: tuple[str, ...]
    request_move: tuple[str, ...]
    unachievable: bool
    predicted_w: float | None
    achievable_min_w: float | None
    achievable_max_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plant:
    """What the jobs can draw: full power per job, and the floor and ceiling that a cap sets."""

    power_w: dict[str, float]
    cap: CapRange | None
    idle_w: float
    unexplained_w: float

    def draw_w(self, running: Iterable[str], cap_w: float | None) -> float:
        """Compute draw with these jobs running under this cap."""
        ids = list(running)
        if not ids:
            return self.idle_w
        full_w = sum(self.power_w[job_id] for job_id in ids) + self.unexplained_w
        return self.idle_w + (full_w if cap_w is None else min(full_w, cap_w))

    def least_w(self, running: Iterable[str]) -> float:
        """Compute draw with these jobs running at the lowest cap."""
        return self.draw_w(running, None if self.cap is None else self.cap.min_w)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """Everything that one decision rests on. `budget_w` is what compute may draw: inf when nothing limits."""

    state: LadderState
    now_boot_s: float
    jobs: tuple[LadderJob, ...]
    plant: _Plant
    budget_w: float
    sees: bool
    settings: LadderSettings


def climb(
    state: LadderState,
    *,
    now_boot_s: float,
    envelope: Envelope,
    power: SitePower | None,
    jobs: tuple[LadderJob, ...],
    cap: CapRange | None,
    settings: LadderSettings,
) -> tuple[LadderState, LadderActions]:
    """Look once and decide.

    Parameters
    ----------
    state : LadderState
        From the look before; a fresh one after a start.
    now_boot_s : float
        CLOCK_BOOTTIME now, in seconds.
    envelope : Envelope
        The limits in force.
    power : SitePower or None
        The site's balance; None: no meter has spoken yet.
    jobs : tuple of LadderJob
        Jobs that run, or that this ladder has paused.
    cap : CapRange or None
        What the accelerators can be capped to; None: they cannot.
    settings : LadderSettings
        In force now.

    Returns
    -------
    tuple of LadderState and LadderActions
        To be kept, and to be done.
    """
    sees = power is not None and _usable(power)
    state = _observe(state, power if sees else None, jobs, now_boot_s, settings)
    others_w = state.others_w if state.others_w is not None else settings.assumed_others_w
    look = _Look(
        state=state,
        now_boot_s=now_boot_s,
        jobs=jobs,
        plant=_plant(state, jobs, cap, settings),
        budget_w=_budget_w(envelope, others_w, settings),
        sees=sees,
        settings=settings,
    )
    pause = _shed(look)
    resume = () if pause else _resume(look)
    cap_w = _cap(look)
    running = [job.job_id for job in jobs if not job.paused and job.job_id not in pause]
    draw_w = look.plant.draw_w([*running, *resume], cap_w)
    unachievable = others_w is not None and draw_w > look.budget_w
    kept = _remember(look, pause, resume, cap_w)
    move = _moves(look, kept, unachievable)
    lowest = [job.job_id for job in jobs if not job.pausable and not job.paused]
    full_w = look.plant.draw_w([job.job_id for job in jobs], None)
    actions = LadderActions(
        cap_w=cap_w,
        pause=pause,
        resume=resume,
        request_move=move,
        unachievable=unachievable,
        predicted_w=_import_w(others_w, draw_w),
        achievable_min_w=_import_w(others_w, look.plant.least_w(lowest)),
        achievable_max_w=_import_w(others_w, full_w),
    )
    return replace(kept, move_requested=kept.move_requested | set(move)), actions


def _budget_w(envelope: Envelope, others_w: float | None, settings: LadderSettings) -> float:
    """Compute draw that the binding limit leaves; nothing at all when nothing is known."""
    if envelope.binding is None:
        return math.inf
    return -math.inf if others_w is None else envelope.binding.limit_w - settings.margin_w - others_w


def _import_w(others_w: float | None, draw_w: float) -> float | None:
    return None if others_w is None or not math.isfinite(draw_w) else others_w + draw_w


def _usable(power: SitePower) -> bool:
    return power.quality in (Quality.OK, Quality.ESTIMATED) and power.grid_w is not None


def _observe(
    state: LadderState,
    power: SitePower | None,
    jobs: tuple[LadderJob, ...],
    now_boot_s: float,
    settings: LadderSettings,
) -> LadderState:
    """Learn the load that is not ours, and what our jobs really draw, from a sample that can be trusted."""
    running = frozenset(job.job_id for job in jobs if not job.paused)
    if running != state.running or state.running_since_s is None:
        state = replace(state, running=running, running_since_s=now_boot_s)
    if power is None or power.grid_w is None:
        return state
    theirs_w = others_w(power)
    if theirs_w is None:
        # Our share is unknown. A blink changes nothing; later all of the import counts as others'.
        known_s = state.others_known_s
        if known_s is not None and now_boot_s - known_s <= settings.meter_grace_s:
            return state
        return replace(state, others_w=power.grid_w)
    state = replace(state, others_w=theirs_w, others_known_s=now_boot_s)
    if power.compute_w is None:
        return state
    return replace(state, unexplained_w=_unexplained_w(state, power.compute_w, jobs, now_boot_s, settings))


def _unexplained_w(
    state: LadderState,
    compute_w: float,
    jobs: tuple[LadderJob, ...],
    now_boot_s: float,
    settings: LadderSettings,
) -> float:
    """Jobs that draw more than they declared: the meter is believed once it can have settled."""
    declared = [job.power_w for job in jobs if not job.paused]
    settling = state.running_since_s is None or now_boot_s - state.running_since_s < settings.settle_s
    if not declared or settling or any(power_w is None for power_w in declared):
        return state.unexplained_w if declared else 0.0
    excess_w = max(0.0, compute_w - settings.idle_w - sum(power_w or 0.0 for power_w in declared))
    # Under a cap the meter cannot show what they would draw without it.
    return excess_w if state.cap_w is None else max(excess_w, state.unexplained_w)


def _plant(
    state: LadderState, jobs: tuple[LadderJob, ...], cap: CapRange | None, settings: LadderSettings
) -> _Plant:
    unknown_w = math.inf if cap is None else cap.max_w
    return _Plant(
        power_w={job.job_id: unknown_w if job.power_w is None else job.power_w for job in jobs},
        cap=cap,
        idle_w=settings.idle_w,
        unexplained_w=state.unexplained_w,
    )


def _shed(look: _Look) -> tuple[str, ...]:
    """Pause, lowest priority first, until the rest fits at the lowest cap."""
    running = [job.job_id for job in look.jobs if not job.paused]
    candidates = [job for job in look.jobs if not job.paused and job.pausable]
    candidates.sort(key=lambda job: (job.priority, -look.plant.power_w[job.job_id], job.job_id))
    pause: list[str] = []
    for job in candidates:
        if look.plant.least_w(running) <= look.budget_w:
            break
        running.remove(job.job_id)
        pause.append(job.job_id)
    return tuple(pause)


def _resume(look: _Look) -> tuple[str, ...]:
    """Let one job run again, if it fits with room to spare, the meter speaks and the last change is old."""
    changed_s = look.state.changed_s
    recent = changed_s is not None and look.now_boot_s - changed_s < look.settings.resume_hold_s
    limited = look.budget_w != math.inf
    if recent or (limited and not look.sees):
        return ()
    running = [job.job_id for job in look.jobs if not job.paused]
    paused = sorted((job for job in look.jobs if job.paused), key=lambda job: (-job.priority, job.job_id))
    for job in paused:
        needed_w = look.plant.least_w([*running, job.job_id]) + look.settings.resume_margin_w
        if needed_w <= look.budget_w:
            return (job.job_id,)
    return ()


def _cap(look: _Look) -> float | None:
    """Come down at once; rise by the ramp, and only by more than the deadband."""
    plant, now_w, free = look.plant, look.state.cap_w, look.budget_w == math.inf
    if plant.cap is None or (now_w is None and free):
        return None
    target_w = min(plant.cap.max_w, max(plant.cap.min_w, look.budget_w - plant.idle_w))
    if now_w is None or target_w < now_w:
        return target_w
    looked_s = look.state.looked_s
    elapsed_s = 0.0 if looked_s is None else max(0.0, look.now_boot_s - looked_s)
    risen_w = min(target_w, now_w + look.settings.cap_rise_w_per_s * elapsed_s)
    if free:
        return None if risen_w >= plant.cap.max_w else risen_w
    return risen_w if target_w - now_w > look.settings.cap_deadband_w else now_w


def _remember(
    look: _Look, pause: tuple[str, ...], resume: tuple[str, ...], cap_w: float | None
) -> LadderState:
    known = dict(look.state.paused_since_s)
    held = [
        job.job_id for job in look.jobs if (job.paused or job.job_id in pause) and job.job_id not in resume
    ]
    present = {job.job_id for job in look.jobs}
    return replace(
        look.state,
        cap_w=cap_w,
        looked_s=look.now_boot_s,
        changed_s=look.now_boot_s if pause or resume else look.state.changed_s,
        paused_since_s=tuple((job_id, known.get(job_id, look.now_boot_s)) for job_id in held),
        move_requested=(look.state.move_requested & present) - set(resume),
    )


def _moves(look: _Look, kept: LadderState, unachievable: bool) -> tuple[str, ...]:
    """Ask, once each, for jobs that stay paused too long, and for those that cannot be paused but must."""
    since = dict(kept.paused_since_s)
    wanted = []
    for job in look.jobs:
        paused_s = look.now_boot_s - since.get(job.job_id, look.now_boot_s)
        stuck = job.job_id in since and paused_s >= look.settings.move_after_s
        stubborn = unachievable and not job.pausable and not job.paused
        if job.movable and job.job_id not in kept.move_requested and (stuck or stubborn):
            wanted.append(job.job_id)
    return tuple(wanted)
