"""The one place that reads a clock. Everything else is handed a `Clock`."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for the calendar, one for durations."""

    def now(self) -> datetime:
        """Return the calendar time, aware, in UTC. It may step."""
        ...

    def boottime_s(self) -> float:
        """Return seconds since boot, suspend included (CLOCK_BOOTTIME). It never steps."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the calendar time, aware, in UTC. It may step."""
        return datetime.now(UTC)

    def boottime_s(self) -> float:
        """Return seconds since boot, suspend included (CLOCK_BOOTTIME). It never steps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class FakeClock:
    """A clock that moves when it is told to; both of its clocks move together unless one is stepped.

    Parameters
    ----------
    now : datetime
        Where the calendar starts, aware.
    boottime_s : float
        Where the duration clock starts.
    """

    def __init__(self, now: datetime, boottime_s: float = 1000.0) -> None:
        self._now = now
        self._boottime_s = boottime_s

    def now(self) -> datetime:
        """Return the calendar time."""
        return self._now

    def boottime_s(self) -> float:
        """Return the duration clock."""
        return self._boottime_s

    def advance(self, duration_s: float) -> None:
        """Let time pass on both clocks."""
        self._now += timedelta(seconds=duration_s)
        self._boottime_s += duration_s

    def step_calendar(self, step_s: float) -> None:
        """Step the calendar alone, as NTP or an operator does."""
        self._now += timedelta(seconds=step_s)
