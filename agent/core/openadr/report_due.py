"""When an event's reports are due, and on which intervals.

Boundary `n` lies at the start of interval `n`, and after the last one at its end. A historical report covers
the intervals before its boundary, a forecast those after it. An event without intervals of its own repeats
its period for as long as reports are wanted. What fell due before we knew of the event is not made up for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from agent.core.openadr.book import Known, chance
from agent.core.openadr.report_body import term
from agent.core.openadr.schedule import Slot, is_momentary, lay_out
from agent.core.openadr.times import after
from agent.model.figures import Window
from agent.model.openadr import Due, Duration, Event, Interval, ReportDescriptor, Unreadable

MAX_CATCH_UP = 24
MAX_WINDOWS = 500
"""Intervals in one report: the newest of the past, the nearest of a forecast."""
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_AHEAD = timedelta(days=2)


def due(
    known: Known,
    *,
    site: str,
    now: datetime,
    done: Mapping[tuple[str, int], int],
    open_window_s: float = 900.0,
) -> tuple[Due, ...]:
    """Return the reports of an event that are due and not done, oldest first.

    Parameters
    ----------
    known : Known
        The event, and since when we know it; what fell due before that is not made up for.
    site : str
        Name that the site's chance is drawn from.
    now : datetime
        Calendar now.
    done : mapping of series to number
        The newest report of each series that was delivered.
    open_window_s : float
        Length of the one interval reported where the event leaves it to us.
    """
    event = known.event
    if isinstance(event, Unreadable) or known.cancelled:
        return ()
    grid = _grid(event, known, site, now)
    found: list[Due] = []
    for group, descriptors in enumerate(groups(event)):
        last = done.get((event.id or "", group), -1)
        if is_momentary(event) or descriptors[0].frequency == 0:
            if last < 0:
                found.append(_at_once(known, event, group, descriptors, open_window_s))
        elif grid is not None and (series := _in_turn(grid, event, group, descriptors)) is not None:
            found.extend(series.due(now, last, known.received_at))
    return tuple(sorted(found, key=lambda each: (each.due_at, each.group)))


def groups(event: Event) -> list[tuple[ReportDescriptor, ...]]:
    """Put together what is reported at the same times and can be told."""
    groups: dict[tuple[object, ...], list[ReportDescriptor]] = {}
    for d in event.report_descriptors:
        when = (d.start_interval, d.num_intervals, d.historical, d.frequency, d.repeat, d.aggregate)
        if term(d) is not None:
            groups.setdefault(when, []).append(d)
    return [tuple(group) for group in groups.values()]


def _at_once(
    known: Known,
    event: Event,
    group: int,
    descriptors: tuple[ReportDescriptor, ...],
    open_window_s: float,
) -> Due:
    start_at = known.received_at - timedelta(seconds=open_window_s)
    window = Window(id=0, start_at=start_at, end_at=known.received_at)
    return Due(
        event=event,
        group=group,
        number=0,
        due_at=known.received_at,
        descriptors=descriptors,
        windows=(window,),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """The intervals of an event, numbered; `period` is set where they go on for ever."""

    slots: tuple[Slot, ...]
    complete: bool
    period: Duration | None = None

    @property
    def count(self) -> int | None:
        """How many intervals there are; None: not known, or no end."""
        return len(self.slots) if self.complete else None

    def boundary(self, number: int) -> datetime | None:
        """Return the start of an interval, or the end of the last; None: never."""
        if self.period is not None:
            return after(self.slots[0].start_at, self.period, number)
        if number < len(self.slots):
            return self.slots[number].start_at
        return self.slots[-1].end_at if self.complete and number == len(self.slots) else None

    def reached(self, now: datetime) -> int:
        """Return the number of the newest boundary that lies behind; -1: none does."""
        number = -1
        if self.period is not None and self.period.months == 0:
            number = max(-1, int((now - self.slots[0].start_at).total_seconds() // self.period.seconds) - 1)
        while (at := self.boundary(number + 1)) is not None and at <= now:
            number += 1
        return number

    def windows(self, numbers: range) -> tuple[Window, ...]:
        """Return intervals with their ends."""
        found = []
        for number in numbers:
            slot = self.slots[number] if self.period is None and number < len(self.slots) else None
            start_at = self.boundary(number)
            end_at = self.boundary(number + 1) if slot is None else slot.end_at
            if start_at is not None and end_at is not None and end_at > start_at:
                found.append(Window(id=number, start_at=start_at, end_at=end_at))
        return tuple(found)


def _grid(event: Event, known: Known, site: str, now: datetime) -> _Grid | None:
    period = None if event.period is None else event.period.duration
    bare = not event.intervals
    if bare:
        if period is None or period.is_zero:
            return None
        event = replace(event, intervals=(Interval(id=0, period=None, payloads=()),))
    schedule = lay_out(
        event,
        received_at=known.received_at,
        from_at=_BEGINNING,
        until_at=now + _AHEAD,
        chance=chance(site, event.id or ""),
    )
    if not schedule.slots:
        return None
    return _Grid(slots=schedule.slots, complete=schedule.known_until is None, period=period if bare else None)


def _in_turn(
    grid: _Grid, event: Event, group: int, descriptors: tuple[ReportDescriptor, ...]
) -> "_Series | None":
    wanted = descriptors[0]
    first = wanted.start_interval if wanted.start_interval >= 0 else grid.count
    if first is None:
        return None  # an end that is not in sight
    length = wanted.num_intervals if wanted.num_intervals > 0 else (grid.count or 1)
    step = wanted.frequency if wanted.frequency > 0 else max(1, length)
    most = None if wanted.repeat < 0 else wanted.repeat
    return _Series(
        grid=grid, event=event, group=group, descriptors=descriptors, first=first, step=step, most=most
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """The reports of one group of descriptors, numbered."""

    grid: _Grid
    event: Event
    group: int
    descriptors: tuple[ReportDescriptor, ...]
    first: int
    step: int
    most: int | None

    def due(self, now: datetime, last: int, received_at: datetime) -> Sequence[Due]:
        """Return the reports that are due and newer than the last one."""
        newest = (self.grid.reached(now) - self.first) // self.step
        if self.most is not None:
            newest = min(newest, self.most - 1)
        numbers = range(max(0, last + 1, newest - MAX_CATCH_UP + 1), newest + 1)
        reports = (self._report(number) for number in numbers)
        return [each for each in reports if each is not None and (last >= 0 or each.due_at >= received_at)]

    def _report(self, number: int) -> Due | None:
        at = self.first + number * self.step
        due_at = self.grid.boundary(at)
        windows = self.grid.windows(self._covered(at))
        if due_at is None or not windows:
            return None
        return Due(
            event=self.event,
            group=self.group,
            number=number,
            due_at=due_at,
            descriptors=self.descriptors,
            windows=windows,
        )

    def _covered(self, at: int) -> range:
        length = self.descriptors[0].num_intervals
        if self.descriptors[0].historical:
            return range(0 if length <= 0 else max(0, at - length), at)[-MAX_WINDOWS:]
        ends = at + length if length > 0 else self.grid.count or at + 1
        return range(at, ends)[:MAX_WINDOWS]
