"""The site's limits ahead, as OpenADR states them: every instant from now on has exactly one answer.

The import and the export have a plan each, by the same rules; only their `Direction` differs.

Between limits the announced SUBSCRIPTION (with what is RESERVED on top) holds, and it is also the last word
of every plan: when the schedule runs out while the VTN cannot be reached, the desk already holds it (User
Guide 8.10.1). What is not known counts as its strictest reading, never as unlimited.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.core.openadr.book import Outlook
from agent.core.openadr.directions import IMPORTS, Direction
from agent.core.openadr.meaning import MAX_LEVEL
from agent.core.openadr.timeline import Segment, at, merge
from agent.model.limits import LimitKind
from agent.model.openadr import Signal, SignalKind

MAX_PLANNED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What a site makes of OpenADR's words. Watts, >= 0, of import or export as the plan is.

    `level_limits_w` gives the limit of each SIMPLE level; a level that is missing gets the least restrictive
    of the higher ones that are given, else `fallback_w`. `subscription_w` is the contract's figure, for a
    VTN that announces none; None: without an announcement nothing holds between limits. `fallback_w` stands
    for limits that cannot be read. `reference_w` is what relative set-points count from; None: they are
    taken as unreadable. `minimum_w` is the least that the site can hold.
    """

    fallback_w: float
    level_limits_w: Mapping[int, float] = field(default_factory=dict)
    subscription_w: float | None = None
    reference_w: float | None = None
    minimum_w: float = 0.0
    obey_setpoints: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One limit of the plan; `limit_w` None: none holds. `asked_w` differs where the site cannot go so low.

    `since_at` is when it began, which may lie before the plan; with `event_id` it names the command.
    """

    kind: LimitKind
    since_at: datetime
    start_at: datetime
    end_at: datetime | None
    limit_w: float | None
    asked_w: float | None
    event_id: str
    reason: str

    @property
    def command_id(self) -> str:
        """Name that stays the same however often the limit is planned anew."""
        if self.event_id:
            return f"{self.event_id[:96]}@{int(self.since_at.timestamp())}"
        # What holds by default has no beginning of its own; it is told apart by what ends it.
        return "default@" + ("open" if self.end_at is None else f"{int(self.end_at.timestamp())}")


def plan(
    outlook: Outlook, settings: LimitSettings, now: datetime, direction: Direction = IMPORTS
) -> tuple[Planned, ...]:
    """Lay out the limits of one direction from now on.

    Returns
    -------
    tuple of Planned
        Covers every instant from `now` without gap or overlap; the last has no end. At most `MAX_PLANNED`;
        what does not fit, or is not known yet, is one last limit as strict as the strictest of the rest.
    """
    tracks = _tracks(outlook.signals, settings, direction)
    edges = {now} | {
        edge
        for segments in tracks.values()
        for segment in segments
        for edge in (segment.start_at, segment.end_at)
        if edge is not None
    }
    ordered = sorted(edges)
    pieces: list[Planned] = []
    for index, edge in enumerate(ordered):
        end_at = ordered[index + 1] if index + 1 < len(ordered) else None
        _append(pieces, _piece(tracks, settings, direction, edge, end_at))
    ahead = [_from(piece, now) for piece in pieces if piece.end_at is None or piece.end_at > now]
    return _shortened(ahead, outlook.known_until.get(direction.kind))


def subscribed(outlook: Outlook, settings: LimitSettings, now: datetime) -> tuple[Planned, ...]:
    """Lay out what holds once every LIMIT has been discarded: the subscription alone, or the fall-back."""
    kept = (SignalKind.IMPORT_SUBSCRIPTION, SignalKind.IMPORT_RESERVATION)
    signals = tuple(s for s in outlook.signals if s.kind in kept)
    safe = settings.fallback_w if settings.subscription_w is None else settings.subscription_w
    return plan(
        Outlook(signals=signals, known_until=outlook.known_until),
        replace(settings, subscription_w=safe),
        now,
    )


def at_worst(planned: Iterable[Planned], now: datetime) -> tuple[Planned, ...]:
    """Lay out what holds while nobody knows the time: the strictest of a plan, until it is replaced."""
    return (replace(_strictest(planned), since_at=now, start_at=now, end_at=None),)


def changed(before: Iterable[Planned], after: Iterable[Planned], now: datetime) -> tuple[Planned, ...]:
    """Return the limits of a plan that an earlier one does not hold already, in order of time.

    The desk lets the newest command of a source speak. What both plans hold alike it holds already, under a
    command that no later one overlaps, since the limits of a plan are disjoint.
    """
    known = {_content(piece, now) for piece in before if piece.end_at is None or piece.end_at > now}
    return tuple(piece for piece in after if _content(piece, now) not in known)


def _content(piece: Planned, now: datetime) -> tuple[datetime, datetime | None, float | None, str, str]:
    return (max(piece.start_at, now), piece.end_at, piece.limit_w, piece.event_id, piece.reason)


def _tracks(
    signals: Iterable[Signal], settings: LimitSettings, direction: Direction
) -> dict[SignalKind, tuple[Segment, ...]]:
    by_kind: dict[SignalKind, list[Signal]] = {}
    kinds = direction.kinds
    for signal in signals:
        value = _limit_w(signal, settings) if signal.kind in kinds else None
        if value is not None:
            by_kind.setdefault(signal.kind, []).append(replace(signal, value=value))
    return {kind: merge(mine) for kind, mine in by_kind.items()}


def _limit_w(signal: Signal, settings: LimitSettings) -> float | None:
    """Return the limit that a signal sets, infinite where it sets none; None: it is to be left out."""
    match signal.kind:
        case SignalKind.IMPORT_RESERVATION | SignalKind.EXPORT_RESERVATION:
            return signal.value  # what cannot be read adds nothing
        case SignalKind.SETPOINT | SignalKind.SETPOINT_RELATIVE if not settings.obey_setpoints:
            return None
        case SignalKind.SETPOINT_RELATIVE:
            return _relative_w(signal.value, settings)
        case SignalKind.LEVEL if signal.value is not None:
            return _level_w(signal.value, settings)
        case _:
            return settings.fallback_w if signal.value is None else signal.value


def _relative_w(change_w: float | None, settings: LimitSettings) -> float:
    if change_w is None:
        return settings.fallback_w
    if change_w >= 0:
        return math.inf  # leave to draw more asks nothing of us
    return settings.fallback_w if settings.reference_w is None else max(0.0, settings.reference_w + change_w)


def _level_w(level: float, settings: LimitSettings) -> float:
    if level <= 0:
        return math.inf
    stricter = (n for n in range(min(math.ceil(level), MAX_LEVEL), MAX_LEVEL + 1))
    given = [settings.level_limits_w[n] for n in stricter if n in settings.level_limits_w]
    return given[0] if given else settings.fallback_w


def _piece(
    tracks: Mapping[SignalKind, tuple[Segment, ...]],
    settings: LimitSettings,
    direction: Direction,
    start_at: datetime,
    end_at: datetime | None,
) -> Planned:
    """Return what holds from one edge to the next."""
    here = {kind: at(tracks.get(kind, ()), start_at) for kind in direction.kinds}
    choices: list[tuple[float, str, str]] = [
        (found.value, reason, found.event_ids[0])
        for kind, reason in direction.limits.items()
        if (found := here[kind]) is not None and math.isfinite(found.value)
    ]
    if here[direction.limit] is None:
        choices.extend(_default(here, settings, direction))
    asked_w, reason, event_id = min(choices) if choices else (None, "no limit", "")
    return Planned(
        kind=direction.kind,
        since_at=start_at,
        start_at=start_at,
        end_at=end_at,
        limit_w=None if asked_w is None else max(asked_w, settings.minimum_w),
        asked_w=asked_w,
        event_id=event_id,
        reason=reason,
    )


def _default(
    here: Mapping[SignalKind, Segment | None], settings: LimitSettings, direction: Direction
) -> list[tuple[float, str, str]]:
    """Return what holds where no LIMIT does: what was subscribed to, and what was granted on top."""
    announced, reserved = here[direction.subscription], here[direction.reservation]
    base_w = settings.subscription_w if announced is None else announced.value
    if base_w is None:
        return []
    extra_w = 0.0 if reserved is None else reserved.value
    event_id = "" if announced is None else announced.event_ids[0]
    return [(base_w + extra_w, direction.default, event_id)]


def _append(pieces: list[Planned], piece: Planned) -> None:
    last = pieces[-1] if pieces else None
    if last is not None and (last.limit_w, last.asked_w, last.event_id, last.reason) == (
        piece.limit_w,
        piece.asked_w,
        piece.event_id,
        piece.reason,
    ):
        pieces[-1] = replace(last, end_at=piece.end_at)
    else:
        pieces.append(piece)


def _from(piece: Planned, now: datetime) -> Planned:
    return replace(piece, start_at=max(piece.start_at, now))


def _shortened(pieces: list[Planned], known_until: datetime | None) -> tuple[Planned, ...]:
    """Put one limit, as strict as the strictest, in the place of what is too far off or too many."""
    kept = [p for p in pieces if known_until is None or p.start_at < known_until]
    if known_until is None and len(kept) <= MAX_PLANNED:
        return tuple(kept)
    cut_at = known_until
    if len(kept) >= MAX_PLANNED:
        cut_at = kept[MAX_PLANNED - 1].start_at
        kept = kept[: MAX_PLANNED - 1]
    first_at = pieces[0].start_at
    cut_at = first_at if cut_at is None else max(first_at, cut_at)
    rest = replace(_strictest(pieces), since_at=cut_at, start_at=cut_at, end_at=None)
    if kept:
        kept[-1] = replace(kept[-1], end_at=cut_at)
    return (*kept, rest)


def _strictest(pieces: Iterable[Planned]) -> Planned:
    return min(pieces, key=lambda p: (math.inf if p.limit_w is None else p.limit_w, p.start_at))
