"""Which way of learning suits which kind of series, and how much past it takes."""

from collections.abc import Callable

from coordinator.forecast.courses import REACH_DAYS, Members
from coordinator.forecast.kinds import Kind
from coordinator.forecast.level import other_members, wind_members
from coordinator.forecast.series import Series
from coordinator.forecast.sun import sun_members

LEAST_DAYS = 14
"""Days to learn from, beyond the features' own reach, before anything is said."""

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
    if days < REACH_DAYS + LEAST_DAYS + -(-leads // cut.per_day):
        return None
    return _LEARNERS[series.kind](cut, leads)
