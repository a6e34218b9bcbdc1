"""Loops that keep time together: they rest until the same beats, and an idle processor wakes once for all.

Beats are the whole multiples of a period on the running loop's clock. A loop on them does not drift by the
time that its work takes.
"""

import asyncio

LEAST_REST_FRAC = 0.01
"""A beat nearer than that part of the period has been had: timers may fire a little early."""


def to_beat_s(now_s: float, period_s: float, ahead_s: float = 0.0) -> float:
    """Return the seconds to the next beat, or to `ahead_s` before it; always > 0.

    Parameters
    ----------
    now_s : float
        On the clock that the beats are told on.
    period_s : float
        Between two beats, > 0.
    ahead_s : float
        How long before the beat.
    """
    left_s = period_s - (now_s + ahead_s) % period_s
    return left_s if left_s > LEAST_REST_FRAC * period_s else left_s + period_s


async def rest(period_s: float, *, ahead_s: float = 0.0) -> None:
    """Sleep until the next beat of the running loop's clock; see `to_beat_s`."""
    await asyncio.sleep(to_beat_s(asyncio.get_running_loop().time(), period_s, ahead_s))
