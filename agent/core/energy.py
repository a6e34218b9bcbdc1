"""Energy from readings: counters where a device has them, integrated power where not, and nothing made up.

Each direction is judged by itself, because many devices count only one. A counter's difference is exact, also
across a gap in the readings. A counter that falls has wrapped, when a known width makes that possible, or was
reset; then, and where there is no counter, power is integrated and the result says ESTIMATED. Across a gap
without a counter the energy is unknown, which is None and never 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from agent.core.plausibility import counter_fault
from agent.model.readings import MeterReading, MeterRole, Quality
from sterna.units import joules_to_wh

# 32-bit counters of 1 Wh to 1 kWh a count, and displays of eight digits of 0.1 or 1 kWh.
WRAPS_WH: tuple[float, ...] = (2.0**32, 1e10, 2.0**32 * 10, 1e11, 2.0**32 * 100, 2.0**32 * 1000)
WORSE = (Quality.OK, Quality.ESTIMATED, Quality.STALE, Quality.BAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterTrack:
    """What is remembered of one counter."""

    energy_wh: float | None = None
    """As last read; None: the device has none."""
    moved_s: float = 0.0
    """Boottime before which it last stood still; the step since then may be as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTrack:
    """What is remembered of a meter between readings; the first one is empty."""

    measured_s: float | None = None
    measured_at: datetime | None = None
    power_w: float | None = None
    imported: CounterTrack = CounterTrack()
    exported: CounterTrack = CounterTrack()


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Energy in one direction over a step.

    Parameters
    ----------
    energy_wh : float or None
        At least 0; None: unknown.
    quality : Quality
        OK: counted. ESTIMATED: integrated. BAD: unknown.
    """

    energy_wh: float | None
    quality: Quality


NOTHING = Amount(energy_wh=0.0, quality=Quality.OK)
UNKNOWN = Amount(energy_wh=None, quality=Quality.BAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyStep:
    """What flowed between two good readings of a meter.

    Parameters
    ----------
    begin_at, end_at : datetime
        The instants of the two readings.
    duration_s : float
        Between them, > 0.
    imported, exported : Amount
        Into and out of the site or device.
    imported_flow, exported_flow : Amount
        The same from power alone, whether or not there is a counter; unknown over a gap.
    """

    begin_at: datetime
    end_at: datetime
    duration_s: float
    imported: Amount
    exported: Amount
    imported_flow: Amount = UNKNOWN
    exported_flow: Amount = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTotal:
    """Sums of steps: what is known, how much of it is estimated, and for how long nothing is known."""

    imported_wh: float = 0.0
    exported_wh: float = 0.0
    estimated_wh: float = 0.0
    """The part of both that was integrated."""
    unknown_s: float = 0.0
    """Time for which a direction is unknown; its energy is in neither sum."""
    duration_s: float = 0.0
    quality: Quality = Quality.OK
    """The worst of the steps."""


def step(
    track: EnergyTrack,
    reading: MeterReading,
    *,
    max_power_w: float,
    max_gap_s: float,
) -> tuple[EnergyTrack, EnergyStep | None]:
    """Take a reading.

    Parameters
    ----------
    track : EnergyTrack
        What was heard so far.
    reading : MeterReading
        The newest; one that is not OK changes nothing, the next good one spans the gap.
    max_power_w : float
        Largest power that can flow, > 0: a counter that went faster is not believed.
    max_gap_s : float
        Longest time between two readings over which power is integrated.

    Returns
    -------
    tuple
        The track, and what flowed since the last good reading; None with the first one, with one that is not
        later, and with one that is not OK.
    """
    power_w = reading.active_power_w
    if reading.quality is not Quality.OK or power_w is None:
        return track, None
    elapsed_s = _elapsed_s(track, reading)
    fresh = EnergyTrack(
        measured_s=reading.measured_boottime_s, measured_at=reading.measured_at, power_w=power_w
    )
    if elapsed_s is None or track.measured_at is None or track.power_w is None:
        return _with_counters(fresh, track, reading), None
    if elapsed_s == 0:
        return track, None
    flows = _integrated(track.power_w, power_w, elapsed_s, max_gap_s, reading.role)
    imported, exported = (
        _amount(
            counter,
            after_wh,
            flow,
            # A counter that is read seldom moves by more than one step's energy at once.
            since_s=max(elapsed_s, reading.measured_boottime_s - counter.moved_s),
            max_power_w=max_power_w,
        )
        for counter, after_wh, flow in (
            (track.imported, reading.energy_import_wh, flows[0]),
            (track.exported, reading.energy_export_wh, flows[1]),
        )
    )
    done = EnergyStep(
        begin_at=track.measured_at,
        end_at=reading.measured_at,
        duration_s=elapsed_s,
        imported=imported,
        exported=exported,
        imported_flow=flows[0],
        exported_flow=flows[1],
    )
    return _with_counters(fresh, track, reading), done


def total(steps: Iterable[EnergyStep]) -> EnergyTotal:
    """Sum steps."""
    result = EnergyTotal()
    for one in steps:
        amounts = (one.imported, one.exported)
        result = EnergyTotal(
            imported_wh=result.imported_wh + (one.imported.energy_wh or 0.0),
            exported_wh=result.exported_wh + (one.exported.energy_wh or 0.0),
            estimated_wh=result.estimated_wh
            + sum(a.energy_wh or 0.0 for a in amounts if a.quality is Quality.ESTIMATED),
            unknown_s=result.unknown_s + (one.duration_s if None in {a.energy_wh for a in amounts} else 0.0),
            duration_s=result.duration_s + one.duration_s,
            quality=max((result.quality, *(a.quality for a in amounts)), key=WORSE.index),
        )
    return result


def imbalance_fault(
    *,
    grid_wh: float,
    generation_wh: float,
    battery_wh: float,
    consumption_wh: float,
    tolerance_frac: float,
    tolerance_wh: float,
) -> str | None:
    """Say how far a site's energies are from being conserved, in one sentence; None when they are.

    Parameters
    ----------
    grid_wh, battery_wh : float
        Net over one interval, import and charging positive.
    generation_wh, consumption_wh : float
        Produced, and drawn by all loads, compute included; >= 0.
    tolerance_frac : float
        Of the larger side, for the meters' classes of accuracy.
    tolerance_wh : float
        In any case, for counters that step.
    """
    came_wh, went_wh = grid_wh + generation_wh, battery_wh + consumption_wh
    allowed_wh = tolerance_wh + tolerance_frac * max(abs(came_wh), abs(went_wh))
    if abs(came_wh - went_wh) <= allowed_wh:
        return None
    return f"{came_wh:g} Wh came in and {went_wh:g} Wh were used: more than {allowed_wh:g} Wh apart"


def _elapsed_s(track: EnergyTrack, reading: MeterReading) -> float | None:
    """Return the time since the track's reading; None when it cannot be told."""
    if track.measured_s is None or track.measured_at is None:
        return None
    elapsed_s = reading.measured_boottime_s - track.measured_s
    if elapsed_s >= 0:
        return elapsed_s
    # The machine was booted since; the calendar is all that is left.
    calendar_s = (reading.measured_at - track.measured_at).total_seconds()
    return calendar_s if calendar_s > 0 else None


