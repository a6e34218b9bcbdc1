"""Slot means: quarters weigh alike, half a slot must have been seen, the grid goes on in both directions."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.forecast.slots import SlotMeans, slot_start

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(offset_s: float) -> datetime:
    return T0 + timedelta(seconds=offset_s)


@pytest.mark.parametrize(
    ("samples", "mean"),
    [
        ([], None),
        ([(0, 100.0)], None),  # a quarter is too little
        ([(0, 100.0), (10, 200.0), (14, 300.0)], None),  # three samples, and still one quarter
        ([(0, 100.0), (15, 300.0)], 200.0),
        ([(0, 100.0), (1, 100.0), (2, 100.0), (59, 300.0)], 200.0),  # the busy quarter weighs no more
        ([(-1, 900.0), (0, 100.0), (30, 300.0), (60, 900.0)], 200.0),  # neighbours are left alone
    ],
)
def test_the_mean_of_a_slot(samples: list[tuple[float, float]], mean: float | None) -> None:
    means = SlotMeans(T0, 60.0)
    for offset_s, value in samples:
        means.add(at(offset_s), value)
    assert means.mean(T0) == mean


def test_slots_before_the_origin_count_and_can_be_forgotten() -> None:
    means = SlotMeans(T0, 60.0)
    for slot in (-2, -1, 3):
        means.add(at(slot * 60.0), 10.0)
        means.add(at(slot * 60.0 + 45.0), 20.0)
    assert means.mean(at(-120.0)) == 15.0
    means.forget(at(-60.0))
    assert means.mean(at(-120.0)) is None
    assert means.mean(at(-60.0)) == means.mean(at(180.0)) == 15.0


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([3.75, 7.5, 900.0, 3600.0]),
)
def test_an_instant_lies_in_its_slot(instant: datetime, slot_s: float) -> None:
    start = slot_start(instant, slot_s)
    assert -1e-3 <= (instant - start).total_seconds() < slot_s + 1e-3
    offset = start.timestamp() / slot_s
    assert abs(offset - round(offset)) * slot_s < 1e-3
