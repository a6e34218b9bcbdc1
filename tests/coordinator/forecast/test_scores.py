"""Scores against what they are by definition, and ours against the plain sources on real traces."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.forecast import scores
from coordinator.forecast.backtest import Plan, Score, run
from coordinator.forecast.kinds import Kind
from coordinator.forecast.series import Series
from coordinator.forecast.traces import read_traces
from sterna.errors import PermanentError

DATA = Path(__file__).parents[4] / "shared" / "data" / "renewable"


@given(members=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12), seen=st.floats(-1e3, 1e3))
def test_crps_is_its_definition(members: list[float], seen: float) -> None:
    x = np.array(members)
    expected = np.abs(x - seen).mean() - np.abs(x[:, None] - x).mean() / 2
    assert scores.crps(x[:, None], np.array([seen]))[0] == pytest.approx(expected, abs=1e-9)


def test_pinball_asks_more_for_a_miss_on_the_unlikely_side() -> None:
    sure = np.full((5, 1), 10.0)
    assert scores.pinball(sure, np.array([14.0]))[0] == pytest.approx(4.0 * 0.5)
    assert scores.pinball(sure, np.array([10.0]))[0] == 0.0


def test_coverage_counts_the_edges() -> None:
    paths = np.repeat(np.arange(11.0)[:, None], 4, axis=1)  # p10 = 1, p90 = 9
    assert scores.covered(paths, np.array([1.0, 9.0, 0.9, 9.1])).tolist() == [1, 1, 0, 0]


def test_a_window_lasts_to_its_first_gap() -> None:
    courses = np.array([[5, 5, 0, 5], [5, 5, 5, 5], [0, 5, 5, 5]])
    assert scores.lasts(courses, 5.0).tolist() == [2, 4, 0]
    assert scores.window_error(courses, np.array([5, 5, 5, 0]), 5.0)[0] == 1.0


def test_a_trace_too_short_to_learn_from_is_refused() -> None:
    short = Series(
        kind=Kind.WIND, slot_s=3600.0, end_at=datetime(2022, 1, 1, tzinfo=UTC), values=np.ones(40 * 24)
    )
    with pytest.raises(PermanentError, match="too few"):
        run("short", short, Plan())


def losses(score: Score, measure: str, leads: list[int]) -> np.ndarray:
    sums: np.ndarray = getattr(score, measure)
    return (sums / score.count)[leads]


@pytest.mark.skipif(not DATA.is_dir(), reason="the reference data is not there")
@pytest.mark.parametrize("name", ["DE_tennet/solar", "DE_50hertz/wind_onshore"])
def test_ours_is_better_than_the_plain_sources_on_what_it_never_saw(name: str) -> None:
    """Issue 5, shown 5, in small: six weeks after four months; the whole is in docs/forecasts.md."""
    trace = read_traces(DATA / "opsd_de_tso_zones_2019_q1-q3_hourly.csv.gz")[name].until(24 * 165)
    told = run(name, trace, Plan(leads=24, train_frac=120 / 165, every=5, rehearse_days=15))
    ours = told.by_source["learnt"]
    leads = [0, 2, 5, 11, 23]
    for measure in ("crps", "pinball"):
        for plain in ("persistence", "day-before", "climatology"):
            other = losses(told.by_source[plain], measure, leads)
            assert (losses(ours, measure, leads) < other).mean() >= 0.8, (measure, plain)
    assert 0.74 <= ours.covered.sum() / ours.count.sum() <= 0.86
    assert ours.windows > 10
    assert ours.window_crps_slots <= told.by_source["climatology"].window_crps_slots
