"""What a site would have drawn without an event, by the rules that grid operators settle by.

Pure functions over a series of intervals. The rules are data: which days count, how many, how they are
adjusted to the day. Times of day are the operator's local ones, so a day on which the clock changes and an
hour is missing does not count where that hour is needed. What cannot be said is a `NoBaseline` with a reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from enum import Enum

KNOWN_FRAC = 0.75
"""Share of a window's intervals that must be known before its mean counts."""
DAY_FRAC = 0.9
"""The same for a whole day that is to be compared with another."""
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Mean import over one interval; `power_w` None: unknown. `excluded`: it was not as usual."""

    start_at: datetime
    length_s: float
    power_w: float | None
    excluded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time, its end not included."""

    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The operator's days: `weekend` in numbers with Monday 0; a holiday counts as one of them."""

    zone: tzinfo
    holidays: frozenset[date] = frozenset()
    weekend: frozenset[int] = frozenset({5, 6})

    def works(self, day: date) -> bool:
        """Whether it is a working day."""
        return day.weekday() not in self.weekend and day not in self.holidays


class Kind(Enum):
    """How a rule finds its figure."""

    DAYS = "days"
    """The mean of past days, time of day by time of day."""
    SAME_DAY = "same day"
    """One figure: the mean of hours before and after the event."""
    MATCH_DAY = "match day"
    """The mean of the past days that were most like this one outside the event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """Brings past days to the level of the event's day.

    The window ends `gap_s` before the event and is `length_s` long. `cap_up_frac` and `cap_down_frac` bound
    it, as shares of the unadjusted figure; None: no bound.
    """

    multiply: bool
    gap_s: float = HOUR_S
    length_s: float = 3 * HOUR_S
    cap_up_frac: float | None = None
    cap_down_frac: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A method as data.

    Of the newest `days` eligible days within `look_back_days`, the `keep` with the highest mean in the
    event's hours count; fewer than `least_days` are too few. On days off the counts are `off_days`.
    """

    name: str
    kind: Kind
    days: int = 0
    keep: int = 0
    least_days: int = 0
    off_days: int = 0
    look_back_days: int = 45
    adjustment: Adjustment | None = None
    before_s: float = 3 * HOUR_S
    after_s: float = 2 * HOUR_S
    gap_s: float = HOUR_S


