"""When a price or a grid's carbon says something about surplus, and when it must not."""

from datetime import UTC, datetime

import numpy as np

from coordinator.forecast import calibration
from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Learner, Part, SiteMemory
from coordinator.forecast.series import Series
from coordinator.forecast.signals import (
    SignalRule,
    expected_carbon_g,
    surplus_from_price,
)

NOW = datetime(2022, 6, 1, tzinfo=UTC)
COUNTS = SignalRule(price_below=0.0, certainty_frac=0.9, site_most_w=4000.0)


def hours(span: tuple[datetime, datetime]) -> tuple[float, float]:
    return ((span[0] - NOW).total_seconds() / 3600, (span[1] - NOW).total_seconds() / 3600)


def memory(paths: list[list[float]] | None) -> SiteMemory:
    past = Series(kind=Kind.OTHER, slot_s=3600.0, end_at=NOW, values=np.zeros(1))
    drawn = None if paths is None else np.array(paths)
    return SiteMemory(parts=(Part(series=past),), calibration=calibration.fresh(1), paths=drawn)


def test_a_forecast_price_counts_only_where_it_is_sure_enough() -> None:
    # Below the mark on nine, ten and eight paths of ten.
    paths = [[-1.0, -1.0, -1.0]] * 8 + [[-1.0, -1.0, 1.0]] + [[1.0, -1.0, 1.0]]
    told = surplus_from_price(COUNTS, memory(paths))
    assert [hours((one.start_at, one.end_at)) for one in told] == [(0, 2)]
    assert surplus_from_price(COUNTS, memory(None)) == ()


def test_nothing_counts_where_nobody_configured_it() -> None:
    assert surplus_from_price(SignalRule(), memory([[-5.0]])) == ()


def test_carbon_is_the_mean_course_times_the_energy() -> None:
    assert expected_carbon_g(memory([[100.0, 200.0], [300.0, 400.0]]), [1000.0, 500.0]) == 350.0
    assert expected_carbon_g(memory(None), [1.0]) is None


def test_a_price_is_learnt_with_its_sign() -> None:
    course = np.tile(np.r_[np.full(12, 60.0), np.full(12, -20.0)], 40)
    past = Series(kind=Kind.OTHER, slot_s=3600.0, end_at=NOW, values=course)
    told = surplus_from_price(COUNTS, Learner(leads=24).begin([Part(series=past)]))
    assert [hours((one.start_at, one.end_at)) for one in told] == [(12, 24)]
