"""What inverters and batteries are told: curtail beyond an export limit, charge from what is left over.

A decision is a power in watts or None, "leave the device to itself". It is made from metered power alone and
lasts: small moves of the load do not make it move. It knows no register; `wish_of` names the points of a
SunSpec control that carry it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from agent.core.known import total
from agent.model.readings import MeterReading, MeterRole, Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLimit:
    """Curtail a plant so that the site does not export more than it may.

    Parameters
    ----------
    rated_w : float
        The plant's maximum, > 0: what its per cents count from.
    export_limit_w : float
        Most export at the grid connection, >= 0.
    band_w : float
        How far below the limit to aim, >= 0, so that a restless load does not mean a write every second.
    rise_w_per_s : float
        How fast the plant is let up again, > 0; it comes down at once.
    grace_s : float
        For so long meters may be silent; then the plant makes no more than may be exported without any load.
    """

    rated_w: float
    export_limit_w: float
    band_w: float
    rise_w_per_s: float
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeSurplus:
    """Charge a battery from what the site would export, that is from surplus beyond the jobs.

    Parameters
    ----------
    control : str
        ``active-power`` (watts) or ``storage-rates`` (per cent of `max_charge_w`).
    max_charge_w : float
        Greatest charge, > 0.
    min_charge_w : float
        With less than this left over the battery is left to itself, > 0.
    band_w : float
        Export that is left over on purpose, >= 0.
    rise_w_per_s : float
        How fast charging rises, > 0; it falls at once.
    grace_s : float
        For so long meters may be silent; then the battery is left to itself.
    """

    control: str
    max_charge_w: float
    min_charge_w: float
    band_w: float
    rise_w_per_s: float
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """Set the same values as long as the agent runs, in the points' units."""

    values: Mapping[str, float]


Rule = ExportLimit | ChargeSurplus | Fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is metered now, in the house's sign; None: not known well enough to act on.

    `grid_w` is import, `device_w` what the device itself makes (a plant) or charges (a battery).
    """

    grid_w: float | None
    device_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetState:
    """What was decided last; `power_w` None leaves the device to itself, times are boottime or None."""

    power_w: float | None = None
    at_s: float | None = None
    known_s: float | None = None


def sight_of(readings: Mapping[str, MeterReading], meters: Mapping[str, MeterRole], device: str) -> Sight:
    """Look at the grid meters and the device's own; only OK readings count, for a write follows.

    Parameters
    ----------
    readings : mapping of meter name to MeterReading
        The newest of each.
    meters : mapping of meter name to role
        All that the site has.
    device : str
        Name of the device's meter.
    """
    grid_w = total(_ok_w(readings.get(name)) for name, role in meters.items() if role is MeterRole.GRID)
    return Sight(grid_w=grid_w, device_w=_ok_w(readings.get(device)))


def within_limits(rule: Rule, limits_w: Iterable[float]) -> Rule:
    """Return the rule under what operators let the site export, in watts.

    The least of all limits holds, the configured one among them.
    """
    if not isinstance(rule, ExportLimit):
        return rule
    return replace(rule, export_limit_w=min((rule.export_limit_w, *limits_w)))


def least_export_w(grid_w: float | None, plants: Iterable[MeterReading | None]) -> float | None:
    """Tell what export, in watts, a site could come down to with its plants off; None: it is not known.

    Parameters
    ----------
    grid_w : float or None
        Its import now.
    plants : iterable of MeterReading or None
        Each plant that can be curtailed; none: there is nothing to be told. Only OK readings count.
    """
    made_w = total(_ok_w(plant) for plant in plants)
    return None if grid_w is None or made_w is None else max(0.0, -(grid_w + made_w))


def decide(rule: Rule, state: SetState, sight: Sight, *, now_s: float) -> SetState:
    """Decide what the device is told now.

    Parameters
    ----------
    rule : Rule
        As configured.
    state : SetState
        As the last decision left it.
    sight : Sight
        What is metered.
    now_s : float
        Boottime.
    """
    elapsed_s = 0.0 if state.at_s is None else max(0.0, now_s - state.at_s)
    known_s = now_s if state.known_s is None else state.known_s
    if isinstance(rule, Fixed):
        return replace(state, at_s=now_s, known_s=known_s)
    if sight.grid_w is None or sight.device_w is None:
        blind = now_s - known_s > rule.grace_s
        return SetState(
            power_w=_unsighted_w(rule, state.power_w) if blind else state.power_w, at_s=now_s, known_s=known_s
        )
    if isinstance(rule, ExportLimit):
        power_w = _cap_w(rule, state, sight.device_w + sight.grid_w + rule.export_limit_w, elapsed_s)
    else:
        power_w = _charge_w(rule, state, sight.device_w - sight.grid_w, elapsed_s)
    return SetState(power_w=power_w, at_s=now_s, known_s=now_s)


def wish_of(rule: Rule, state: SetState) -> Mapping[str, float] | None:
    """Name the points that carry a decision, with their values; None: the device is left to itself."""
    if isinstance(rule, Fixed):
        return rule.values
    if state.power_w is None:
        return None
    if isinstance(rule, ExportLimit):
        return {"WMaxLimPct": 100.0 * state.power_w / rule.rated_w}
    if rule.control == "active-power":
        return {"WSet": -state.power_w}  # SunSpec counts injection as positive
    rate = 100.0 * state.power_w / rule.max_charge_w
    # The discharge limit below zero is what makes a battery charge rather than merely allow it.
    return {"InWRte": rate, "OutWRte": -rate}


def _cap_w(rule: ExportLimit, state: SetState, allowed_w: float, elapsed_s: float) -> float | None:
    """`allowed_w` is what the site draws besides the plant, plus what it may export."""
    if state.power_w is None:
        return None if allowed_w >= rule.rated_w else _within(allowed_w - rule.band_w, rule.rated_w)
    if allowed_w - 2 * rule.band_w <= state.power_w <= allowed_w < rule.rated_w:
        return state.power_w
    # Free again only well above: else the switch would chatter at the rating.
    goal_w = rule.rated_w if allowed_w >= rule.rated_w + rule.band_w else allowed_w - rule.band_w
    power_w = _within(min(goal_w, state.power_w + rule.rise_w_per_s * elapsed_s), rule.rated_w)
    return None if power_w >= rule.rated_w else power_w


def _charge_w(rule: ChargeSurplus, state: SetState, free_w: float, elapsed_s: float) -> float | None:
    """`free_w` is what the battery would take if the site neither imported nor exported."""
    # Once it charges it goes on with a little less than it takes to begin.
    needed_w = rule.min_charge_w + rule.band_w if state.power_w is None else rule.min_charge_w
    if free_w < needed_w:
        return None
    before_w = rule.min_charge_w if state.power_w is None else state.power_w
    if free_w - 2 * rule.band_w <= before_w <= free_w and state.power_w is not None:
        return before_w
    goal_w = max(rule.min_charge_w, free_w - rule.band_w)
    return _within(min(goal_w, before_w + rule.rise_w_per_s * elapsed_s), rule.max_charge_w)


def _unsighted_w(rule: ExportLimit | ChargeSurplus, power_w: float | None) -> float | None:
    if isinstance(rule, ChargeSurplus):
        return None
    safe_w = min(rule.export_limit_w, rule.rated_w)
    return safe_w if power_w is None else min(power_w, safe_w)


def _within(power_w: float, most_w: float) -> float:
    return max(0.0, min(power_w, most_w))


def _ok_w(reading: MeterReading | None) -> float | None:
    return reading.active_power_w if reading is not None and reading.quality is Quality.OK else None