TEN_OF_TEN = Rule(
    name="10-of-10",
    kind=Kind.DAYS,
    days=10,
    keep=10,
    least_days=5,
    off_days=4,
    adjustment=Adjustment(multiply=True, cap_up_frac=0.2, cap_down_frac=0.2),
)
HIGH_4_OF_5 = Rule(
    name="high-4-of-5",
    kind=Kind.DAYS,
    days=5,
    keep=4,
    least_days=4,
    off_days=5,
    adjustment=Adjustment(multiply=False),
)
SAME_DAY = Rule(name="same-day-3+2", kind=Kind.SAME_DAY)
MATCH_DAY = Rule(name="match-day", kind=Kind.MATCH_DAY, keep=3, least_days=3)
RULES: Mapping[str, Rule] = {rule.name: rule for rule in (TEN_OF_TEN, HIGH_4_OF_5, SAME_DAY, MATCH_DAY)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Watts of import per interval of the event, >= 0, in order; `days` are those it rests on, newest first.

    `adjustment` says in words how the days were brought to the level of the event's day.
    """

    powers_w: tuple[float, ...]
    days: tuple[date, ...] = ()
    adjustment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoBaseline:
    """The rule cannot say, and why."""

    reason: str


def baseline(
    rule: Rule, loads: Iterable[Load], event: Span, *, calendar: Calendar, length_s: float
) -> Baseline | NoBaseline:
    """Say what would have been drawn in an event's intervals.

    Parameters
    ----------
    rule : Rule
        The method.
    loads : iterable of Load
        The site's past, and its day of the event. Other lengths of interval are left out; intervals that are
        excluded count neither as a past day nor for an adjustment.
    event : Span
        On the grid of intervals.
    calendar : Calendar
        The operator's.
    length_s : float
        Of an interval, a divisor of an hour.
    """
    series = _Series.of((load for load in loads if load.length_s == length_s), calendar, length_s)
    match rule.kind:
        case Kind.DAYS:
            return _of_days(rule, series, event)
        case Kind.SAME_DAY:
            return _same_day(rule, series, event)
        case Kind.MATCH_DAY:
            return _match_day(rule, series, event)


def ready_at(rule: Rule, event: Span, calendar: Calendar) -> datetime:
    """Return when everything that a rule asks of an event's day has been measured."""
    match rule.kind:
        case Kind.DAYS:
            return event.end_at
        case Kind.SAME_DAY:
            return event.end_at + timedelta(seconds=rule.gap_s + rule.after_s)
        case Kind.MATCH_DAY:
            day = event.start_at.astimezone(calendar.zone).date() + timedelta(days=1)
            midnight = datetime(day.year, day.month, day.day, tzinfo=calendar.zone)
            return max(midnight.astimezone(event.end_at.tzinfo), event.end_at + timedelta(seconds=rule.gap_s))


Slot = tuple[int, int]
"""Day counted from the event's, and minute of the local day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """Usual power by local day and minute; the days on which something was excluded."""

    power_w: Mapping[tuple[date, int], float]
    unusual: frozenset[date]
    calendar: Calendar
    length_s: float

    @classmethod
    def of(cls, loads: Iterable[Load], calendar: Calendar, length_s: float) -> "_Series":
        power_w: dict[tuple[date, int], float] = {}
        unusual = set()
        for load in loads:
            local = load.start_at.astimezone(calendar.zone)
            if load.excluded:
                unusual.add(local.date())
            elif load.power_w is not None:
                # An hour that comes twice counts once.
                power_w.setdefault((local.date(), local.hour * 60 + local.minute), load.power_w)
        return cls(power_w=power_w, unusual=frozenset(unusual), calendar=calendar, length_s=length_s)

    def day_of(self, event: Span) -> date:
        return event.start_at.astimezone(self.calendar.zone).date()

    def slots(self, span: Span, day: date) -> tuple[Slot, ...]:
        """Name the intervals of a stretch of time, counted from a day."""
        count = round((span.end_at - span.start_at).total_seconds() / self.length_s)
        starts = (span.start_at + timedelta(seconds=n * self.length_s) for n in range(count))
        locals_ = [start.astimezone(self.calendar.zone) for start in starts]
        return tuple(((at.date() - day).days, at.hour * 60 + at.minute) for at in locals_)

    def at(self, day: date, slot: Slot) -> float | None:
        return self.power_w.get((day + timedelta(days=slot[0]), slot[1]))

    def known(self, day: date, slots: Iterable[Slot]) -> list[float]:
        return [power for slot in slots if (power := self.at(day, slot)) is not None]

    def complete(self, day: date, slots: Sequence[Slot]) -> bool:
        return len(self.known(day, slots)) == len(slots)

    def mean(self, day: date, slots: Sequence[Slot]) -> float | None:
        """Mean power; None when too little of it is known."""
        known = self.known(day, slots)
        return sum(known) / len(known) if known and len(known) >= KNOWN_FRAC * len(slots) else None

    def eligible(self, rule: Rule, event: Span, slots: Sequence[Slot]) -> list[date]:
        """Return the past days of the event's kind that were usual, newest first."""
        day = self.day_of(event)
        works = self.calendar.works(day)
        offsets = {slot[0] for slot in slots}
        past = (day - timedelta(days=n) for n in range(1, rule.look_back_days + 1))
        return [
            each
            for each in past
            if self.calendar.works(each) is works
            and not any(each + timedelta(days=offset) in self.unusual for offset in offsets)
        ]


def _window(end_at: datetime, length_s: float) -> Span:
    return Span(start_at=end_at - timedelta(seconds=length_s), end_at=end_at)


def _of_days(rule: Rule, series: _Series, event: Span) -> Baseline | NoBaseline:
    day = series.day_of(event)
    slots = series.slots(event, day)
    works = series.calendar.works(day)
    wanted = rule.days if works else min(rule.days, rule.off_days)
    least = min(rule.least_days, wanted)
    days = [each for each in series.eligible(rule, event, slots) if series.complete(each, slots)][:wanted]
    if len(days) < least:
        kind = "working days" if works else "days off"
        return NoBaseline(reason=f"{len(days)} eligible {kind} in {rule.look_back_days}, {least} are needed")
    # The lowest go; among equals the oldest.
    ranked = sorted(days, key=lambda each: (-sum(series.known(each, slots)), -each.toordinal()))
    kept = sorted(ranked[: rule.keep], reverse=True)
    means = [sum(series.known(each, [slot])[0] for each in kept) / len(kept) for slot in slots]
    return _adjusted(rule, series, event, kept, means)


def _adjusted(
    rule: Rule, series: _Series, event: Span, days: Sequence[date], means: Sequence[float]
) -> Baseline:
    adjustment = rule.adjustment
    if adjustment is None:
        return Baseline(powers_w=tuple(means), days=tuple(days))
    span = _window(event.start_at - timedelta(seconds=adjustment.gap_s), adjustment.length_s)
    day = series.day_of(event)
    slots = series.slots(span, day)
    actual_w = series.mean(day, slots)
    past = [mean for each in days if (mean := series.mean(each, slots)) is not None]
    if actual_w is None or len(past) < len(days):
        return Baseline(powers_w=tuple(means), days=tuple(days), adjustment="none: too little was measured")
    usual_w = sum(past) / len(past)
    if adjustment.multiply:
        if usual_w <= 0:
            return Baseline(powers_w=tuple(means), days=tuple(days), adjustment="none: usually nothing drawn")
        factor = 1 + _capped(actual_w / usual_w - 1, adjustment)
        powers = tuple(max(0.0, mean * factor) for mean in means)
        return Baseline(powers_w=powers, days=tuple(days), adjustment=f"x {factor:.4f}")
    added_w = actual_w - usual_w
    if usual_w > 0:
        added_w = _capped(added_w / usual_w, adjustment) * usual_w
    powers = tuple(max(0.0, mean + added_w) for mean in means)
    return Baseline(powers_w=powers, days=tuple(days), adjustment=f"{added_w:+.1f} W")


def _capped(frac: float, adjustment: Adjustment) -> float:
    if adjustment.cap_up_frac is not None:
        frac = min(frac, adjustment.cap_up_frac)
    if adjustment.cap_down_frac is not None:
        frac = max(frac, -adjustment.cap_down_frac)
    return frac


def _same_day(rule: Rule, series: _Series, event: Span) -> Baseline | NoBaseline:
    """Weigh the hours before and after by their length."""
    day = series.day_of(event)
    gap = timedelta(seconds=rule.gap_s)
    before = _window(event.start_at - gap, rule.before_s)
    after_end_at = event.end_at + gap + timedelta(seconds=rule.after_s)
    total_ws = total_s = 0.0
    for name, span, length_s in (
        ("before", before, rule.before_s),
        ("after", _window(after_end_at, rule.after_s), rule.after_s),
    ):
        mean_w = series.mean(day, series.slots(span, day))
        if mean_w is None:
            return NoBaseline(reason=f"too little was measured in the hours {name} the event")
        total_ws, total_s = total_ws + mean_w * length_s, total_s + length_s
    return Baseline(powers_w=(total_ws / total_s,) * len(series.slots(event, day)), days=(day,))


def _match_day(rule: Rule, series: _Series, event: Span) -> Baseline | NoBaseline:
    day = series.day_of(event)
    slots = series.slots(event, day)
    gap = timedelta(seconds=rule.gap_s)
    near = set(series.slots(Span(start_at=event.start_at - gap, end_at=event.end_at + gap), day))
    minutes = range(0, 24 * 60, round(series.length_s / 60))
    others = [(0, minute) for minute in minutes if (0, minute) not in near]
    compared = [slot for slot in others if series.at(day, slot) is not None]
    if not others or len(compared) < DAY_FRAC * len(others):
        return NoBaseline(reason="too little of the event's day was measured outside the event")
    distances = [
        (distance_w, -each.toordinal(), each)
        for each in series.eligible(rule, event, slots)
        if series.complete(each, slots)
        and (distance_w := _distance_w(series, day, each, compared)) is not None
    ]
    if len(distances) < rule.least_days:
        return NoBaseline(
            reason=f"{len(distances)} eligible days in {rule.look_back_days}, {rule.least_days} are needed"
        )
    kept = sorted((each for *_, each in sorted(distances)[: rule.keep]), reverse=True)
    means = [sum(series.known(each, [slot])[0] for each in kept) / len(kept) for slot in slots]
    return Baseline(powers_w=tuple(means), days=tuple(kept))


def _distance_w(series: _Series, day: date, other: date, slots: Sequence[Slot]) -> float | None:
    """Mean distance of two days' power; None when too little of the other is known."""
    pairs = [(series.at(day, slot), series.at(other, slot)) for slot in slots]
    apart = [abs(a - b) for a, b in pairs if a is not None and b is not None]
    return sum(apart) / len(apart) if len(apart) >= DAY_FRAC * len(slots) else None
