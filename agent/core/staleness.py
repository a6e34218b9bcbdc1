"""When a meter may be believed: what is kept of past polls, and what the site is told now.

A meter that does not answer keeps its last good reading until that is too old, and then says STALE. A meter
that talks nonsense says BAD at once and gives no number. A meter whose every figure stands still says STALE.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from agent.model.readings import MeterReading, MeterRole, Quality

STALE_PERIODS = 3.0
BREAKER_FAILURES = 3
PROBE_MAX_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterTrack:
    """What is remembered of one meter between polls; build the first with only `meter` and `role`."""

    meter: str
    role: MeterRole
    last: MeterReading | None = None
    """Last poll that was answered, OK or BAD."""
    fault: str | None = "not polled yet"
    """Why the polls since `last` failed; None when the newest one was answered."""
    changed_boottime_s: float | None = None
    """When one of the figures last differed from the one before; None before the first good reading."""
    failures: int = 0
    """Polls in a row that were not answered or not understood."""


def answered(track: MeterTrack, reading: MeterReading) -> MeterTrack:
    """Take a poll that was answered."""
    moved = track.last is None or _figures(track.last) != _figures(reading)
    changed_s = reading.measured_boottime_s if moved else track.changed_boottime_s
    return replace(track, last=reading, fault=None, changed_boottime_s=changed_s, failures=0)


def failed(track: MeterTrack, fault: str) -> MeterTrack:
    """Take a poll that was not answered, or not understood."""
    return replace(track, fault=fault, failures=track.failures + 1)


def poll_delay_s(track: MeterTrack, *, period_s: float) -> float:
    """Seconds from the last poll to the next one: the period, longer for a device that keeps failing.

    After three failures a device is only probed, at doubling distance up to 10 s (or the period, when that is
    longer), so that it does not take its neighbours' time on a shared bus.
    """
    if track.failures < BREAKER_FAILURES:
        return period_s
    doublings = min(track.failures - BREAKER_FAILURES + 1, 16)
    return max(period_s, min(period_s * 2.0**doublings, PROBE_MAX_S))


def published(
    track: MeterTrack,
    *,
    now: datetime,
    boottime_s: float,
    period_s: float,
    stuck_after_s: float | None,
) -> MeterReading:
    """Tell what the site may believe of this meter now.

    Parameters
    ----------
    track : MeterTrack
        What was heard so far.
    now, boottime_s
        The instant, on both clocks.
    period_s : float
        Poll period; a reading older than three of them is STALE.
    stuck_after_s : float or None
        Seconds without a change in any figure after which an answering meter is STALE; None: never.

    Returns
    -------
    MeterReading
        OK with the last good figures; STALE with them and the fault; BAD without a number. `measured_at` is
        always that of the figures, so that the age shows.
    """
    last = track.last
    if last is None:
        return MeterReading(
            meter=track.meter,
            role=track.role,
            measured_at=now,
            measured_boottime_s=boottime_s,
            quality=Quality.BAD,
            active_power_w=None,
            fault=track.fault,
        )
    if last.quality is Quality.BAD:
        return last
    age_s = boottime_s - last.measured_boottime_s
    if age_s > STALE_PERIODS * period_s:
        return replace(last, quality=Quality.STALE, fault=track.fault or f"no poll for {age_s:.0f} s")
    still_s = boottime_s - (boottime_s if track.changed_boottime_s is None else track.changed_boottime_s)
    if stuck_after_s is not None and still_s > stuck_after_s and _would_move(last):
        return replace(last, quality=Quality.STALE, fault=f"no figure changed for {still_s:.0f} s")
    return replace(last, fault=track.fault)


def _figures(reading: MeterReading) -> tuple[float | None, ...]:
    return (
        reading.active_power_w,
        reading.energy_import_wh,
        reading.energy_export_wh,
        reading.frequency_hz,
    )


def _would_move(reading: MeterReading) -> bool:
    # A plant at night stands at 0 W for hours; only its frequency would tell that it is alive.
    return bool(reading.active_power_w) or reading.frequency_hz is not None
