"""The ledger: every metered watt-second ends on one of two sides, gaps on neither."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.ledger import Energy, Ledger, PowerSample, account
from tests.coordinator.core.fleets import NOW

watts = st.one_of(st.none(), st.floats(0, 1e5))


def sample(at_s: float, surplus_w: float | None, compute_w: float | None) -> PowerSample:
    return PowerSample(at=NOW + timedelta(seconds=at_s), surplus_w=surplus_w, compute_w=compute_w)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], (0, 0, 0)),
        ([(0, 900, 500)], (0, 0, 0)),
        ([(0, 900, 500), (3600, 0, 0)], (500, 0, 0)),
        ([(0, 300, 500), (3600, 0, 0)], (300, 200, 0)),
        ([(0, None, 500), (3600, 0, 0)], (0, 500, 0)),  # unknown surplus is none
        ([(0, 900, None), (3600, 0, 0)], (0, 0, 3600)),  # unknown draw is not counted
        ([(0, 900, 500), (7200, 0, 0)], (500, 0, 3600)),  # a sample says nothing beyond its hold
        ([(0, 900, 500), (-60, 0, 0), (3600, 0, 0)], (500, 0, 0)),  # late ones change nothing
        ([(0, 0, 500), (0, 900, 500), (3600, 0, 0)], (500, 0, 0)),  # the same instant again replaces
    ],
)
def test_account(
    samples: list[tuple[float, float | None, float | None]], expected: tuple[float, float, float]
) -> None:
    got = account([sample(*s) for s in samples], hold_s=3600.0)
    assert (got.renewable_wh, got.nonrenewable_wh, got.unmetered_s) == pytest.approx(expected)


def test_import_counts_with_the_grids_own_share_where_it_is_known() -> None:
    got = account([sample(0, 300, 500), sample(3600, 0, 0)], hold_s=3600.0, grid_renewable_frac=0.25)
    assert (got.renewable_wh, got.nonrenewable_wh) == pytest.approx((350.0, 150.0))
    assert got.renewable_frac == pytest.approx(0.7)


def test_nothing_drawn_has_no_share() -> None:
    assert Energy().renewable_frac is None


@given(st.lists(st.tuples(st.floats(0.001, 5000), watts, watts), max_size=20), st.floats(0, 1))
def test_energy_is_conserved(steps: list[tuple[float, float | None, float | None]], grid: float) -> None:
    ledger, at_s, drawn_ws, metered_s = Ledger(hold_s=1000.0, grid_renewable_frac=grid), 0.0, 0.0, 0.0
    for step_s, surplus_w, compute_w in steps:
        ledger = ledger.add(sample(at_s, surplus_w, compute_w))
        held_s = min(step_s, 1000.0) if compute_w is not None else 0.0
        drawn_ws += (compute_w or 0.0) * held_s
        metered_s += held_s
        at_s += step_s
    energy = ledger.add(sample(at_s, None, None)).energy
    assert energy.total_wh == pytest.approx(drawn_ws / 3600, rel=1e-6, abs=0.1)
    assert energy.unmetered_s == pytest.approx(at_s - metered_s, abs=1e-3)
    assert energy.renewable_wh >= 0 and energy.nonrenewable_wh >= -1e-9
