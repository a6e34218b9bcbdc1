"""Many signals of one kind, merged into one timeline without overlaps.

The lower priority number wins; without a number a signal is the least. Among equals the most restrictive
holds, which the caller names: the least watts, the highest level, the dearest price.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from agent.model.openadr import Signal, SignalKind

Pick = Callable[[Iterable[float]], float]

STRICTEST: dict[SignalKind, Pick] = {
    SignalKind.LEVEL: max,
    SignalKind.PRICE: max,
    SignalKind.GHG: max,
}
"""Kinds whose greater figure restricts more; of all others the lesser does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One figure for one stretch of time, and the events that it is from; `end_at` None: without end."""

    start_at: datetime
    end_at: datetime | None
    value: float
    event_ids: tuple[str, ...]


def merge(signals: Iterable[Signal], pick: Pick = min) -> tuple[Segment, ...]:
    """Merge signals of one kind; those without a figure are left out.

    Parameters
    ----------
    signals : iterable of Signal
        In any order; the result does not depend on it.
    pick : callable
        Chooses among the figures of equal priority.

    Returns
    -------
    tuple of Segment
        By start, without overlaps; neighbours differ.
    """
    read = [signal for signal in signals if signal.value is not None]
    edges = sorted({edge for s in read for edge in (s.start_at, s.end_at) if edge is not None})
    starting: dict[datetime, list[Signal]] = {}
    for signal in read:
        starting.setdefault(signal.start_at, []).append(signal)
    merged: list[Segment] = []
    active: list[Signal] = []
    for index, edge in enumerate(edges):
        active = [s for s in active if s.end_at is None or s.end_at > edge] + starting.get(edge, [])
        if active:
            end_at = edges[index + 1] if index + 1 < len(edges) else None
            _append(merged, _winner(active, pick, edge, end_at))
    return tuple(merged)


def at(segments: tuple[Segment, ...], instant: datetime) -> Segment | None:
    """Return the segment that covers an instant."""
    index = bisect_right(segments, instant, key=lambda segment: segment.start_at) - 1
    if index < 0:
        return None
    found = segments[index]
    return found if found.end_at is None or found.end_at > instant else None


def _winner(active: list[Signal], pick: Pick, start_at: datetime, end_at: datetime | None) -> Segment:
    foremost = min(_rank(signal) for signal in active)
    rivals = [s for s in active if _rank(s) == foremost and s.value is not None]
    value = pick(s.value for s in rivals if s.value is not None)
    ids = tuple(sorted({s.event_id for s in rivals if s.value == value}))
    return Segment(start_at=start_at, end_at=end_at, value=value, event_ids=ids)


def _rank(signal: Signal) -> float:
    return math.inf if signal.priority is None else signal.priority


def _append(merged: list[Segment], segment: Segment) -> None:
    last = merged[-1] if merged else None
    if (
        last is not None
        and last.end_at == segment.start_at
        and (last.value, last.event_ids) == (segment.value, segment.event_ids)
    ):
        merged[-1] = replace(last, end_at=segment.end_at)
    else:
        merged.append(segment)
