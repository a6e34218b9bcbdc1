"""Baselines: worked examples of each rule, what does not count, and laws."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.baselines import (
    HIGH_4_OF_5,
    MATCH_DAY,
    RULES,
    SAME_DAY,
    TEN_OF_TEN,
    Adjustment,
    Baseline,
    Calendar,
    Load,
    NoBaseline,
    Rule,
    Span,
    baseline,
    ready_at,
)

UTC_DAYS = Calendar(zone=UTC)
HOUR_S = 3600.0
# A Wednesday; the working days before it are 17, 16, 13, 12, 11, 10, 9, 6, 5, 4, 3, 2 March.
EVENT_DAY = date(2026, 3, 18)


def at(day: date, hour: float) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)


def event(first_hour: float, last_hour: float, day: date = EVENT_DAY) -> Span:
    return Span(start_at=at(day, first_hour), end_at=at(day, last_hour))


def series(
    power_w: Callable[[date, int], float | None], *, days: int = 50, excluded: Iterable[date] = ()
) -> tuple[Load, ...]:
    """Hourly loads of the days before the event's and of the day itself."""
    every = [EVENT_DAY - timedelta(days=number) for number in range(days, -1, -1)]
    return tuple(
        Load(
            start_at=at(day, hour),
            length_s=HOUR_S,
            power_w=power_w(day, hour),
            excluded=day in set(excluded) and 14 <= hour < 16,
        )
        for day in every
        for hour in range(24)
    )


def ask(
    rule: Rule, loads: Iterable[Load], span: Span, calendar: Calendar = UTC_DAYS
) -> Baseline | NoBaseline:
    return baseline(rule, loads, span, calendar=calendar, length_s=HOUR_S)


def working_days(count: int) -> list[date]:
    """The working days before the event, newest first."""
    past = (EVENT_DAY - timedelta(days=number) for number in range(1, 60))
    return [day for day in past if UTC_DAYS.works(day)][:count]


def plain(rule: Rule) -> Rule:
    return replace(rule, adjustment=None)


def test_10_of_10_by_hand() -> None:
    """The k-th working day back drew 1000 + 10 k W in the first hour and twice that in the second."""
    rank = {day: number for number, day in enumerate(working_days(12), start=1)}

    def power_w(day: date, hour: int) -> float:
        return (1000.0 + 10 * rank.get(day, 999)) * (2 if hour == 15 else 1)

    answer = ask(plain(TEN_OF_TEN), series(power_w), event(14, 16))
    assert isinstance(answer, Baseline)
    assert answer.powers_w == pytest.approx((1055.0, 2110.0)), "the mean of 1010 to 1100, and twice that"
    assert list(answer.days) == working_days(10)


@pytest.mark.parametrize(
    ("morning_w", "expected_w", "words"),
    [
        (1100.0, 1100.0, "x 1.1000"),
        (1500.0, 1200.0, "x 1.2000"),
        (500.0, 800.0, "x 0.8000"),
    ],
    ids=["within", "capped above", "capped below"],
)
def test_10_of_10_is_brought_to_the_days_level(morning_w: float, expected_w: float, words: str) -> None:
    """1,000 W every day; on the event's day the hours from 10 to 13 differ, which end an hour before it."""
    loads = series(lambda day, hour: morning_w if day == EVENT_DAY and 10 <= hour < 13 else 1000.0)
    answer = ask(TEN_OF_TEN, loads, event(14, 16))
    assert isinstance(answer, Baseline)
    assert answer.powers_w == pytest.approx((expected_w,) * 2)
    assert answer.adjustment == words


def test_the_hour_before_the_event_adjusts_nothing() -> None:
    """What a site does once it knows of the event must not raise its baseline."""
    loads = series(lambda day, hour: 9000.0 if day == EVENT_DAY and hour == 13 else 1000.0)
    answer = ask(TEN_OF_TEN, loads, event(14, 16))
    assert isinstance(answer, Baseline)
    assert answer.powers_w == pytest.approx((1000.0, 1000.0))


