"""Which events a site holds, and what they say for the days ahead.

A complete poll replaces the book: an event that is no longer listed has been cancelled. Owns when each
event's present content was first seen; knows neither watts of the site nor the desk.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent.core.openadr.directions import EXPORTS, IMPORTS, Direction
from agent.core.openadr.meaning import meaning, signals
from agent.core.openadr.schedule import Schedule, is_momentary, lay_out
from agent.model.limits import LimitKind
from agent.model.openadr import Event, Signal, SignalKind, Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An event with when its present content was first received.

    `cancelled`: it had an extent before and has none now.
    """

    event: Event | Unreadable
    received_at: datetime
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What all events say within a window; a kind that `known_until` has not: no limit lies beyond it."""

    signals: tuple[Signal, ...] = ()
    known_until: Mapping[LimitKind, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Every event that the VTN lists for this site, by id."""

    held: Mapping[str, Known] = field(default_factory=dict)

    @property
    def faults(self) -> tuple[str, ...]:
        """What could not be read, event by event."""
        return tuple(
            f"event {key}: {known.event.fault}"
            for key, known in sorted(self.held.items())
            if isinstance(known.event, Unreadable)
        )

    def polled(self, events: Iterable[Event | Unreadable], now: datetime) -> "Book":
        """Return the book after a complete poll."""
        held: dict[str, Known] = {}
        for number, event in enumerate(events):
            key = event.id or f"?{number}"
            before = self.held.get(key)
            if before is not None and before.event == event:
                held[key] = before
            else:
                held[key] = Known(event=event, received_at=now, cancelled=_cancels(event, before))
        return Book(held=held)

    def outlook(self, *, site: str, from_at: datetime, until_at: datetime) -> Outlook:
        """Return what all events say within a window.

        Parameters
        ----------
        site : str
            Name that this site's chance is drawn from, so that sites differ and a restart draws the same.
        from_at, until_at : datetime
            The window; of what began before it and goes on, the true start is told.
        """
        found: list[Signal] = []
        horizons: dict[LimitKind, datetime] = {}
        for key, known in sorted(self.held.items()):
            if isinstance(known.event, Unreadable):
                found.extend(_unknown_limits(key, known.event, known.received_at))
                continue
            schedule = _schedule(site, known, known.event, from_at, until_at)
            found.extend(signals(known.event, schedule.slots))
            for direction in (IMPORTS, EXPORTS):
                if schedule.known_until is not None and _limits(known.event, direction):
                    earliest = horizons.get(direction.kind, schedule.known_until)
                    horizons[direction.kind] = min(earliest, schedule.known_until)
        return Outlook(signals=tuple(found), known_until=horizons)


def chance(site: str, event_id: str) -> float:
    """Draw a number from 0 to 1, uniform over sites and events and always the same for one of each."""
    drawn = hashlib.sha256(f"{site}\n{event_id}".encode()).digest()[:8]
    return int.from_bytes(drawn, "big") / 2**64


def _schedule(site: str, known: Known, event: Event, from_at: datetime, until_at: datetime) -> Schedule:
    return lay_out(
        event,
        received_at=known.received_at,
        from_at=from_at,
        until_at=until_at,
        chance=chance(site, event.id or ""),
    )


def _limits(event: Event, direction: Direction) -> bool:
    told = (meaning(payload.type).kind for interval in event.intervals for payload in interval.payloads)
    return not direction.kinds.isdisjoint(told)


def _cancels(event: Event | Unreadable, before: Known | None) -> bool:
    if before is None or isinstance(event, Unreadable) or not is_momentary(event):
        return False
    had_extent = isinstance(before.event, Unreadable) or not is_momentary(before.event)
    return before.cancelled or had_extent


def _unknown_limits(key: str, event: Unreadable, received_at: datetime) -> Iterator[Signal]:
    """Stand for an event that speaks of limits and cannot be read: limits without a figure, from now on.

    They are of kinds of their own: whose limits they would have overridden is not known, so they override
    none.
    """
    for limits, kind, payload_type in (
        (event.may_limit, SignalKind.UNREADABLE_LIMIT, "IMPORT_CAPACITY_LIMIT"),
        (event.may_limit_export, SignalKind.UNREADABLE_EXPORT_LIMIT, "EXPORT_CAPACITY_LIMIT"),
    ):
        if limits:
            yield Signal(
                kind=kind,
                payload_type=payload_type,
                event_id=key,
                priority=None,
                start_at=received_at,
                end_at=None,
                value=None,
                text="unreadable event",
            )
