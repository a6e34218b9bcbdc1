"""What counts as a breach of a limit: a pure fold over samples (DESIGN 5).

A breach is an OK-quality import sample above limit + meter tolerance, later than the ramp + 2 s, while the
load that is not ours is below the limit. Where that load alone is above it, no job that we could stop would
help: the limit is unachievable, which is reported and not counted.
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
    power: SitePower,
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
    power : SitePower
        The sample; import is positive, compute tells our own share.
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
    if tally.last_sample_at == power.measured_at:
        return tally
    tally = bind(tally, limit, now=now, now_boot_s=now_boot_s)
    tally = replace(tally, last_sample_at=power.measured_at)
    measured_boot_s = now_boot_s - (now - power.measured_at).total_seconds()
    judgement = _judge(tally, power, tolerance_w, measured_boot_s)
    fresh = tally.judgement is not Judgement.BREACH
    tally = replace(tally, judgement=judgement)
    if judgement is not Judgement.BREACH or tally.bound_w is None or power.grid_w is None:
        return tally
    return replace(
        tally,
        samples=tally.samples + 1,
        episodes=tally.episodes + (1 if fresh else 0),
        worst_excess_w=max(tally.worst_excess_w, power.grid_w - tally.bound_w),
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


def _judge(tally: BreachTally, power: SitePower, tolerance_w: float, measured_boot_s: float) -> Judgement:
    if tally.bound_w is None or tally.due_boot_s is None:
        return Judgement.NO_LIMIT
    if power.import_quality is not Quality.OK or power.grid_w is None:
        return Judgement.UNKNOWN
    if power.grid_w <= tally.bound_w + tolerance_w:
        return Judgement.KEPT
    if measured_boot_s <= tally.due_boot_s:
        return Judgement.RAMPING
    # Our share unknown: the excess is held against us.
    theirs_w = others_w(power)
    if theirs_w is not None and theirs_w >= tally.bound_w:
        return Judgement.UNACHIEVABLE
    return Judgement.BREACH