@pytest.mark.parametrize(
    ("up", "down", "morning_w", "expected_w"),
    [
        (0.1, 0.4, 2000.0, 1100.0),
        (0.1, 0.4, 100.0, 600.0),
        (0.0, None, 2000.0, 1000.0),
        (None, 0.0, 1700.0, 1700.0),
    ],
)
@pytest.mark.parametrize("multiply", [True, False])
def test_caps_may_differ_up_and_down(
    up: float | None, down: float | None, morning_w: float, expected_w: float, multiply: bool
) -> None:
    adjustment = Adjustment(multiply=multiply, cap_up_frac=up, cap_down_frac=down)
    loads = series(lambda day, hour: morning_w if day == EVENT_DAY and hour < 14 else 1000.0)
    answer = ask(replace(TEN_OF_TEN, adjustment=adjustment), loads, event(14, 15))
    assert isinstance(answer, Baseline)
    assert answer.powers_w == pytest.approx((expected_w,))


def test_high_4_of_5_by_hand() -> None:
    """The five working days drew 900, 1100, 1000, 1300, 1200 W: 900 goes, the mean of the rest is 1150."""
    powers = dict(zip(working_days(5), (900.0, 1100.0, 1000.0, 1300.0, 1200.0), strict=True))
    loads = series(lambda day, hour: powers.get(day, 50_000.0) if hour >= 14 else 500.0)
    answer = ask(plain(HIGH_4_OF_5), loads, event(14, 16))
    assert isinstance(answer, Baseline)
    assert answer.powers_w == pytest.approx((1150.0, 1150.0))
    assert list(answer.days) == working_days(5)[1:]
    added = ask(HIGH_4_OF_5, [_plus(load, 80.0) for load in loads], event(14, 16))
    assert isinstance(added, Baseline)
    assert added.powers_w == pytest.approx((1230.0, 1230.0)), "80 W more this morning, 80 W more expected"
    assert added.adjustment == "+80.0 W"


def _plus(load: Load, more_w: float) -> Load:
    if load.start_at.date() != EVENT_DAY or load.power_w is None:
        return load
    return replace(load, power_w=load.power_w + more_w)


def test_same_day_3_2_by_hand() -> None:
    """An event from 14 to 16: 10, 11, 12 o'clock at 1000, 1100, 1200 W and 17, 18 o'clock at 600, 700 W."""
    powers = {
        10: 1000.0,
        11: 1100.0,
        12: 1200.0,
        13: 9e3,
        14: 100.0,
        15: 100.0,
        16: 9e3,
        17: 600.0,
        18: 700.0,
    }
    loads = series(lambda day, hour: powers.get(hour, 5.0))
    answer = ask(SAME_DAY, loads, event(14, 16))
    assert isinstance(answer, Baseline)
    assert answer.powers_w == pytest.approx((920.0, 920.0)), "4600 W over five hours"
    early = ask(SAME_DAY, [load for load in loads if load.start_at < at(EVENT_DAY, 17)], event(14, 16))
    assert early == NoBaseline(reason="too little was measured in the hours after the event")
    late = ask(SAME_DAY, [load for load in loads if load.start_at >= at(EVENT_DAY, 12)], event(14, 16))
    assert late == NoBaseline(reason="too little was measured in the hours before the event")


def test_match_day_by_hand() -> None:
    """The three days whose nights were nearest to this one's count, however old; 13 to 17 is left out."""
    days = working_days(8)
    nights = dict(zip(days, (400.0, 205.0, 900.0, 190.0, 300.0, 202.0, 500.0, 260.0), strict=True))
    events_w = dict(zip(days, (1.0, 1000.0, 2.0, 1300.0, 3.0, 1600.0, 4.0, 5.0), strict=True))

    def power_w(day: date, hour: int) -> float | None:
        if day == EVENT_DAY:
            return 200.0 if not 13 <= hour < 17 else 7777.0
        if day not in nights:
            return None
        return events_w[day] if 14 <= hour < 16 else nights[day] if not 13 <= hour < 17 else 1e6

    answer = ask(MATCH_DAY, series(power_w), event(14, 16))
    assert isinstance(answer, Baseline)
    assert answer.powers_w == pytest.approx((1300.0, 1300.0))
    assert list(answer.days) == [days[1], days[3], days[5]]
    few = ask(
        MATCH_DAY, series(lambda d, h: power_w(d, h) if d in (EVENT_DAY, *days[:2]) else None), event(14, 16)
    )
    assert few == NoBaseline(reason="2 eligible days in 45, 3 are needed")
    blind = ask(
        MATCH_DAY, series(lambda d, h: None if d == EVENT_DAY and h < 6 else power_w(d, h)), event(14, 16)
    )
    assert blind == NoBaseline(reason="too little of the event's day was measured outside the event")


