"""Every watt-second that is drawn ends on one of two sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.ledger import Energy, account_steps

watts = st.floats(0, 1e5)


def account(*steps: tuple[float, float, float], grid: float = 0.0) -> Energy:
    """Account for (seconds, surplus, draw)."""
    lengths_s, surplus_w, drawn_w = np.array(steps).T
    return account_steps(np.concatenate(([0.0], np.cumsum(lengths_s))), surplus_w, drawn_w, grid)


@pytest.mark.parametrize(
    ("steps", "grid", "expected"),
    [
        ([(3600, 900, 500)], 0.0, (500, 0)),
        ([(3600, 300, 500)], 0.0, (300, 200)),
        ([(3600, 0, 500)], 0.0, (0, 500)),
        ([(1800, 0, 500), (1800, 900, 500)], 0.0, (250, 250)),
        ([(3600, 300, 500)], 0.25, (350, 150)),  # import counts with the grid's own share
        ([(0, 900, 500)], 0.0, (0, 0)),
    ],
)
def test_account(steps: list[tuple[float, float, float]], grid: float, expected: tuple[float, float]) -> None:
    got = account(*steps, grid=grid)
    assert (got.renewable_wh, got.nonrenewable_wh) == pytest.approx(expected)
    assert got.renewable_frac == (pytest.approx(expected[0] / sum(expected)) if sum(expected) else None)


@given(st.lists(st.tuples(st.floats(0.001, 5000), watts, watts), min_size=1, max_size=20), st.floats(0, 1))
def test_energy_is_conserved(steps: list[tuple[float, float, float]], grid: float) -> None:
    got = account(*steps, grid=grid)
    assert got.total_wh == pytest.approx(sum(s * drawn_w for s, _, drawn_w in steps) / 3600, abs=1e-6)
    assert got.renewable_wh >= 0 and got.nonrenewable_wh >= -1e-9
    apart = sum((account(step, grid=grid) for step in steps), start=Energy())
    assert apart.renewable_wh == pytest.approx(got.renewable_wh, abs=1e-6)
