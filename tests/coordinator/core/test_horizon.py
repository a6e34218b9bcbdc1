"""What jobs can expect of the surplus ahead, and what a move gains of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import horizon, windows
from coordinator.core.bookings import Bookings
from coordinator.core.horizon import HorizonJudge
from coordinator.core.judgement import Ratings
from coordinator.core.policy import PlannerSettings
from coordinator.model.view import FleetView
from tests.coordinator.core.fleets import NOW, fleet, forecast, job, site


def expected(
    *watts: float, others_w: float, power_w: float = 500.0, from_s: float = 0.0, until_s: float = 1e9
) -> float:
    steps = windows.curve(NOW, forecast(*watts), watts[0])
    got = horizon.expected_j(
        horizon.outlook([steps]),
        np.array([[others_w]]),
        np.array([power_w]),
        np.array([[from_s]]),
        until_s,
    )
    return float(got[0, 0])


def rated(view: FleetView, job_id: str, *, reach_frac: float = 1.0, **numbers: float) -> Ratings:
    judge = HorizonJudge(view, PlannerSettings(**numbers), Bookings(view), reach_frac=reach_frac)
    return judge.rate([view.jobs[job_id]])


@pytest.mark.parametrize(
    ("others_w", "from_s", "until_s", "energy_j"),
    [
        (0.0, 0.0, 1e9, 600 * (500 + 300 + 500)),  # 500 W at most, and what there is
        (100.0, 0.0, 1e9, 600 * (500 + 200 + 500)),  # the others come first
        (300.0, 0.0, 1e9, 600 * (500 + 0 + 500)),
        (0.0, 300.0, 1e9, 300 * 500 + 600 * (300 + 500)),  # it begins half a slot later
        (0.0, 0.0, 900.0, 600 * 500 + 300 * 300),  # no more is counted
        (0.0, 900.0, 900.0, 0.0),
        (0.0, 1e6, 1e9, 0.0),  # beyond the forecast nothing is known
    ],
)
def test_a_job_has_what_the_others_leave(
    others_w: float, from_s: float, until_s: float, energy_j: float
) -> None:
    got = expected(1000.0, 300.0, 800.0, others_w=others_w, from_s=from_s, until_s=until_s)
    assert got == pytest.approx(energy_j)


def test_doubt_counts_as_it_is_stated() -> None:
    sure = horizon.outlook([windows.curve(NOW, forecast(500.0, 500.0), 500.0)])
    doubtful = horizon.outlook([windows.curve(NOW, forecast(500.0, 500.0, spread=0.5), 500.0)])
    zero, power = np.zeros((1, 1)), np.array([500.0])
    most = horizon.expected_j(sure, zero, power, zero, 1e9)[0, 0]
    less = horizon.expected_j(doubtful, zero, power, zero, 1e9)[0, 0]
    # What is measured holds for this slot; in the next the lowest of three quantiles has half.
    assert less == pytest.approx(600 * 500 + 600 * (0.3 * 250 + 0.7 * 500))
    assert less < most


def test_a_start_that_is_not_known_has_no_figure() -> None:
    assert np.isnan(expected(500.0, others_w=0.0, from_s=float("nan")))


def test_many_jobs_are_rated_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = horizon.outlook(
        [windows.curve(NOW, forecast(900.0, 100.0, 700.0), 900.0), windows.curve(NOW, None, 300.0)]
    )
    others, power = np.array([[0.0, 5.0], [450.0, 0.0], [700.0, 90.0]]), np.array([500.0, 100.0, 300.0])
    begins = np.array([[0.0, 100.0], [700.0, 0.0], [10.0, 10.0]])
    whole = horizon.expected_j(ahead, others, power, begins, 1500.0)
    monkeypatch.setattr(horizon, "_BLOCK", 1)
    assert np.array_equal(horizon.expected_j(ahead, others, power, begins, 1500.0), whole)


@given(
    surplus=st.lists(st.floats(0.0, 3000.0), min_size=1, max_size=6),
    power=st.floats(1.0, 1000.0),
    count=st.integers(1, 6),
)
def test_shares_of_all_jobs_add_up_to_what_they_absorb(
    surplus: list[float], power: float, count: int
) -> None:
    shares = sum(expected(*surplus, others_w=power * place, power_w=power) for place in range(count))
    absorbed = sum(600.0 * min(watts, power * count) for watts in surplus)
    assert shares == pytest.approx(absorbed, abs=1e-3)


CROWDED = fleet(
    [
        site("a", surplus_w=1200.0, windows=forecast(1200.0, 1200.0, slot_s=20_000.0)),
        site("b", surplus_w=600.0, windows=forecast(600.0, 600.0, slot_s=20_000.0)),
    ],
    [job("1", "a", resident_s=9000.0), job("2", "a"), job("3", "a")],
)


def test_every_job_of_a_crowded_site_counts_as_the_last() -> None:
    for job_id in CROWDED.jobs:
        ratings = rated(CROWDED, job_id)
        assert ratings.lasts_s[0] == 0.0
        assert ratings.need_here_w[0] == 1500.0
        # 200 W of 500 W are left for the last; b has 500 W for it, after a move of 12 s.
        assert ratings.stay_s[0, 1] == pytest.approx(40_000 * 0.4)
        cost_s = 3600 * ratings.terms.energy_wh[0, 1] / 500.0
        assert ratings.gain_s[0, 1] == pytest.approx(40_000 - 12.0 - 40_000 * 0.4 - cost_s)
        assert ratings.gain_s[0, 0] == -np.inf


def test_only_the_reach_counts() -> None:
    ratings = rated(CROWDED, "1", reach_frac=0.25, horizon_s=4000.0)
    assert ratings.stay_s[0, 1] == pytest.approx(1000 * 0.4)


def test_a_job_that_draws_nothing_gains_nothing() -> None:
    idle = replace(CROWDED, jobs={"1": job("1", "a", power_w=0.0)})
    assert rated(idle, "1").gain_s[0, 1] == 0.0


def test_a_move_of_unknown_length_gains_nothing() -> None:
    unknown = replace(CROWDED, jobs={"1": job("1", "a", checkpoint_bytes=None)})
    assert rated(unknown, "1").gain_s[0, 1] == -np.inf
