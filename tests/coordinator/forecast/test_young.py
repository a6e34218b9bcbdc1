"""A site that is new: as good as persistence from the first forecast on, honest, and smoothly learnt."""

from datetime import UTC, datetime

import numpy as np
import pytest

from coordinator.forecast import scores, simple
from coordinator.forecast.blend import fading, leant, widened
from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Learner, Part
from coordinator.forecast.members import GROWN_DAYS, members
from coordinator.forecast.series import Array, Series

END = datetime(2022, 6, 1, tzinfo=UTC)
LEADS = 48
SITES = 12


def windy(seed: int, days: int) -> Array:
    """A course with an hour of its own that forgets over half a day, between 0 and 1000 W."""
    noise = np.random.default_rng(seed)
    state, course = 0.0, np.empty(days * 24)
    for slot in range(len(course)):
        state = 0.95 * state + noise.normal(0.0, 0.3)
        course[slot] = 1000.0 / (1.0 + np.exp(-state - 0.5 * np.sin(slot * np.pi / 12.0)))
    return course


def series(values: Array, kind: Kind = Kind.OTHER) -> Series:
    return Series(kind=kind, slot_s=3600.0, end_at=END, values=values)


def courses(past: Array, kind: Kind = Kind.OTHER) -> Array | None:
    return Learner().begin([Part(series=series(past, kind))]).paths


@pytest.mark.parametrize("kind", [Kind.WIND, Kind.OTHER])
@pytest.mark.parametrize("days", [3, 7, 14, 24])
def test_it_is_no_worse_than_persistence_nor_than_climatology(kind: Kind, days: int) -> None:
    losses = np.zeros((3, LEADS))
    inside = np.zeros(LEADS)
    for seed in range(SITES):
        for hour in (3, 10, 17):
            course = windy(seed, days + 4)
            now = days * 24 + hour
            past, seen = course[:now], course[now : now + LEADS]
            said = (
                courses(past, kind),
                simple.persistence(series(past), LEADS, 100),
                simple.climatology(series(past), LEADS, 100),
            )
            for row, paths in enumerate(said):
                assert paths is not None
                losses[row] += scores.crps(paths, seen)
            assert said[0] is not None
            inside += scores.covered(said[0], seen)
    ours, held, climate = losses
    assert ours[0] <= 1.05 * held[0]
    for first, last in ((0, 6), (6, 24), (24, LEADS)):
        span = slice(first, last)
        assert ours[span].mean() <= 1.05 * min(held[span].mean(), climate[span].mean())
    assert 0.6 < inside.mean() / (3 * SITES) < 0.95


def test_it_says_nothing_before_three_days() -> None:
    assert courses(windy(1, 3)[:-1]) is None
    assert courses(windy(1, 3)) is not None


def test_a_value_that_is_missing_is_not_held() -> None:
    past = windy(2, 3)
    past[-1] = np.nan
    usual = simple.climatology(series(past), LEADS, 100)
    assert usual is not None
    said = courses(past)
    assert said is not None
    assert np.allclose(np.median(said, axis=0), np.median(usual, axis=0))


@pytest.mark.parametrize("kind", list(Kind))
def test_it_passes_into_the_learnt_one_without_a_step(kind: Kind) -> None:
    """One slot before it is grown hardly anything is left of what is not learnt."""
    past = np.tile(windy(3, 1), GROWN_DAYS)  # every day alike: nothing but the blend can move
    before, after = courses(past[:-24], kind), courses(past, kind)
    assert before is not None and after is not None
    assert np.allclose(before, after, atol=0.01 * past.max())


def test_all_days_that_are_known_are_learnt_from_and_none_before_them() -> None:
    drawn = members(series(windy(4, 10)), LEADS)
    assert drawn is not None
    assert drawn.ages.max() < 10 * 24
    assert len(drawn.ages) == 3 * 8  # an hour each way, on each day whose two next are known
    assert members(series(windy(4, 3)), LEADS) is None


def test_blends() -> None:
    paths = np.array([[1.0, 9.0], [3.0, 5.0], [2.0, 7.0]])
    other = np.array([[30.0, 10.0], [10.0, 20.0], [20.0, 30.0]])
    assert np.array_equal(leant(paths, other, 0.0), paths)
    assert leant(paths, other, 1.0).tolist() == [[10.0, 30.0], [30.0, 10.0], [20.0, 20.0]]
    assert np.array_equal(fading(paths, other, 24)[:, 0], paths[:, 0])
    assert np.allclose(fading(paths, other, 1)[:, 1], [other[2, 1], 10.0, 20.0], atol=3.0)
    assert widened(paths, 3.0).tolist() == [[0.0, 11.0], [4.0, 3.0], [2.0, 7.0]]
    assert np.allclose(widened(paths, 1000.0), paths, atol=0.01)
