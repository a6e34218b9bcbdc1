"""Windows read off whole paths: the first passage, not the product of the hours' own quantiles."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import windows
from coordinator.core.confidence import MEDIAN, QUANTILES
from coordinator.core.declared import with_declared
from coordinator.model.forecast import ForecastSlot, Paths, SurplusForecast
from coordinator.model.site import DeclaredSurplus
from tests.coordinator.core.fleets import NOW

HOUR_S = 3600.0


def with_paths(paths: Paths, start_s: float = 0.0) -> SurplusForecast:
    """A forecast by the hour whose slots state the paths' quantiles."""
    stated = np.quantile(paths, QUANTILES, axis=0)
    slots = tuple(
        ForecastSlot(
            start_at=NOW + timedelta(seconds=start_s + hour * HOUR_S),
            end_at=NOW + timedelta(seconds=start_s + (hour + 1) * HOUR_S),
            p10_w=float(stated[0, hour]),
            p50_w=float(stated[1, hour]),
            p90_w=float(stated[2, hour]),
        )
        for hour in range(paths.shape[1])
    )
    return SurplusForecast(issued_at=NOW, source="paths", slots=slots, paths_w=paths)


def ends_s(forecast: SurplusForecast, measured_w: float | None, need_w: float) -> list[float]:
    stacked = windows.stack([windows.curve(NOW, forecast, measured_w)])
    ends: list[float] = windows.ends_s(stacked, np.array([[need_w]]))[:, 0, 0].tolist()
    return ends


def first_passage_s(paths: Paths, measured_w: float, need_w: float) -> list[float]:
    """The slow way: the end of each path on its own, in order; at most floor(q * P) of them are shorter."""
    ends = []
    for path in paths:
        course = [measured_w, *path[1:].tolist()]
        held = next((hour for hour, watts in enumerate(course) if watts < need_w), len(course))
        ends.append(held * HOUR_S)
    return [sorted(ends)[min(len(ends) - 1, int(q * len(ends) + 1e-9))] for q in QUANTILES]


@given(
    paths=st.integers(1, 30).flatmap(
        lambda count: st.lists(
            st.lists(st.integers(0, 10), min_size=6, max_size=6), min_size=count, max_size=count
        )
    ),
    measured=st.integers(0, 10),
    need=st.integers(1, 10),
)
def test_ends_are_the_quantiles_of_the_first_passage(
    paths: list[list[int]], measured: int, need: int
) -> None:
    array = np.array(paths, dtype=np.float32) * 100
    expected = first_passage_s(array, measured * 100.0, need * 100.0)
    assert ends_s(with_paths(array), measured * 100.0, need * 100.0) == expected


def test_a_dip_that_comes_at_another_hour_on_each_path_ends_every_window() -> None:
    # At every hour nine paths of ten have surplus, so each hour's median never fails; but no path is whole.
    paths = np.full((10, 10), 900.0, dtype=np.float32)
    paths[np.arange(10), np.arange(10)] = 0.0
    forecast = with_paths(paths)
    assert ends_s(forecast, 900.0, 500.0) == [2 * HOUR_S, 6 * HOUR_S, 10 * HOUR_S]
    without = SurplusForecast(issued_at=NOW, source="quantiles", slots=forecast.slots)
    assert ends_s(without, 900.0, 500.0)[MEDIAN] == 10 * HOUR_S


@pytest.mark.parametrize(("measured_w", "expected"), [(None, 0.0), (400.0, 0.0), (900.0, 3 * HOUR_S)])
def test_what_is_measured_opens_the_window(measured_w: float | None, expected: float) -> None:
    forecast = with_paths(np.full((5, 3), 900.0, dtype=np.float32))
    assert ends_s(forecast, measured_w, 500.0) == [expected] * 3


def test_slots_that_have_gone_no_longer_end_a_window() -> None:
    paths = np.array([[0, 0, 900, 900, 100]] * 4, dtype=np.float32)
    assert ends_s(with_paths(paths, start_s=-2.5 * HOUR_S), 900.0, 500.0) == [1.5 * HOUR_S] * 3


def test_the_window_of_now_is_the_paths_and_a_later_one_each_hours_own() -> None:
    paths = np.full((10, 10), 900.0, dtype=np.float32)
    paths[np.arange(10), np.arange(10)] = 0.0
    now = windows.window(windows.curve(NOW, with_paths(paths), 900.0), 500.0)
    later = windows.window(windows.curve(NOW, with_paths(paths), 0.0), 500.0)
    assert now is not None
    assert later is not None
    assert now.end_at == NOW + timedelta(hours=6)
    assert (later.start_at, later.end_at) == (NOW + timedelta(hours=1), NOW + timedelta(hours=10))


def test_what_an_operator_declares_raises_every_path() -> None:
    forecast = with_paths(np.array([[900, 0, 0], [900, 900, 0]], dtype=np.float32))
    promise = DeclaredSurplus(
        start_at=NOW + timedelta(hours=1), end_at=NOW + timedelta(hours=2.5), surplus_w=600.0
    )
    raised = with_declared(forecast, [promise], NOW)
    assert raised is not None
    assert raised.paths_w is not None
    assert raised.paths_w.tolist() == [[900, 600, 600, 0], [900, 900, 600, 0]]
    assert ends_s(raised, 900.0, 500.0) == [2.5 * HOUR_S] * 3
    beyond = with_declared(forecast, [replace(promise, end_at=NOW + timedelta(hours=4))], NOW)
    assert beyond is not None
    assert beyond.paths_w is not None
    assert beyond.paths_w.tolist() == [[900, 600, 600, 600], [900, 900, 600, 600]]