def _with_counters(fresh: EnergyTrack, before: EnergyTrack, reading: MeterReading) -> EnergyTrack:
    now_s = reading.measured_boottime_s
    since_s = now_s if before.measured_s is None else min(before.measured_s, now_s)
    return replace(
        fresh,
        imported=_remembered(before.imported, reading.energy_import_wh, since_s),
        exported=_remembered(before.exported, reading.energy_export_wh, since_s),
    )


def _remembered(counter: CounterTrack, energy_wh: float | None, since_s: float) -> CounterTrack:
    if energy_wh is None or energy_wh == counter.energy_wh:
        return counter  # kept over a reading without it, so that the next one spans the gap
    return CounterTrack(energy_wh=energy_wh, moved_s=since_s)


def _amount(
    counter: CounterTrack,
    after_wh: float | None,
    flow: Amount,
    *,
    since_s: float,
    max_power_w: float,
) -> Amount:
    before_wh = counter.energy_wh
    if before_wh is None:
        return flow
    if after_wh is None:
        # Counted energy will come with the next reading of the counter: integrating too would count it twice.
        return NOTHING
    widths_wh = (0.0,) if after_wh >= before_wh else tuple(w for w in WRAPS_WH if w >= before_wh)
    for width_wh in widths_wh:
        reached_wh = after_wh + width_wh
        if counter_fault(before_wh, reached_wh, elapsed_s=since_s, max_power_w=max_power_w) is None:
            return Amount(energy_wh=reached_wh - before_wh, quality=Quality.OK)
    return flow


def _integrated(
    before_w: float, after_w: float, elapsed_s: float, max_gap_s: float, role: MeterRole
) -> tuple[Amount, Amount]:
    """Integrate along the straight line between two powers; each sign to its direction."""
    if elapsed_s > max_gap_s:
        return UNKNOWN, UNKNOWN
    positive_wh = joules_to_wh(_positive_area(before_w, after_w) * elapsed_s)
    negative_wh = joules_to_wh(_positive_area(-before_w, -after_w) * elapsed_s)
    positive = Amount(energy_wh=positive_wh, quality=Quality.ESTIMATED)
    negative = Amount(energy_wh=negative_wh, quality=Quality.ESTIMATED)
    # A plant's production is positive by convention and leaves the device.
    return (negative, positive) if role is MeterRole.GENERATION else (positive, negative)


def _positive_area(before: float, after: float) -> float:
    """Mean of the positive part of a line between two values."""
    if before >= 0 and after >= 0:
        return (before + after) / 2
    if before <= 0 and after <= 0:
        return 0.0
    top = max(before, after)
    return top * top / (2 * (top - min(before, after)))
