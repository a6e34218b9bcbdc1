"""When an event's intervals are: contiguous, overridden, looped, truncated, shifted by chance.

Rules of the User Guide 7 and 8. Our readings where it leaves room: a duration that is stated nowhere lasts
until the event changes; a loop repeats the length that its first round had; "now" is when the VTN says that
the event was last changed, else when it was first received, so that a restart does not begin it anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.openadr.times import after, longest_s
from agent.model.openadr import NOW, Duration, Event, Interval, IntervalPeriod

MAX_SLOTS = 1000
_NOTHING = IntervalPeriod()


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One interval with its place in time; `end_at` None: without end."""

    interval: Interval
    start_at: datetime
    end_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The slots of an event within a window, by start; `known_until` None: nothing lies beyond them."""

    slots: tuple[Slot, ...] = ()
    known_until: datetime | None = None


def lay_out(
    event: Event, *, received_at: datetime, from_at: datetime, until_at: datetime, chance: float = 0.5
) -> Schedule:
    """Place an event's intervals.

    Parameters
    ----------
    event : Event
        As the VTN states it.
    received_at : datetime
        When this content was first received.
    from_at, until_at : datetime
        The window of interest; slots that are over before it or start after it are left out.
    chance : float
        Number from 0 to 1, drawn once for this site and event; 0.5 shifts nothing.

    Returns
    -------
    Schedule
        Empty for an event that is cancelled or over.
    """
    first = _first_round(event, _said_at(event, received_at), 2.0 * chance - 1.0)
    if not first or (event.duration is not None and event.duration.is_zero):
        return Schedule()
    begin_at = min(slot.start_at for slot in first)
    stop_at = None if event.duration is None else after(begin_at, event.duration)
    kept: list[Slot] = []
    for slot in _rounds(first, begin_at, from_at, looped=event.duration is not None):
        if stop_at is not None and slot.start_at >= stop_at:
            break
        if slot.start_at >= until_at:
            return _schedule(kept, until_at)
        if len(kept) == MAX_SLOTS:
            return _schedule(kept, kept[-1].start_at)
        clipped = _clip(slot, stop_at)
        if clipped.end_at is None or clipped.end_at > from_at:
            kept.append(clipped)
    return _schedule(kept, None)


def is_momentary(event: Event) -> bool:
    """Whether the event has no extent at all: it asks for something at once, or has been cancelled."""
    periods = [event.period, *(interval.period for interval in event.intervals)]
    stated = [period.duration for period in periods if period is not None and period.duration is not None]
    return bool(stated) and all(duration.is_zero for duration in stated)


def _schedule(kept: list[Slot], known_until: datetime | None) -> Schedule:
    return Schedule(slots=tuple(kept), known_until=known_until)


def _said_at(event: Event, received_at: datetime) -> datetime:
    return received_at if event.stated_at is None else min(event.stated_at, received_at)


def _first_round(event: Event, said_at: datetime, swing: float) -> list[Slot]:
    """Place every interval once, in the order in which the event lists them by id."""
    base = event.period or _NOTHING
    cursor: datetime | None = _shifted(_resolved(base.start, said_at), base.randomize_start, swing)
    slots = []
    for interval in sorted(event.intervals, key=lambda each: each.id):
        own = interval.period or _NOTHING
        if own.start is not None:
            cursor = _resolved(own.start, said_at)
        if cursor is None:
            break  # nothing follows an interval without end
        cursor = _shifted(cursor, own.randomize_start, swing)
        duration = own.duration or base.duration
        end_at = None if duration is None else after(cursor, duration)
        if end_at is None or end_at > cursor:
            slots.append(Slot(interval=interval, start_at=cursor, end_at=end_at))
        cursor = end_at
    return slots


def _resolved(start: datetime | None, said_at: datetime) -> datetime:
    return said_at if start is None or start == NOW else start


def _shifted(at: datetime, bound: Duration | None, swing: float) -> datetime:
    if bound is None:
        return at
    try:
        return at + timedelta(seconds=swing * longest_s(bound))
    except OverflowError:
        return at


def _rounds(first: list[Slot], begin_at: datetime, from_at: datetime, *, looped: bool) -> Iterator[Slot]:
    """Yield the first round, and where the event loops every later one from the window on."""
    ends = [slot.end_at for slot in first]
    last_at = None if None in ends else max(end for end in ends if end is not None)
    ordered = sorted(first, key=lambda slot: slot.start_at)
    if not looped or last_at is None:
        yield from ordered
        return
    span = last_at - begin_at
    number = max(0, (from_at - begin_at) // span)
    while True:
        try:
            moved = [_moved(slot, number * span) for slot in ordered]
        except OverflowError:
            return  # the end of the calendar
        yield from moved
        number += 1


def _moved(slot: Slot, by: timedelta) -> Slot:
    end_at = None if slot.end_at is None else slot.end_at + by
    return Slot(interval=slot.interval, start_at=slot.start_at + by, end_at=end_at)


def _clip(slot: Slot, stop_at: datetime | None) -> Slot:
    if stop_at is None or (slot.end_at is not None and slot.end_at <= stop_at):
        return slot
    return Slot(interval=slot.interval, start_at=slot.start_at, end_at=stop_at)
