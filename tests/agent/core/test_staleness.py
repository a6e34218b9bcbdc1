"""What may be believed of a meter, by the history of its polls."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.staleness import MeterTrack, answered, failed, poll_delay_s, published
from agent.model.readings import MeterReading, MeterRole, Quality

START = datetime(2026, 3, 30, 12, tzinfo=UTC)
EMPTY = MeterTrack(meter="m", role=MeterRole.GRID)


def reading(
    at_s: float, power_w: float | None = 100.0, *, hz: float | None = 50.0, quality: Quality = Quality.OK
) -> MeterReading:
    return MeterReading(
        meter="m",
        role=MeterRole.GRID,
        measured_at=START + timedelta(seconds=at_s),
        measured_boottime_s=at_s,
        quality=quality,
        active_power_w=power_w,
        frequency_hz=hz,
        fault=None if quality is Quality.OK else "nonsense",
    )


def told(track: MeterTrack, at_s: float, stuck_after_s: float | None = 60.0) -> MeterReading:
    now = START + timedelta(seconds=at_s)
    return published(track, now=now, boottime_s=at_s, period_s=1.0, stuck_after_s=stuck_after_s)


def test_nothing_heard_is_bad_without_a_number() -> None:
    first = told(EMPTY, 5)
    assert (first.quality, first.active_power_w, first.fault) == (Quality.BAD, None, "not polled yet")
    after = told(failed(EMPTY, "no answer"), 5)
    assert (after.quality, after.active_power_w, after.fault) == (Quality.BAD, None, "no answer")


@pytest.mark.parametrize(
    ("age_s", "quality"),
    [(0.0, Quality.OK), (2.9, Quality.OK), (3.0, Quality.OK), (3.1, Quality.STALE), (900.0, Quality.STALE)],
)
def test_silence_keeps_the_last_good_reading_then_makes_it_stale(age_s: float, quality: Quality) -> None:
    track = failed(answered(EMPTY, reading(10)), "no answer")
    now = told(track, 10 + age_s)
    assert (now.quality, now.active_power_w, now.fault) == (quality, 100.0, "no answer")
    assert now.measured_at == START + timedelta(seconds=10)


def test_a_loop_that_stopped_polling_is_stale_too() -> None:
    now = told(answered(EMPTY, reading(10)), 20)
    assert (now.quality, now.fault) == (Quality.STALE, "no poll for 10 s")


def test_nonsense_is_bad_at_once_and_stays_so_until_a_good_answer() -> None:
    track = answered(answered(EMPTY, reading(1)), reading(2, None, quality=Quality.BAD))
    assert told(track, 2).quality is Quality.BAD
    assert told(failed(track, "gone"), 50).active_power_w is None
    assert told(answered(track, reading(3)), 3).quality is Quality.OK


def track_of(*readings: MeterReading) -> MeterTrack:
    track = EMPTY
    for one in readings:
        track = answered(track, one)
    return track


def test_figures_that_stand_still_are_stale() -> None:
    track = track_of(*(reading(s) for s in range(62)))
    assert told(track_of(*(reading(s) for s in range(60))), 59).quality is Quality.OK
    stuck = told(track, 61)
    assert (stuck.quality, stuck.active_power_w) == (Quality.STALE, 100.0)
    assert stuck.fault == "no figure changed for 61 s"
    assert told(track, 61, stuck_after_s=None).quality is Quality.OK
    assert told(answered(track, reading(62, 101.0)), 62).quality is Quality.OK


def test_a_plant_at_night_without_a_frequency_is_not_stuck() -> None:
    track = track_of(*(reading(s, 0.0, hz=None) for s in range(100)))
    assert told(track, 99).quality is Quality.OK


@pytest.mark.parametrize(
    ("failures", "period_s", "delay_s"),
    [(0, 1, 1), (2, 1, 1), (3, 1, 2), (4, 1, 4), (5, 1, 8), (6, 1, 10), (500, 1, 10), (9, 60, 60)],
)
def test_a_failing_device_is_only_probed(failures: int, period_s: float, delay_s: float) -> None:
    track = EMPTY
    for _ in range(failures):
        track = failed(track, "no answer")
    assert poll_delay_s(track, period_s=period_s) == delay_s
    assert poll_delay_s(answered(track, reading(1)), period_s=period_s) == period_s


events = st.lists(st.one_of(st.none(), st.floats(-500, 500), st.just("nonsense")), max_size=30)


@given(events, st.floats(0, 10))
def test_ok_implies_a_recent_number_and_bad_implies_none(history: list[object], later_s: float) -> None:
    track = EMPTY
    for second, event in enumerate(history):
        if event is None:
            track = failed(track, "no answer")
        elif isinstance(event, float):
            track = answered(track, reading(second, event))
        else:
            track = answered(track, reading(second, None, quality=Quality.BAD))
    at_s = len(history) + later_s
    now = told(track, at_s)
    if now.quality is Quality.OK:
        assert now.active_power_w is not None
        assert at_s - now.measured_boottime_s <= 3.0
    else:
        assert now.fault
    if now.quality is Quality.BAD:
        assert now.active_power_w is None