def test_event_days_do_not_count() -> None:
    skipped = working_days(3)
    answer = ask(plain(TEN_OF_TEN), series(lambda day, hour: 1000.0, excluded=skipped), event(9, 10))
    assert isinstance(answer, Baseline)
    assert list(answer.days) == working_days(13)[3:], "also where the event was at another time of day"


def test_weekends_and_holidays_count_among_themselves() -> None:
    sunday, holiday = date(2026, 3, 15), date(2026, 3, 17)
    calendar = Calendar(zone=UTC, holidays=frozenset({holiday}))
    loads = series(lambda day, hour: 1000.0 if calendar.works(day) else 300.0)
    on_wednesday = ask(plain(TEN_OF_TEN), loads, event(14, 16), calendar)
    assert isinstance(on_wednesday, Baseline)
    assert holiday not in on_wednesday.days
    assert on_wednesday.powers_w == pytest.approx((1000.0, 1000.0))
    on_sunday = ask(plain(TEN_OF_TEN), loads, event(14, 16, sunday), calendar)
    assert isinstance(on_sunday, Baseline)
    assert on_sunday.powers_w == pytest.approx((300.0, 300.0))
    assert list(on_sunday.days) == [date(2026, 3, 14), date(2026, 3, 8), date(2026, 3, 7), date(2026, 3, 1)]
    on_holiday = ask(plain(TEN_OF_TEN), loads, event(14, 16, holiday), calendar)
    assert isinstance(on_holiday, Baseline)
    assert on_holiday.days[0] == sunday


@pytest.mark.parametrize("known", [4, 5])
def test_too_few_days_are_no_baseline(known: int) -> None:
    days = working_days(known)
    loads = series(lambda day, hour: 1000.0 if day in days else None)
    answer = ask(plain(TEN_OF_TEN), loads, event(14, 16))
    if known == 5:
        assert isinstance(answer, Baseline)
        assert len(answer.days) == 5
    else:
        assert answer == NoBaseline(reason="4 eligible working days in 45, 5 are needed")
    sunday = ask(plain(TEN_OF_TEN), loads, event(14, 16, date(2026, 3, 15)))
    assert sunday == NoBaseline(reason="0 eligible days off in 45, 4 are needed")


def test_a_day_with_a_hole_in_the_events_hours_does_not_count() -> None:
    newest = working_days(1)[0]
    loads = series(lambda day, hour: None if day == newest and hour == 15 else 1000.0)
    answer = ask(plain(TEN_OF_TEN), loads, event(14, 16))
    assert isinstance(answer, Baseline)
    assert list(answer.days) == working_days(11)[1:]


def test_without_a_morning_nothing_is_adjusted() -> None:
    loads = series(lambda day, hour: None if day == EVENT_DAY else 1000.0)
    answer = ask(TEN_OF_TEN, loads, event(14, 16))
    assert isinstance(answer, Baseline)
    assert (answer.powers_w, answer.adjustment) == ((1000.0, 1000.0), "none: too little was measured")
    idle = ask(TEN_OF_TEN, series(lambda day, hour: 0.0 if hour < 14 else 1000.0), event(14, 16))
    assert isinstance(idle, Baseline)
    assert (idle.powers_w, idle.adjustment) == ((1000.0, 1000.0), "none: usually nothing drawn")
    added = ask(HIGH_4_OF_5, series(lambda day, hour: 0.0 if hour < 14 else 1000.0), event(14, 16))
    assert isinstance(added, Baseline)
    assert added.adjustment == "+0.0 W"


def test_an_event_over_midnight() -> None:
    loads = series(lambda day, hour: 100.0 * hour, days=60)
    span = event(22, 26, EVENT_DAY - timedelta(days=1))
    answer = ask(plain(TEN_OF_TEN), loads, span)
    assert isinstance(answer, Baseline)
    assert answer.powers_w == pytest.approx((2200.0, 2300.0, 0.0, 100.0))


