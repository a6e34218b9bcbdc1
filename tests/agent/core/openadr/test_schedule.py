from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.openadr.schedule import MAX_SLOTS, is_momentary, lay_out
from agent.core.openadr.times import after, parse_duration, parse_start
from agent.model.openadr import NOW, Duration, Event
from tests.agent.core.openadr.events import T0, at, interval, make, period


def hours(event: Event, *, from_h: float = -1000, until_h: float = 1000, chance: float = 0.5) -> list[object]:
    """Return (id, start, end) in hours from T0."""
    schedule = lay_out(event, received_at=at(-2), from_at=at(from_h), until_at=at(until_h), chance=chance)
    return [
        (
            slot.interval.id,
            (slot.start_at - T0) / timedelta(hours=1),
            None if slot.end_at is None else (slot.end_at - T0) / timedelta(hours=1),
        )
        for slot in schedule.slots
    ]


HOUR = period(0, "PT1H")
TWO = (interval(0, 1.0), interval(1, 2.0))

TABLE = {
    "intervals follow each other": (make(*TWO, when=HOUR), [(0, 0, 1), (1, 1, 2)]),
    "listed out of order, placed by id": (make(*reversed(TWO), when=HOUR), [(0, 0, 1), (1, 1, 2)]),
    "own duration, contiguous": (
        make(interval(0, 1), interval(1, 1, when=period(None, "PT2H")), interval(2, 1), when=HOUR),
        [(0, 0, 1), (1, 1, 3), (2, 3, 4)],
    ),
    "own start moves what follows": (
        make(interval(0, 1), interval(1, 1, when=period(5)), interval(2, 1), when=HOUR),
        [(0, 0, 1), (1, 5, 6), (2, 6, 7)],
    ),
    "no period of the event": (
        make(interval(0, 1, when=period(3, "PT1H")), interval(1, 1, when=period(None, "PT2H"))),
        [(0, 3, 4), (1, 4, 6)],
    ),
    "0001-01-01 is now": (make(interval(0, 1), when=period("0001-01-01", "PT1H")), [(0, -2, -1)]),
    "0001-01-01T00:00:00 is now": (
        make(interval(0, 1), when=period("0001-01-01T00:00:00", "PT1H")),
        [(0, -2, -1)],
    ),
    "now is when the VTN said it": (
        make(interval(0, 1), when=period("0001-01-01", "PT1H"), modificationDateTime=at(-7).isoformat()),
        [(0, -7, -6)],
    ),
    "no VTN said it in our future": (
        make(interval(0, 1), when=period("0001-01-01", "PT1H"), modificationDateTime=at(9).isoformat()),
        [(0, -2, -1)],
    ),
    "P9999Y has no end": (make(interval(0, 1), when=period(0, "P9999Y")), [(0, 0, None)]),
    "nothing follows what has no end": (make(*TWO, when=period(0, "P9999Y")), [(0, 0, None)]),
    "an interval with its own start follows all the same": (
        make(interval(0, 1), interval(1, 1, when=period(4, "PT1H")), when=period(0, "P9999Y")),
        [(0, 0, None), (1, 4, 5)],
    ),
    "a duration stated nowhere has no end": (make(interval(0, 1), when=period(0)), [(0, 0, None)]),
    "no period at all: from receipt on": (make(interval(0, 1)), [(0, -2, None)]),
    "longer than its intervals: looped": (
        make(*TWO, when=HOUR, duration="PT5H"),
        [(0, 0, 1), (1, 1, 2), (0, 2, 3), (1, 3, 4), (0, 4, 5)],
    ),
    "the last loop is cut": (
        make(interval(0, 1), when=period(0, "PT2H"), duration="PT3H"),
        [(0, 0, 2), (0, 2, 3)],
    ),
    "shorter than its intervals: truncated": (
        make(*TWO, when=HOUR, duration="PT90M"),
        [(0, 0, 1), (1, 1, 1.5)],
    ),
    "an endless interval is truncated": (
        make(interval(0, 1), when=period(0, "P9999Y"), duration="PT3H"),
        [(0, 0, 3)],
    ),
    "cancelled": (make(*TWO, when=period("0001-01-01", "PT0S")), []),
    "cancelled by the event's duration": (make(*TWO, when=HOUR, duration="PT0S"), []),
    "nothing in it": (make(when=HOUR), []),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_rules_of_the_user_guide(name: str) -> None:
    event, expected = TABLE[name]
    assert hours(event) == expected


def test_joining_late_skips_to_the_interval_of_now() -> None:
    assert hours(make(*TWO, when=HOUR), from_h=1.5) == [(1, 1, 2)]
    assert hours(make(*TWO, when=HOUR), from_h=2) == []


def test_joining_a_loop_late_is_cheap_and_exact() -> None:
    event = make(*TWO, when=period(-2_000_000, "PT1H"), duration="P9999Y")
    assert hours(event, from_h=0.5, until_h=3) == [(0, 0, 1), (1, 1, 2), (0, 2, 3)]
    second = make(interval(0, 1), when=period(-2_000_000, "PT1S"), duration="P9999Y")
    schedule = lay_out(second, received_at=T0, from_at=T0, until_at=at(1000))
    assert len(schedule.slots) == MAX_SLOTS
    assert schedule.known_until == schedule.slots[-1].start_at


def test_what_lies_beyond_the_window_is_said_to() -> None:
    def known_until(event: Event) -> datetime | None:
        return lay_out(event, received_at=T0, from_at=T0, until_at=at(1)).known_until

    assert known_until(make(interval(0, 1), when=HOUR)) is None
    assert known_until(make(*TWO, when=HOUR)) == at(1)
    assert known_until(make(interval(0, 1), when=HOUR, duration="P9999Y")) == at(1)


@pytest.mark.parametrize(("chance", "shift"), [(0.0, -0.5), (0.25, -0.25), (0.5, 0), (1.0, 0.5)])
def test_randomize_start_shifts_all_contiguous_intervals_alike(chance: float, shift: float) -> None:
    event = make(*TWO, when=period(0, "PT1H", randomizeStart="PT30M"))
    assert hours(event, chance=chance) == [(0, shift, 1 + shift), (1, 1 + shift, 2 + shift)]


def test_randomize_start_of_one_interval_shifts_it_and_those_after_it() -> None:
    own = period(None, "PT1H", randomizeStart="PT30M")
    event = make(interval(0, 1), interval(1, 1, when=own), interval(2, 1), when=HOUR)
    assert hours(event, chance=1.0) == [(0, 0, 1), (1, 1.5, 2.5), (2, 2.5, 3.5)]


def test_a_shift_moves_the_end_of_a_truncated_event_too() -> None:
    event = make(*TWO, when=period(0, "PT1H", randomizeStart="PT30M"), duration="PT90M")
    assert hours(event, chance=0.0) == [(0, -0.5, 0.5), (1, 0.5, 1.0)]


def test_the_end_of_the_calendar_is_no_crash() -> None:
    late = {"start": "9999-12-31T23:00:00Z", "duration": "PT30M", "randomizeStart": "P9999Y"}
    schedule = lay_out(
        make(interval(0, 1), when=late, duration="P9999Y"),
        received_at=T0,
        from_at=T0,
        until_at=datetime.max.replace(tzinfo=UTC),
        chance=0.9,
    )
    assert [slot.interval.id for slot in schedule.slots] == [0]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("PT0S", Duration()),
        ("PT15M", Duration(seconds=900)),
        ("PT1.5S", Duration(seconds=1.5)),
        ("P1DT2H", Duration(seconds=93_600)),
        ("P2W", Duration(seconds=1_209_600)),
        ("P1Y2M", Duration(months=14)),
        ("P9999Y", Duration(months=119_988)),
        ("P", None),
        ("PT", None),
        ("P1DT", None),
        ("-PT1H", None),
        ("PT1H1", None),
        ("1H", None),
        ("PT٣H", None),
        ("", None),
    ],
)
def test_durations(text: str, duration: Duration | None) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("0001-01-01", NOW),
        ("0001-01-01T00:00:00Z", NOW),
        ("2025-02-13 19:00:00.000Z", datetime(2025, 2, 13, 19, tzinfo=UTC)),
        ("2025-02-13T19:00:00+01:00", datetime(2025, 2, 13, 18, tzinfo=UTC)),
        ("2025-02-13T19:00:00", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("17:15:16", None),
    ],
)
def test_starts(text: str, start: datetime | None) -> None:
    assert parse_start(text) == start


