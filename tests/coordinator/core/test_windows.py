"""Windows: maximal intervals on a step function, and nothing unknown ever open."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import windows
from coordinator.core.confidence import MEDIAN, QUANTILES, chance_beyond, end_at_risk
from coordinator.core.declared import declared_w, with_declared
from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.site import DeclaredSurplus
from tests.coordinator.core.fleets import NOW, forecast, site


def ends(steps: windows.SurplusCurve, *needs: float) -> list[list[float]]:
    got: list[list[float]] = windows.ends_s(windows.stack([steps]), np.array(needs)[:, None])[
        :, :, 0
    ].tolist()
    return got


@pytest.mark.parametrize(
    ("watts", "measured_w", "start_s", "expected"),
    [
        ((900, 900, 0), 900.0, 0.0, (0, 1200, False)),
        ((900, 900, 900), 900.0, 0.0, (0, 1800, True)),
        ((0, 900, 900, 0, 900), 0.0, 0.0, (600, 1800, False)),
        ((900, 900, 0), 900.0, -300.0, (0, 900, False)),  # the first slot has half gone
        ((900, 900, 0), 900.0, -900.0, (0, 300, False)),  # a slot that ended is dropped
        ((0, 0, 900), 900.0, 0.0, (0, 600, False)),  # measured though not forecast: this slot only
        ((900, 900, 0), 0.0, 0.0, (600, 1200, False)),  # forecast though not measured: not this slot
        ((900, 900, 0), None, 0.0, (600, 1200, False)),  # not measured: unknown is not open
        ((900, 0), 900.0, 300.0, (0, 900, False)),  # what is measured holds until a first slot that is near
        ((900, 0), 900.0, 700.0, (700, 1300, False)),  # but not until one that is far
        ((400, 400), 400.0, 0.0, None),
    ],
)
def test_window_now_or_next(
    watts: tuple[float, ...], measured_w: float | None, start_s: float, expected: tuple[int, int, bool] | None
) -> None:
    steps = windows.curve(NOW, forecast(*watts, start_s=start_s), measured_w)
    got = windows.window(steps, 500.0)
    if expected is None:
        assert got is None
    else:
        assert got is not None
        span = ((got.start_at - NOW).total_seconds(), (got.end_at - NOW).total_seconds())
        assert (*span, got.open_ended) == expected
        now_open = expected[0] == 0
        assert ends(steps, 500.0)[MEDIAN] == [expected[1] if now_open else 0.0]


def test_without_a_forecast_no_window_has_any_length() -> None:
    steps = windows.curve(NOW, None, 5000.0)
    assert windows.window(steps, 1.0) is None
    assert ends(steps, 1.0) == [[0.0]] * 3
    assert windows.covered_s(steps, 1.0, np.array([60.0])).tolist() == [0.0]


def test_quantiles_give_window_ends_in_order() -> None:
    steps = windows.curve(NOW, forecast(900, 800, 600, 400, 300, spread=0.5), 900.0)
    assert ends(steps, 500.0, 1000.0) == [[600.0, 0.0], [1800.0, 0.0], [2400.0, 0.0]]


def test_crossed_quantiles_are_mended_upwards() -> None:
    slot = ForecastSlot(
        start_at=NOW + timedelta(seconds=1),
        end_at=NOW + timedelta(seconds=60),
        p10_w=9.0,
        p50_w=5.0,
        p90_w=7.0,
    )
    steps = windows.curve(NOW, SurplusForecast(issued_at=NOW, source="t", slots=(slot,)), 9.0)
    assert steps.watts[:, 1].tolist() == [9.0, 9.0, 9.0]


def test_a_hole_in_a_forecast_is_no_surplus() -> None:
    early, late = forecast(900, slot_s=60.0), forecast(900, slot_s=60.0, start_s=120.0)
    holed = SurplusForecast(issued_at=NOW, source="t", slots=early.slots + late.slots)
    steps = windows.curve(NOW, holed, 900.0)
    assert ends(steps, 500.0)[MEDIAN] == [60.0]
    assert windows.covered_s(steps, 500.0, np.array([30.0, 90.0, 150.0, 999.0])).tolist() == [30, 60, 90, 120]


@pytest.mark.parametrize(("ok", "expected"), [(True, 600.0), (False, 0.0)])
def test_a_doubtful_measurement_is_none(ok: bool, expected: float) -> None:
    view = site("a", surplus_w=900.0, ok=ok, windows=forecast(900, 0))
    assert ends(windows.site_curve(NOW, view), 500.0)[MEDIAN] == [expected]


@given(
    st.lists(st.floats(0, 2000), min_size=1, max_size=12),
    st.floats(0, 2000),
    st.floats(1, 2000),
    st.floats(0, 1),
)
def test_needing_more_never_lengthens_a_window(
    watts: list[float], measured_w: float, need_w: float, more: float
) -> None:
    steps = windows.curve(NOW, forecast(*watts, spread=0.3), measured_w)
    less, greater = np.array(ends(steps, need_w, need_w * (1 + more))).T
    assert (greater <= less).all()
    assert (np.diff(less) >= 0).all()
    covered = windows.covered_s(steps, need_w, np.array([less[MEDIAN]]))[0]
    assert covered == pytest.approx(less[MEDIAN])  # the window is covered throughout, and maximal
    following = np.searchsorted(steps.edges_s, less[MEDIAN])
    if following < steps.watts.shape[1]:
        assert steps.watts[MEDIAN, following] < need_w


ENDS = np.array([[100.0], [200.0], [600.0]])


@pytest.mark.parametrize(
    ("epsilon", "expected"),
    [
        (0.0, 0.0),
        (0.09, 0.0),
        (0.1, 100.0),
        (0.3, 150.0),
        (0.5, 200.0),
        (0.7, 400.0),
        (0.9, 600.0),
        (0.99, 600.0),
    ],
)
def test_the_end_that_is_relied_on(epsilon: float, expected: float) -> None:
    assert end_at_risk(ENDS, epsilon).tolist() == [pytest.approx(expected)]


@pytest.mark.parametrize(
    ("needed_s", "expected"),
    [
        (0.0, 0.9),
        (99.9, 0.9),
        (100.0, 0.9),
        (150.0, 0.7),
        (200.0, 0.5),
        (400.0, 0.3),
        (600.0, 0.0),
        (1e9, 0.0),
    ],
)
def test_the_chance_that_a_window_outlasts(needed_s: float, expected: float) -> None:
    assert chance_beyond((100.0, 200.0, 600.0), needed_s) == pytest.approx(expected)


@given(
    st.lists(st.floats(0, 1e5), min_size=3, max_size=3).map(sorted), st.floats(0, 1e5), st.floats(0.1, 0.95)
)
def test_quantile_form_and_probability_form_agree(
    quantiles: list[float], needed_s: float, epsilon: float
) -> None:
    low, middle, high = quantiles
    end = float(end_at_risk(np.array(quantiles)[:, None], epsilon)[0])
    chance = chance_beyond((low, middle, high), needed_s)
    if abs(end - needed_s) > 1e-6 * (1 + needed_s) and abs(chance - (1 - epsilon)) > 1e-9:
        assert (needed_s < end) == (chance >= 1 - epsilon)
    assert 0.0 <= chance <= 1 - QUANTILES[0]


def test_declared_surplus_lifts_every_quantile_and_cuts_slots() -> None:
    promise = DeclaredSurplus(
        start_at=NOW + timedelta(seconds=300), end_at=NOW + timedelta(seconds=900), surplus_w=700.0
    )
    got = with_declared(forecast(900, 100, spread=0.5), [promise], NOW)
    assert got is not None
    spans = [((s.end_at - s.start_at).total_seconds(), s.p10_w, s.p50_w, s.p90_w) for s in got.slots]
    assert spans == [(300, 450, 900, 1350), (300, 700, 900, 1350), (300, 700, 700, 700), (300, 50, 100, 150)]
    assert with_declared(got, [], NOW) is got
    assert with_declared(got, [promise], promise.end_at) is got
    assert declared_w([promise], NOW) is None
    assert declared_w([promise], promise.start_at) == 700.0
    assert declared_w([promise], promise.end_at) is None


def test_a_promise_beyond_the_forecast_is_a_forecast() -> None:
    starts_s = 600.0  # where the one slot of the forecast ends
    promise = DeclaredSurplus(
        start_at=NOW + timedelta(seconds=starts_s), end_at=NOW + timedelta(hours=2), surplus_w=700.0
    )
    for known, measured_w, begins_s in ((None, None, starts_s), (forecast(700), 700.0, 0.0)):
        told = with_declared(known, [promise], NOW)
        assert told is not None
        found = windows.window(windows.curve(NOW, told, measured_w), 600.0)
        assert found is not None
        assert (found.start_at, found.end_at) == (NOW + timedelta(seconds=begins_s), promise.end_at)


def test_sites_side_by_side_are_the_sites_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = [
        windows.curve(NOW, forecast(900, 700, 500, spread=0.2), 900.0),
        windows.curve(NOW, None, 900.0),
        windows.curve(NOW, forecast(*[600] * 9), 600.0),
    ]
    needs = np.array([[400.0, 400.0, 400.0], [650.0, 0.0, 650.0], [500.0, 500.0, 500.0]])
    together = windows.ends_s(windows.stack(curves), needs)
    for column, steps in enumerate(curves):
        assert together[:, :, column].tolist() == ends(steps, *needs[:, column])
    monkeypatch.setattr(windows, "_BLOCK", 1)  # one job at a time
    assert windows.ends_s(windows.stack(curves), needs).tolist() == together.tolist()
    assert windows.ends_s(windows.stack([]), np.zeros((2, 0))).shape == (3, 2, 0)
