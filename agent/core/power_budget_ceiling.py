"""How much our compute may draw now: limits, the ramps to and from them, the surplus that is followed.

Down in time for the limit, up by the ramp. It knows no jobs and no caps but the least that runs.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime

from agent.core.power_budget_sight import blind
from agent.core.power_budget_values import Because, Bound, BudgetSettings, BudgetState, FollowSettings
from agent.model.limits import Envelope, Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What our compute may draw. `allowed_w` None: nothing bounds it.

    `reach_w` is what could be allowed now but for the ramp up, `target_w` what the limits will allow when
    every ramp is done; inf where there is none.
    """

    allowed_w: float | None
    reach_w: float
    target_w: float
    because: Because


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The instant of a look, and what our compute draws at it, in watts.

    `others_w` None: unknown. `least_w` is the draw of what runs now at the lowest cap, `draw_w` the draw
    that the last decision led to.
    """

    now: datetime
    now_boot_s: float
    elapsed_s: float
    sees: bool
    others_w: float | None
    least_w: float
    draw_w: float


def ease(state: BudgetState, envelope: Envelope, now_boot_s: float) -> BudgetState:
    """Note when the binding limit has risen or gone: that is when sites would rebound together."""
    bound_w = math.inf if envelope.binding is None else envelope.binding.limit_w
    eased = state.bound_w is not None and bound_w > state.bound_w
    return replace(state, bound_w=bound_w, eased_s=now_boot_s if eased else state.eased_s)


def ceiling(
    state: BudgetState,
    moment: Moment,
    *,
    envelope: Envelope,
    follow_w: float,
    settings: BudgetSettings,
    plan_w: float = math.inf,
) -> Ceiling:
    """Bound our draw.

    Parameters
    ----------
    state : BudgetState
        With `eased_s` up to date.
    moment : Moment
        Now.
    envelope : Envelope
        The limits in force.
    follow_w : float
        What following the surplus leaves, watts; inf: it is not followed.
    settings : BudgetSettings
        In force now.
    plan_w : float
        What jobs may draw that the plan slows, with all others, watts; inf: it slows none.
    """
    steps = [(limit, *_step(limit, state, moment, settings)) for limit in envelope.limits]
    bounds = [
        (allowed_w, _by_limit(limit, moment, state, settings, ramping=allowed_w > target_w))
        for limit, allowed_w, target_w in steps
    ]
    for wanted_w, bound in ((follow_w, Bound.SURPLUS), (plan_w, Bound.PLAN)):
        if wanted_w < math.inf:
            step_w = _down(state, moment, wanted_w, settings.ramp_down_w_per_s)
            bounds.append((step_w, Because(bound=bound)))
    reach_w, because = min(bounds, key=lambda bound: bound[0], default=(math.inf, Because()))
    allowed_w, bound = _risen(state, moment, reach_w, because.bound, settings, limited=bool(steps))
    return Ceiling(
        allowed_w=allowed_w,
        reach_w=reach_w,
        target_w=min((target_w for _, _, target_w in steps), default=math.inf),
        because=replace(because, bound=bound),
    )


def follow(state: BudgetState, now_boot_s: float, least_w: float, settings: BudgetSettings) -> BudgetState:
    """Let the surplus move what our draw stands at, and say whether it is too dark to run at all.

    Parameters
    ----------
    state : BudgetState
        With its sight up to date.
    now_boot_s : float
        CLOCK_BOOTTIME now, in seconds.
    least_w : float
        Draw at the lowest cap: following alone never goes below it, nor does a surplus that is unknown.
    settings : BudgetSettings
        In force now.
    """
    rules, sight = settings.follow, state.sight
    if rules is None:
        return replace(state, follow_w=None, dark=False, crossed_s=None)
    if sight.surplus_w is None or _surplus_is_old(state, now_boot_s, settings):
        return replace(state, follow_w=least_w, crossed_s=None)
    wanted_w = max(least_w, sight.surplus_w + rules.import_w)
    moved = state.follow_w is None or abs(wanted_w - state.follow_w) > settings.deadband_w
    state = replace(state, follow_w=wanted_w if moved else state.follow_w)
    return _judge_dark(state, rules, sight.surplus_w, now_boot_s, settings)


def _judge_dark(
    state: BudgetState, rules: FollowSettings, surplus_w: float, now_boot_s: float, settings: BudgetSettings
) -> BudgetState:
    if rules.pause_below_w is None:
        return replace(state, dark=False, crossed_s=None)
    bright_w = rules.pause_below_w + settings.resume_margin_w
    crossed = surplus_w >= bright_w if state.dark else surplus_w < rules.pause_below_w
    if not crossed:
        return replace(state, crossed_s=None)
    since_s = now_boot_s if state.crossed_s is None else state.crossed_s
    if now_boot_s - since_s < rules.hold_s:
        return replace(state, crossed_s=since_s)
    return replace(state, dark=not state.dark, crossed_s=None)


def _surplus_is_old(state: BudgetState, now_boot_s: float, settings: BudgetSettings) -> bool:
    known_s = state.sight.surplus_known_s
    return known_s is None or now_boot_s - known_s > settings.meter_grace_s


def _step(limit: Limit, state: BudgetState, moment: Moment, settings: BudgetSettings) -> tuple[float, float]:
    """Return what one limit allows now, and what it will allow once its ramp is over."""
    if moment.others_w is None:
        return -math.inf, -math.inf  # nothing is known, so nothing at all is allowed
    target_w = limit.limit_w - settings.margin_w - moment.others_w
    left_s = (limit.start_at - moment.now).total_seconds() + limit.ramp_s
    if settings.ramp_down_w_per_s is None or left_s <= 0:
        return target_w, target_w
    from_w = moment.draw_w if state.allowed_w is None else min(state.allowed_w, moment.draw_w)
    # In time for the limit, even where our own ramp is slower than the operator's.
    rate_w_per_s = max(settings.ramp_down_w_per_s, (from_w - target_w) / (left_s + moment.elapsed_s))
    return max(target_w, from_w - rate_w_per_s * moment.elapsed_s), target_w


def _down(state: BudgetState, moment: Moment, target_w: float, ramp_w_per_s: float | None) -> float:
    if ramp_w_per_s is None:
        return target_w
    from_w = moment.draw_w if state.allowed_w is None else min(state.allowed_w, moment.draw_w)
    return max(target_w, from_w - ramp_w_per_s * moment.elapsed_s)


def _by_limit(
    limit: Limit, moment: Moment, state: BudgetState, settings: BudgetSettings, *, ramping: bool
) -> Because:
    bound = Bound.RAMP_DOWN if ramping else Bound.LIMIT
    if blind(state.sight, moment.now_boot_s, settings):
        bound = Bound.METER
    return Because(bound=bound, source=limit.source, command_id=limit.command_id)


def _risen(
    state: BudgetState,
    moment: Moment,
    reach_w: float,
    bound: Bound,
    settings: BudgetSettings,
    *,
    limited: bool,
) -> tuple[float | None, Bound]:
    """Let the ceiling rise by the ramp at most, and say what holds it; what falls was ramped before."""
    held_w = state.allowed_w
    if held_w is None or reach_w <= held_w:
        return (None if reach_w == math.inf else reach_w), bound
    from_w = max(held_w, moment.least_w)
    if state.eased_s is not None and moment.now_boot_s - state.eased_s < settings.release_delay_s:
        return min(from_w, reach_w), Bound.RELEASE
    if limited and not moment.sees:
        return min(from_w, reach_w), Bound.METER
    allowed_w = min(reach_w, from_w + _rise_w(reach_w - from_w, moment.elapsed_s, settings))
    return allowed_w, bound if reach_w - allowed_w <= settings.deadband_w else Bound.RAMP_UP


def _rise_w(room_w: float, elapsed_s: float, settings: BudgetSettings) -> float:
    """Rise by the ramp, slower the nearer the bound is, and not at all for a trifle."""
    ramp_w = settings.ramp_up_w_per_s * elapsed_s
    if room_w <= settings.deadband_w:
        return 0.0
    if room_w == math.inf or settings.approach_s <= 0:
        return ramp_w
    return min(ramp_w, room_w * (1.0 - math.exp(-elapsed_s / settings.approach_s)))
