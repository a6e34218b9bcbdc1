"""Every watt-second that is drawn ends on one of two sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.ledger import Energy, account_steps

watts = st.floats(0, 1e5)


def account(*steps: tuple[float, float, float]) -> Energy:
    """Account for (seconds, surplus, draw)."""
    lengths_s, surplus_w, drawn_w = np.array(steps).T
    return account_steps(np.concatenate(([0.0], np.cumsum(lengths_s))), surplus_w, drawn_w)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([(3600, 900, 500)], (500, 0)),
        ([(3600, 300, 500)], (300, 200)),
        ([(3600, 0, 500)], (0, 500)),
        ([(1800, 0, 500), (1800, 900, 500)], (250, 250)),
        ([(0, 900, 500)], (0, 0)),
    ],
)
def test_account(steps: list[tuple[float, float, float]], expected: tuple[float, float]) -> None:
    got = account(*steps)
    assert (got.renewable_wh, got.nonrenewable_wh) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0.001, 5000), watts, watts), min_size=1, max_size=20))
def test_energy_is_conserved(steps: list[tuple[float, float, float]]) -> None:
    got = account(*steps)
    assert got.total_wh == pytest.approx(sum(s * drawn_w for s, _, drawn_w in steps) / 3600, abs=1e-6)
    assert got.renewable_wh >= 0 and got.nonrenewable_wh >= -1e-9
    apart = sum((account(step) for step in steps), start=Energy())
    assert apart.renewable_wh == pytest.approx(got.renewable_wh, abs=1e-6)
