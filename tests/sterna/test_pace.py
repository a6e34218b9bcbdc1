"""Loops that keep time together."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna import pace

TIMES_S = st.floats(0, 1e7)
PERIODS_S = st.floats(0.05, 3600)


@given(now_s=TIMES_S, period_s=PERIODS_S, ahead_s=st.floats(0, 1))
def test_a_rest_ends_on_a_beat_and_lasts_about_a_period_at_most(
    now_s: float, period_s: float, ahead_s: float
) -> None:
    left_s = pace.to_beat_s(now_s, period_s, ahead_s)
    assert 0 < left_s <= period_s * (1 + 2 * pace.LEAST_REST_FRAC)
    beats = (now_s + left_s + ahead_s) / period_s
    assert beats == pytest.approx(round(beats), abs=1e-3)


@pytest.mark.parametrize(("now_s", "left_s"), [(10.0, 1.0), (10.25, 0.75), (10.999, 1.001)])
def test_a_beat_that_is_as_good_as_had_is_not_waited_for(now_s: float, left_s: float) -> None:
    assert pace.to_beat_s(now_s, 1.0) == pytest.approx(left_s)


@pytest.mark.looptime(start=100.0)
async def test_loops_that_began_apart_wake_together_and_do_not_drift() -> None:
    loop, woken = asyncio.get_running_loop(), list[tuple[str, float]]()

    async def keep(name: str, late_s: float, work_s: float) -> None:
        await asyncio.sleep(late_s)
        for _ in range(3):
            await pace.rest(1.0)
            woken.append((name, round(loop.time() - 100.0, 6)))
            await asyncio.sleep(work_s)

    async with asyncio.TaskGroup() as group:
        group.create_task(keep("a", 0.2, 0.1))
        group.create_task(keep("b", 0.7, 0.3))
    assert woken == [(name, beat) for beat in (1.0, 2.0, 3.0) for name in "ab"]
