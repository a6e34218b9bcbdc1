"""A pupil learns what replay learns, whatever way the past comes: from a file, in time, or late."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Learner, Part
from coordinator.forecast.pupil import Pupil
from coordinator.forecast.series import Array, Series

END = datetime(2026, 3, 1, tzinfo=UTC)
SLOT_S, DAY_S = 7.5, 180.0
SLOT = timedelta(seconds=SLOT_S)
LEARNER = Learner(leads=24, paths=40)


def course(slots: int) -> Array:
    hours = np.arange(slots)
    sky = 0.6 + 0.4 * np.sin(hours / 31.0)
    return np.clip(np.sin((hours % 24 - 6) / 12 * np.pi), 0.0, None) * 4000.0 * sky


def past(days: int, kind: Kind = Kind.SUN) -> Series:
    return Series(kind=kind, slot_s=SLOT_S, end_at=END, values=course(days * 24), day_s=DAY_S)


def go_on(pupil: Pupil, now: datetime) -> int:
    lessons = 0
    while pupil.is_due(now):
        pupil.learnt(*pupil.lesson(now).learn())
        lessons += 1
    return lessons


@pytest.mark.parametrize("kind", list(Kind))
def test_a_day_may_be_short(kind: Kind) -> None:
    """The same values under a day of 180 s and one of 24 h make the same courses."""
    short = past(40, kind)
    long = Series(kind=kind, slot_s=3600.0, end_at=END, values=short.values)
    courses = [LEARNER.begin([Part(series=one)]).paths for one in (short, long)]
    assert courses[0] is not None and courses[1] is not None
    assert np.array_equal(courses[0], courses[1])


def test_a_past_is_rehearsed_and_then_equals_the_learner_s_own() -> None:
    whole = past(40)
    pupil = Pupil.begin(LEARNER, whole)
    assert pupil.rehearses and pupil.until_at == END
    assert go_on(pupil, END) == 7 * 24
    assert not pupil.rehearses
    same = LEARNER.begin([Part(series=whole)], rehearse=7 * 24)
    assert np.array_equal(pupil.memory.calibration.factors, same.calibration.factors)
    assert pupil.forecast is not None
    assert (pupil.forecast.issued_at, pupil.forecast.source) == (END, "learnt")
    assert same.paths is not None and pupil.forecast.paths_w is not None
    assert np.array_equal(pupil.forecast.paths_w, np.maximum(same.paths, 0.0).astype(np.float32))


def test_from_nothing_it_speaks_after_three_days() -> None:
    empty = Series(kind=Kind.SUN, slot_s=SLOT_S, end_at=END, values=np.empty(0), day_s=DAY_S)
    pupil = Pupil.begin(LEARNER, empty)
    values = course(4 * 24)
    spoke = None
    for slot, value in enumerate(values):
        for quarter in range(4):
            pupil.take(END + SLOT * (slot + quarter / 4), float(value))
        go_on(pupil, END + SLOT * (slot + 1.5))
        if pupil.forecast is not None and spoke is None:
            spoke = slot + 1
    assert pupil.memory.parts[0].series.values.tolist() == pytest.approx(values.tolist())
    assert spoke is not None and spoke <= 4 * 24


def test_a_slot_waits_for_samples_under_way_and_is_missing_without_any() -> None:
    pupil = Pupil.begin(LEARNER, Series(**(FIELDS | {"values": course(48)})))
    go_on(pupil, END)
    assert not pupil.is_due(END + SLOT * 1.2)
    assert pupil.is_due(END + SLOT * 1.25)
    assert go_on(pupil, END + SLOT * 1.25) == 1
    assert np.isnan(pupil.memory.parts[0].series.values[-1])


def test_samples_that_come_late_fill_what_was_missing() -> None:
    pupil = Pupil.begin(LEARNER, Series(**(FIELDS | {"values": course(48)})))
    go_on(pupil, END + SLOT * 5)
    assert np.isnan(pupil.memory.parts[0].series.values[-3:]).all()
    for quarter in range(4):
        pupil.take(END + SLOT * (1 + quarter / 4), 321.0)
        pupil.take(END + SLOT * (-3 + quarter / 4), 999.0)  # that one was known; it stays
        pupil.take(END - timedelta(seconds=3 * DAY_S), 111.0)  # too old
    before = pupil.memory.parts[0].series.values.copy()
    go_on(pupil, END + SLOT * 6)
    after = pupil.memory.parts[0].series.values
    changed = ~((before == after[: len(before)]) | (np.isnan(before) & np.isnan(after[: len(before)])))
    assert changed.nonzero()[0].tolist() == [48 + 1]
    assert after[49] == 321.0


def test_a_long_absence_is_one_lesson() -> None:
    pupil = Pupil.begin(LEARNER, past(40))
    go_on(pupil, END)
    back_at = END + timedelta(seconds=10 * DAY_S)
    assert go_on(pupil, back_at) == 1
    series = pupil.memory.parts[0].series
    assert series.end_at == back_at
    assert np.isnan(series.values[-240:]).all()
    assert pupil.forecast is not None


FIELDS = {"kind": Kind.SUN, "slot_s": SLOT_S, "end_at": END, "day_s": DAY_S}
