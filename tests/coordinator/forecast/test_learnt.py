"""Ensembles from the past: what they learn, what they never leave, and how coverage comes right."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.forecast import calibration, simple
from coordinator.forecast.courses import choose
from coordinator.forecast.forecaster import FirstOf, SiteSurplus
from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Learner, LearntForecaster, Part, SiteMemory, surplus_forecast
from coordinator.forecast.members import members
from coordinator.forecast.series import Array, Series, same_hour, trailing_max, trailing_mean
from sterna.errors import PermanentError

END = datetime(2022, 6, 1, tzinfo=UTC)
NOISE = np.random.default_rng(7)


def series(kind: Kind, values: Array) -> Series:
    return Series(kind=kind, slot_s=3600.0, end_at=END, values=values)


def sunny(days: int = 60, cloud: float = 0.4) -> Array:
    """A bell a day, each day under its own cloud."""
    bell = np.clip(np.sin((np.arange(24) - 6) / 12 * np.pi), 0.0, None)
    return (1000.0 * (1.0 - cloud * NOISE.random((days, 1))) * bell).ravel()


def windy(days: int = 60, fade: float = 0.9) -> Array:
    """A course that forgets slowly, between 0 and 1000 W."""
    course, state = np.empty(days * 24), 0.0
    for slot in range(len(course)):
        state = fade * state + NOISE.normal(0.0, 0.4)
        course[slot] = 1000.0 / (1.0 + np.exp(-state))
    return course


def holed(values: Array) -> Array:
    gaps = values.copy()
    gaps[NOISE.random(len(values)) < 0.1] = np.nan
    return gaps


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("shape", [sunny, windy])
def test_courses_stay_within_what_the_kind_allows(kind: Kind, shape: Callable[[], Array]) -> None:
    for values in (shape(), holed(shape()), np.zeros(60 * 24)):
        memory = Learner(leads=30, paths=40).begin([Part(series=series(kind, values))])
        assert memory.paths is not None
        assert memory.paths.shape == (40, 30)
        assert np.isfinite(memory.paths).all()
        assert memory.paths.min() >= 0.0
        assert memory.paths.max() <= 2.0 * np.nanmax(values) + 1e-6


def test_night_stays_dark_and_the_day_follows_its_cloud() -> None:
    values = sunny(days=90, cloud=0.8)
    values[-12:] = 0.3 * trailing_max(values, 24, 21)[-36:-24]
    drawn = members(series(Kind.SUN, values), 24)
    assert drawn is not None
    paths = drawn.paths(choose(drawn.weights, 50))
    assert paths[:, :6].max() < 50.0  # the series begins and ends at midnight


def test_wind_holds_at_first_and_forgets_later() -> None:
    values = windy(days=120)
    values[-3:] = 990.0
    memory = Learner().begin([Part(series=series(Kind.WIND, values))])
    assert memory.paths is not None
    middle = np.median(memory.paths, axis=0)
    assert middle[0] > 800.0
    assert abs(middle[47] - values.mean()) < 150.0
    spread = np.subtract(*np.quantile(memory.paths, (0.9, 0.1), axis=0))
    assert spread[0] < 0.5 * spread[24]


def test_parts_take_their_errors_from_the_same_hour() -> None:
    values = windy(days=90)
    wind = series(Kind.WIND, values)
    twin = Learner(leads=24).begin([Part(series=wind), Part(series=wind, sign=-1.0)])
    assert twin.paths is not None
    assert np.abs(twin.paths).max() < 1e-6  # what is also drawn leaves nothing, on every path


def test_parts_of_different_length_are_refused() -> None:
    with pytest.raises(PermanentError, match="same slots"):
        Learner().begin([Part(series=series(Kind.SUN, sunny(60))), Part(series=series(Kind.WIND, windy(61)))])


@pytest.mark.parametrize(("days", "expected"), [(2, False), (5, True), (30, True)])
def test_a_short_past_gives_a_forecast_and_a_shorter_one_nothing(days: int, expected: bool) -> None:
    memory = Learner(leads=24).begin([Part(series=series(Kind.WIND, windy(days)))])
    assert (memory.paths is not None) is expected
    assert (surplus_forecast(memory) is not None) is expected


def test_observing_moves_the_memory_one_slot_on_and_leaves_the_old_one_alone() -> None:
    learner = Learner(leads=12, paths=20)
    before = learner.begin([Part(series=series(Kind.WIND, windy(30)))])
    kept = before.parts[0].series.values.copy()
    after = learner.observe(before, [123.0])
    blind = learner.observe(after, [None])
    assert after.end_at == before.end_at + timedelta(hours=1)
    assert after.parts[0].series.values[-1] == 123.0
    assert np.isnan(blind.parts[0].series.values[-1])
    assert np.array_equal(before.parts[0].series.values, kept)
    assert np.array_equal(blind.calibration.factors, after.calibration.factors)


def test_a_price_is_learnt_with_its_sign() -> None:
    course = np.tile(np.r_[np.full(12, 60.0), np.full(12, -20.0)], 40)
    past = series(Kind.OTHER, course)
    paths = Learner(leads=24).begin([Part(series=past)]).paths
    assert paths is not None
    below = (paths < 0.0).mean(axis=0) >= 0.9
    assert below.tolist() == [False] * 12 + [True] * 12


def test_learning_is_deterministic() -> None:
    part = Part(series=series(Kind.SUN, sunny()))
    first, second = Learner().begin([part]), Learner().begin([part])
    assert first.paths is not None
    assert second.paths is not None
    assert np.array_equal(first.paths, second.paths)


def forecast_of(memory: SiteMemory) -> SiteSurplus:
    return SiteSurplus(site_id="a", surplus_w=None, published=None, learnt=surplus_forecast(memory))


def test_the_forecaster_gives_out_the_memory_until_it_is_stale() -> None:
    load = np.full(60 * 24, 300.0)
    parts = [Part(series=series(Kind.SUN, sunny())), Part(series=series(Kind.OTHER, load), sign=-1.0)]
    seen = forecast_of(Learner().begin(parts))
    forecaster = FirstOf([LearntForecaster(max_age_s=7200.0)])
    told = forecaster.forecast(END + timedelta(seconds=60), seen)
    assert told is not None
    assert told.source == "learnt"
    assert told.slots[0].start_at == END
    assert len(told.slots) == 48
    assert all(0.0 <= slot.p10_w <= slot.p50_w <= slot.p90_w for slot in told.slots)
    assert told.slots[0].p90_w == 0.0  # midnight
    assert 100.0 < told.slots[12].p50_w < 700.0  # noon, less the load
    assert forecaster.forecast(END + timedelta(seconds=7201), seen) is None
    assert forecaster.forecast(END, SiteSurplus(site_id="a", surplus_w=1.0, published=None)) is None


@settings(deadline=None, max_examples=5)
@given(factor=st.floats(0.4, 3.0), seed=st.integers(0, 1000))
def test_coverage_comes_right_whatever_the_spread_was(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    state = calibration.fresh(1)
    members_ = np.linspace(-1.0, 1.0, 101)[:, None] * factor
    inside = []
    for _ in range(1500):
        paths = calibration.stretched(state, members_)
        bounds = np.quantile(paths, (0.1, 0.9), axis=0)
        state = calibration.issued(state, bounds)
        value = float(rng.uniform(-1.0, 1.0))
        inside.append(bool(bounds[0, 0] <= value <= bounds[1, 0]))
        state = calibration.learn(state, value, 0.05)
    assert 0.76 <= np.mean(inside[500:]) <= 0.84


def test_a_night_without_doubt_teaches_nothing() -> None:
    state = calibration.issued(calibration.fresh(3), np.zeros((2, 3)))
    assert np.array_equal(calibration.learn(state, 0.0, 0.1).factors, np.ones((2, 3)))


@pytest.mark.parametrize("say", [simple.persistence, simple.day_before, simple.climatology])
def test_plain_sources_see_only_the_past(say: Callable[[Series, int, int], Array | None]) -> None:
    values = holed(sunny(20))
    values[-1] = 5.0
    paths = say(series(Kind.SUN, values), 30, 25)
    assert paths is not None
    assert paths.shape == (25, 30)
    assert np.isfinite(paths).all()
    assert say(series(Kind.SUN, values[:20]), 30, 25) is None


def test_trailing_values_know_only_the_days_before() -> None:
    values = np.array([1.0, 10.0, 3.0, np.nan, 2.0, 30.0])
    assert trailing_max(values, 2, 2).tolist() == [0, 0, 1, 10, 3, 10, 3, 30]
    assert trailing_mean(values, 2, 2).tolist() == [0, 0, 1, 10, 2, 10, 2.5, 30]
    assert same_hour(np.array([1, 24, 25, 48]), 24).tolist() == [24, 24, 48, 48]
