"""Bounds of what is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.plausibility import BOUNDS, believable, counter_fault, plausible


@pytest.mark.parametrize("power_w", [float("nan"), float("inf"), -float("inf"), 2.7e23, -1001.0, None])
def test_what_cannot_be_real(power_w: float | None) -> None:
    assert plausible(power_w, max_power_w=1000.0)


@given(st.floats(-1000, 1000))
def test_what_can_be_real(power_w: float) -> None:
    assert plausible(power_w, max_power_w=1000.0) is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("frequency_hz", 50.0, 50.0),
        ("frequency_hz", 0.0, None),
        ("frequency_hz", 1e9, None),
        ("power_factor", -1.0, -1.0),
        ("power_factor", 2.0, None),
        ("energy_import_wh", -1.0, None),
        ("energy_import_wh", 1e23, None),
        ("energy_import_wh", None, None),
        ("energy_import_wh", float("nan"), None),
        ("apparent_power_va", float("inf"), None),
        ("apparent_power_va", 12.0, 12.0),
    ],
)
def test_side_figures(name: str, value: float | None, expected: float | None) -> None:
    assert believable(name, value) == expected


def test_bounds_are_the_right_way_round() -> None:
    assert all(bounds.low < bounds.high for bounds in BOUNDS.values())


def test_a_counter_goes_no_faster_than_power() -> None:
    assert counter_fault(0, 1000, elapsed_s=3600, max_power_w=1000) is None
    assert counter_fault(0, 2000, elapsed_s=3600, max_power_w=1000) is None
    fault = counter_fault(0, 2001, elapsed_s=3600, max_power_w=1000)
    assert fault == "the counter went 2001 Wh in 3600 s, at most 1000 Wh are possible"