def test_times_of_day_are_the_operators() -> None:
    """Berlin goes to summer time on 29 March 2026: 14 o'clock is 13 UTC before it and 12 UTC after it."""
    zone = ZoneInfo("Europe/Berlin")
    calendar = Calendar(zone=zone)
    first = datetime(2026, 2, 20, tzinfo=UTC)
    every = [first + timedelta(hours=number) for number in range(24 * 45)]
    loads = [
        Load(start_at=start_at, length_s=HOUR_S, power_w=100.0 * start_at.astimezone(zone).hour)
        for start_at in every
    ]
    start_at = datetime(2026, 4, 1, 14, tzinfo=zone).astimezone(UTC)
    answer = ask(
        plain(TEN_OF_TEN), loads, Span(start_at=start_at, end_at=start_at + timedelta(hours=1)), calendar
    )
    assert isinstance(answer, Baseline)
    assert answer.powers_w == pytest.approx((1400.0,))
    # On a Sunday the hour from two to three is missing on the day of the change, which then does not count.
    night_at = datetime(2026, 4, 4, 2, tzinfo=zone).astimezone(UTC)
    night = ask(
        plain(TEN_OF_TEN), loads, Span(start_at=night_at, end_at=night_at + timedelta(hours=1)), calendar
    )
    assert isinstance(night, Baseline)
    assert date(2026, 3, 29) not in night.days


def test_other_lengths_of_interval_are_left_out() -> None:
    loads = [replace(load, length_s=900.0) for load in series(lambda day, hour: 1000.0)]
    assert isinstance(ask(plain(TEN_OF_TEN), loads, event(14, 16)), NoBaseline)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (TEN_OF_TEN, at(EVENT_DAY, 16)),
        (HIGH_4_OF_5, at(EVENT_DAY, 16)),
        (SAME_DAY, at(EVENT_DAY, 19)),
        (MATCH_DAY, at(EVENT_DAY, 24)),
    ],
)
def test_when_a_rule_has_what_it_needs(rule: Rule, expected: datetime) -> None:
    assert ready_at(rule, event(14, 16), UTC_DAYS) == expected
    assert RULES[rule.name] is rule


POWERS = st.dictionaries(
    st.tuples(st.integers(0, 50), st.integers(0, 23)), st.floats(0, 1e5) | st.none(), max_size=300
)


def _drawn(powers: Mapping[tuple[int, int], float | None], level_w: float) -> tuple[Load, ...]:
    return series(lambda day, hour: powers.get(((EVENT_DAY - day).days, hour), level_w))


@settings(max_examples=40, deadline=None)
@given(
    POWERS, st.floats(1, 1e4), st.sampled_from(list(RULES.values())), st.integers(5, 19), st.integers(1, 4)
)
def test_laws(
    powers: dict[tuple[int, int], float | None], level_w: float, rule: Rule, hour: int, hours: int
) -> None:
    loads = _drawn(powers, level_w)
    span = event(hour, hour + hours)
    answer = ask(rule, loads, span)
    if isinstance(answer, NoBaseline):
        assert answer.reason
        return
    assert len(answer.powers_w) == hours
    known = [load.power_w for load in loads if load.power_w is not None]
    assert all(power_w >= 0 for power_w in answer.powers_w)
    assert all(day <= EVENT_DAY for day in answer.days)
    assert max(answer.powers_w) <= 1.2 * max(known) + max(known) + 1e-6
    # What is drawn during the event, and in the hour before it, says nothing of what would have been drawn.
    blind = [
        replace(load, power_w=3e5) if at(EVENT_DAY, hour - 1) <= load.start_at < span.end_at else load
        for load in loads
    ]
    assert ask(rule, blind, span) == answer
    # The order of the series does not matter.
    assert ask(rule, tuple(reversed(loads)), span) == answer


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 1e4), st.sampled_from(list(RULES.values())), st.floats(0.1, 10))
def test_a_site_that_always_draws_the_same_is_expected_to(level_w: float, rule: Rule, factor: float) -> None:
    answer = ask(rule, _drawn({}, level_w), event(14, 16))
    assert isinstance(answer, Baseline)
    assert answer.powers_w == pytest.approx((level_w, level_w))
    scaled = ask(rule, _drawn({}, level_w * factor), event(14, 16))
    assert isinstance(scaled, Baseline)
    assert scaled.powers_w == pytest.approx([power_w * factor for power_w in answer.powers_w])
