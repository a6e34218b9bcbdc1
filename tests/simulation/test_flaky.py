"""Flaky windows cancel no healthy job, however long they last."""

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.flaky import DAY_S, Days, live

WINDOWS_PER_SEED = 20


def some(seed: int) -> Days:
    return live(seed, WINDOWS_PER_SEED)


def test_a_few_windows() -> None:
    days = live(2, WINDOWS_PER_SEED)
    assert not days.violation, days.violation
    assert days.windows == WINDOWS_PER_SEED and days.moved > 0 and days.longest_s > 600


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_thousand_windows_of_up_to_a_day() -> None:
    with ProcessPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(some, range(50)))
    assert not [days.violation for days in found if days.violation]
    windows, dark_h = sum(days.windows for days in found), sum(days.dark_s for days in found) / 3600
    moved = sum(days.moved for days in found)
    print(f"{windows} windows, {dark_h:.0f} h dark, {moved} with a job on its way")
    assert windows == 1000
    assert max(days.longest_s for days in found) == DAY_S
    assert moved > 100
