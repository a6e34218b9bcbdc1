"""What a site's surplus carries of a draw: one curve that tells every job's share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import horizon, windows
from coordinator.core.absorption import Absorption
from tests.coordinator.core.fleets import NOW, forecast

watts = st.lists(st.floats(0.0, 3000.0), min_size=1, max_size=6)


@given(
    surplus=watts,
    others_w=st.floats(0.0, 3000.0),
    power_w=st.floats(0.1, 1500.0),
    until_s=st.floats(1.0, 4000.0),
)
def test_it_tells_what_a_job_finds_beside_others(
    surplus: list[float], others_w: float, power_w: float, until_s: float
) -> None:
    ahead = horizon.outlook([windows.curve(NOW, forecast(*surplus, spread=0.3), surplus[0])])
    absorbs = Absorption(ahead, until_s)
    zero, others = np.zeros((1, 1)), np.array([[others_w]])
    whole = horizon.expected_j(ahead, others, np.array([power_w]), zero, until_s)[0, 0]
    found = absorbs.carried_one(0, others_w + power_w) - absorbs.carried_one(0, others_w)
    assert found == pytest.approx(whole, abs=1e-3)
    many = absorbs.carried(0, np.array([others_w, others_w + power_w]))
    assert many[1] - many[0] == pytest.approx(whole, abs=1e-3)


@given(
    surplus=watts,
    others_w=st.floats(0.0, 1500.0),
    power_w=st.floats(0.1, 1500.0),
    total_s=st.floats(0.0, 4000.0),
)
def test_time_under_way_costs_what_the_job_would_have_found(
    surplus: list[float], others_w: float, power_w: float, total_s: float
) -> None:
    surplus[0] = others_w + power_w  # a gate sees to it
    ahead = horizon.outlook([windows.curve(NOW, forecast(*surplus, spread=0.3), surplus[0])])
    absorbs = Absorption(ahead, 3600.0)
    others, power, total = np.array([others_w]), np.array([[power_w]]), np.array([[min(total_s, 3600.0)]])
    late = horizon.expected_j(ahead, others[None], power[0], np.array([[total_s]]), 3600.0)[0, 0]
    whole = absorbs.carried_one(0, others_w + power_w) - absorbs.carried_one(0, others_w)
    known_s = min(float(total[0, 0]), 600.0 * len(surplus))
    spared = absorbs.spared_one(0, others_w, power_w, known_s)
    assert whole - power_w * known_s + spared == pytest.approx(late, abs=1e-3)
    several = absorbs.spared(np.array([0]), others, power, np.array([[known_s]]))
    assert several[0, 0] == pytest.approx(spared, abs=1e-6)


def test_sites_of_different_lengths_stand_side_by_side() -> None:
    curves = [windows.curve(NOW, forecast(400.0, 800.0), 400.0), windows.curve(NOW, None, 300.0)]
    absorbs = Absorption(horizon.outlook(curves), 900.0)
    assert absorbs.carried_one(0, 1000.0) == pytest.approx(600 * 400 + 300 * 800)
    assert absorbs.carried_one(0, 500.0) == pytest.approx(600 * 400 + 300 * 500)
    assert absorbs.carried_one(0, 0.0) == 0.0
    assert absorbs.carried_one(1, 1000.0) == 0.0  # only this instant is known, and it has no length
