"""What counts as a breach of a limit: a pure fold over samples (DESIGN 5).

A breach is an OK-quality import sample above limit + meter tolerance, later than the ramp + 2 s, while the
load that is not ours is below the limit. Where that load alone is above it, no job that we could stop would
help: the limit is unachievable, which is reported and not counted. A limit of the export is judged alike:
ours is there what the plants make that we curtail.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from agent.core.sitepower import others_w
from agent.model.limits import Limit
from agent.model.readings import Quality, SitePower

SETTLING_S = 2.0
"""Seconds after the ramp that a meter and its poll may lag behind."""


class Judgement(Enum):
    """What one sample says about the limit."""

    NO_LIMIT = "NO_LIMIT"
    UNKNOWN = "UNKNOWN"
    """No OK-quality sample: neither kept nor broken."""
    RAMPING = "RAMPING"
    KEPT = "KEPT"
    UNACHIEVABLE = "UNACHIEVABLE"
    BREACH = "BREACH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What a limit is held against: watts across the grid connection in the direction that it limits.

    `power_w` is negative while the other way round; `rest_w` what would be left of it without anything that
    is ours to take away. None: unknown.
    """

    measured_at: datetime
    power_w: float | None
    quality: Quality
    rest_w: float | None


def import_of(power: SitePower) -> Flow:
    """Return what a limit of the import is held against: ours is what the jobs draw."""
    return Flow(
        measured_at=power.import_measured_at,
        power_w=power.grid_w,
        quality=power.import_quality,
        rest_w=others_w(power),
    )


def export_of(power: SitePower, rest_w: float | None) -> Flow:
    """Return what a limit of the export is held against.

    Parameters
    ----------
    power : SitePower
        The sample.
    rest_w : float or None
        Export with every plant off that we curtail, in watts; None: unknown.
    """
    return Flow(
        measured_at=power.import_measured_at,
        power_w=None if power.grid_w is None else -power.grid_w,
        quality=power.import_quality,
        rest_w=rest_w,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BreachTally:
    """What has been counted. Runs of breaching samples count once as an episode.

    `bound_w` is the limit that bound the last sample and `due_boot_s` when it must be kept from, on
    CLOCK_BOOTTIME; None: no limit bound it.
    """

    samples: int = 0
    episodes: int = 0
    worst_excess_w: float = 0.0
    judgement: Judgement = Judgement.NO_LIMIT
    last_sample_at: datetime | None = None
    bound_w: float | None = None
    due_boot_s: float | None = None


def fold(
    tally: BreachTally,
    flow: Flow,
    limit: Limit | None,
    *,
    tolerance_w: float,
    now: datetime,
    now_boot_s: float,
) -> BreachTally:
    """Add one sample; the same sample twice counts once.

    Parameters
    ----------
    tally : BreachTally
        What was counted before.
    flow : Flow
        The sample.
    limit : Limit or None
        The binding limit; None: none.
    tolerance_w : float
        Meter error in watts, >= 0.
    now, now_boot_s
        The same instant on both clocks.

    Notes
    -----
    Only a tighter limit starts a new ramp: an operator that repeats its limit every few seconds does not
    thereby excuse the site.
    """
    if tally.last_sample_at == flow.measured_at:
        return tally
    tally = bind(tally, limit, now=now, now_boot_s=now_boot_s)
    tally = replace(tally, last_sample_at=flow.measured_at)
    measured_boot_s = now_boot_s - (now - flow.measured_at).total_seconds()
    judgement = _judge(tally, flow, tolerance_w, measured_boot_s)
    fresh = tally.judgement is not Judgement.BREACH
    tally = replace(tally, judgement=judgement)
    if judgement is not Judgement.BREACH or tally.bound_w is None or flow.power_w is None:
        return tally
    return replace(
        tally,
        samples=tally.samples + 1,
        episodes=tally.episodes + (1 if fresh else 0),
        worst_excess_w=max(tally.worst_excess_w, flow.power_w - tally.bound_w),
    )


def bind(tally: BreachTally, limit: Limit | None, *, now: datetime, now_boot_s: float) -> BreachTally:
    """Note what binds now, also where no sample is there to be judged.

    Parameters
    ----------
    tally : BreachTally
        What was counted before.
    limit : Limit or None
        The binding limit; None: none.
    now, now_boot_s
        The same instant on both clocks.

    Notes
    -----
    Without it a limit that is released between two samples would go on as the next one's: whoever is let go
    and limited again has a ramp again.
    """
    if limit is None:
        return replace(tally, bound_w=None, due_boot_s=None)
    due_s = now_boot_s + (limit.start_at - now).total_seconds() + limit.ramp_s + SETTLING_S
    if tally.bound_w is not None and tally.due_boot_s is not None and limit.limit_w >= tally.bound_w:
        due_s = min(due_s, tally.due_boot_s)
    return replace(tally, bound_w=limit.limit_w, due_boot_s=due_s)


def _judge(tally: BreachTally, flow: Flow, tolerance_w: float, measured_boot_s: float) -> Judgement:
    if tally.bound_w is None or tally.due_boot_s is None:
        return Judgement.NO_LIMIT
    if flow.quality is not Quality.OK or flow.power_w is None:
        return Judgement.UNKNOWN
    if flow.power_w <= tally.bound_w + tolerance_w:
        return Judgement.KEPT
    if measured_boot_s <= tally.due_boot_s:
        return Judgement.RAMPING
    # What is not ours is unknown: the excess is held against us.
    if flow.rest_w is not None and flow.rest_w >= tally.bound_w:
        return Judgement.UNACHIEVABLE
    return Judgement.BREACH
