"""Which intervals were an event, and what each is settled at.

An event is a stretch of intervals in which one source's limit bound the site: an OpenADR event by its id, any
other source by its uninterrupted run, whose first command names it. An interval belongs to the limit that
bound it longest, so it is never settled twice. What holds for longer than a day is no event but the rule.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.baselines import Baseline, Load, NoBaseline, Span
from agent.core.limits import FAILSAFE_SOURCE
from agent.model.settlement import LimitUse, SettledBaseline
from sterna.units import joules_to_wh, wh_to_joules

STANDING_SOURCES = frozenset({"local", "hardware"})
DEFAULT_COMMAND = "default@"
"""How the VEN names what holds between events."""
LONGEST_EVENT_S = 86400.0
LEAST_FRAC = 0.05
"""A limit that bound less of an interval does not make it an event's: commands come some seconds off."""
WORKLOAD = "workload"
"""Name of the counterfactual among the methods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What settling needs of a record. `source` "": no limit of an operator bound it."""

    start_at: datetime
    length_s: float
    import_wh: float | None = None
    source: str = ""
    command_id: str = ""
    counterfactual_w: float | None = None

    @property
    def end_at(self) -> datetime:
        """When it ended."""
        return self.start_at + timedelta(seconds=self.length_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEvent:
    """One event at this site, with its intervals in order."""

    event_id: str
    source: str
    intervals: tuple[Interval, ...]

    @property
    def span(self) -> Span:
        """From its first interval to the end of its last."""
        return Span(start_at=self.intervals[0].start_at, end_at=self.intervals[-1].end_at)


def is_asked(source: str, command_id: str) -> bool:
    """Whether somebody asks for a limit, rather than that it always holds."""
    return source not in STANDING_SOURCES and not command_id.startswith(DEFAULT_COMMAND)


def binding(limits: Iterable[LimitUse], length_s: float) -> tuple[str, str]:
    """Return source and command of the operator's limit that bound an interval longest; "" where none did."""
    least_s = LEAST_FRAC * length_s
    asked = [use for use in limits if use.held_s >= least_s and is_asked(use.source, use.command_id)]
    if not asked:
        return "", ""
    longest = max(asked, key=lambda use: (use.held_s, -use.limit_w))
    return longest.source, longest.command_id


def events(intervals: Iterable[Interval]) -> tuple[GridEvent, ...]:
    """Find the events among intervals, which come in order."""
    found: list[GridEvent] = []
    run: list[Interval] = []
    for interval in intervals:
        if run and (interval.start_at != run[-1].end_at or _name(interval) != _name(run[-1])):
            _append(found, run)
            run = []
        if interval.source:
            run.append(interval)
    _append(found, run)
    return tuple(found)


def loads(intervals: Sequence[Interval], found: Iterable[GridEvent]) -> tuple[Load, ...]:
    """Return the series that baselines are made from: events and fail-safe are not as usual."""
    unusual = {interval.start_at for event in found for interval in event.intervals}
    return tuple(
        Load(
            start_at=interval.start_at,
            length_s=interval.length_s,
            power_w=None
            if interval.import_wh is None
            else wh_to_joules(interval.import_wh) / interval.length_s,
            excluded=interval.start_at in unusual or interval.source == FAILSAFE_SOURCE,
        )
        for interval in intervals
    )


def settled(event: GridEvent, method: str, answer: Baseline | NoBaseline) -> tuple[SettledBaseline, ...]:
    """Write down what a method says of an event, interval by interval."""
    if isinstance(answer, NoBaseline):
        return tuple(
            _line(event, method, interval, None, reason=answer.reason) for interval in event.intervals
        )
    days = tuple(day.isoformat() for day in answer.days)
    return tuple(
        _line(event, method, interval, power_w, adjustment=answer.adjustment, days=days)
        for interval, power_w in zip(event.intervals, answer.powers_w, strict=True)
    )


def by_workload(event: GridEvent) -> tuple[SettledBaseline, ...]:
    """Write down what the site's jobs would have drawn."""
    return tuple(
        _line(
            event,
            WORKLOAD,
            interval,
            interval.counterfactual_w,
            reason="" if interval.counterfactual_w is not None else "not known for most of the interval",
        )
        for interval in event.intervals
    )


def _name(interval: Interval) -> tuple[str, str]:
    """Tell what makes two neighbours one event: OpenADR has ids that last, others only their source."""
    event_id, _, since = interval.command_id.rpartition("@")
    return interval.source, event_id if since.isdigit() else ""


def _append(found: list[GridEvent], run: Sequence[Interval]) -> None:
    if not run or run[0].source == FAILSAFE_SOURCE:
        return
    source, event_id = _name(run[0])
    event = GridEvent(event_id=event_id or run[0].command_id, source=source, intervals=tuple(run))
    if (event.span.end_at - event.span.start_at).total_seconds() <= LONGEST_EVENT_S:
        found.append(event)


def _line(
    event: GridEvent,
    method: str,
    interval: Interval,
    baseline_w: float | None,
    *,
    adjustment: str = "",
    days: tuple[str, ...] = (),
    reason: str = "",
) -> SettledBaseline:
    delta_wh = None
    if baseline_w is not None and interval.import_wh is not None:
        delta_wh = interval.import_wh - joules_to_wh(baseline_w * interval.length_s)
    return SettledBaseline(
        event_id=event.event_id,
        source=event.source,
        start_at=interval.start_at,
        length_s=interval.length_s,
        method=method,
        baseline_w=baseline_w,
        delta_wh=delta_wh,
        # Drawing more than the baseline settles at nothing, not at a debt.
        delivered_wh=None if delta_wh is None else max(0.0, -delta_wh),
        adjustment=adjustment,
        days=days,
        reason=reason,
    )