def test_months_are_calendar_months() -> None:
    end_of_january = datetime(2027, 1, 31, tzinfo=UTC)
    assert after(end_of_january, Duration(months=1)) == datetime(2027, 2, 28, tzinfo=UTC)
    assert after(end_of_january, Duration(months=1), 2) == datetime(2027, 3, 31, tzinfo=UTC)
    assert after(end_of_january, Duration(months=119_988)) is None
    assert after(end_of_january, Duration(seconds=1e12)) is None


def test_momentary_events_have_a_stated_extent_of_zero() -> None:
    assert is_momentary(make(when=period("0001-01-01", "PT0H")))
    assert not is_momentary(make(when=HOUR))
    assert not is_momentary(make(interval(0, 1)))
    assert not is_momentary(make(interval(0, 1, when=HOUR), when=period("0001-01-01", "PT0H")))


durations = st.sampled_from(["PT0S", "PT10M", "PT1H", "PT100H", "P1M", "P9999Y"])
periods = st.none() | st.builds(period, st.none() | st.integers(-50, 50), st.none() | durations)
events = st.builds(
    lambda whens, when, duration: make(
        *(interval(n, 1, when=own) for n, own in enumerate(whens)),
        when=when,
        **({} if duration is None else {"duration": duration}),
    ),
    st.lists(periods, max_size=4),
    periods,
    st.none() | durations,
)


@given(events, st.integers(-60, 60), st.integers(0, 100), st.floats(0, 1))
def test_every_slot_has_an_extent_within_the_window(
    event: Event, from_h: int, span_h: int, chance: float
) -> None:
    schedule = lay_out(event, received_at=T0, from_at=at(from_h), until_at=at(from_h + span_h), chance=chance)
    starts = [slot.start_at for slot in schedule.slots]
    assert starts == sorted(starts)
    for slot in schedule.slots:
        assert slot.start_at < at(from_h + span_h)
        assert slot.end_at is None or (slot.end_at > slot.start_at and slot.end_at > at(from_h))


@given(events, st.integers(-60, 60))
def test_a_window_shows_what_a_wider_one_shows_there(event: Event, from_h: int) -> None:
    wide = hours(event, from_h=-60, until_h=120)
    narrow = hours(event, from_h=from_h, until_h=120)
    assert narrow == [slot for slot in wide if slot[2] is None or slot[2] > from_h]
