"""Which way of learning suits which kind of series, and how much past it takes."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from coordinator.forecast.courses import REACH_DAYS, Members
from coordinator.forecast.kinds import Kind
from coordinator.forecast.level import other_members, wind_members
from coordinator.forecast.series import Series
from coordinator.forecast.sun import sun_members

LEAST_DAYS = 2
"""Days to learn from, beyond those looked ahead, before anything is said."""

GROWN_DAYS = 45
"""With less the past is young: what is learnt from it is little, and features reach beyond its beginning."""

_DAYS = {Kind.SUN: 180, Kind.WIND: 230, Kind.OTHER: 180}
_LEARNERS: dict[Kind, Callable[[Series, int], Members]] = {
    Kind.SUN: sun_members,
    Kind.WIND: wind_members,
    Kind.OTHER: other_members,
}


def members(series: Series, leads: int) -> Members | None:
    """Learn from the series' past; None when it is too short.

    Parameters
    ----------
    series : Series
        The past; the first lead is the slot after its last.
    leads : int
        Slots to look ahead.
    """
    cut = series.days(_DAYS[series.kind])
    days = len(cut.values) // cut.per_day
    if days < LEAST_DAYS + -(-leads // cut.per_day):
        return None
    if days < GROWN_DAYS:
        cut = _repeated(cut, days)
    return _LEARNERS[series.kind](cut, leads)


def _repeated(series: Series, days: int) -> Series:
    """Return whole days with those before them that features reach for: the same days, over again.

    So every day that is known can be learnt from, and none of those before it is.
    """
    known = series.values.reshape(days, series.per_day)
    before = known[np.arange(-REACH_DAYS, 0) % days]
    return replace(series, values=np.concatenate([before, known]).ravel())
