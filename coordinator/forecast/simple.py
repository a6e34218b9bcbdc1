"""The plain forecasts that every other is held against, as ensembles made from a series' own past."""

import numpy as np
from numpy.typing import NDArray

from coordinator.forecast.series import Array, Series, same_hour

_DAYS = 120


def persistence(series: Series, leads: int, count: int) -> Array | None:
    """Return the last value held, with the errors that holding made at this hour of the past 120 days.

    Parameters
    ----------
    series : Series
        The past.
    leads : int
        Slots ahead.
    count : int
        Courses wanted.

    Returns
    -------
    array or None
        (count, leads); None when the past is too short or its last slot is missing.
    """
    values, per_day = series.values, series.per_day
    first = -(-leads // per_day)
    days = np.arange(first, min(_DAYS, (len(values) - 1) // per_day) + 1)
    if not len(days) or np.isnan(values[-1]):
        return None
    origins = len(values) - 1 - per_day * days
    errors = values[origins[:, None] + np.arange(1, leads + 1)] - values[origins][:, None]
    return _bounded(series, values[-1] + np.nan_to_num(errors[_spread(len(days), count)]))


def day_before(series: Series, leads: int, count: int) -> Array | None:
    """Return yesterday's course, with the errors that this made over the past 120 days; None as above."""
    values, per_day = series.values, series.per_day
    steps = np.arange(1, leads + 1)
    back = same_hour(steps, per_day)
    first = -(-leads // per_day)
    days = np.arange(first, min(_DAYS, (len(values) - 1) // per_day - first) + 1)
    if not len(days):
        return None
    targets = (len(values) - 1 - per_day * days)[:, None] + steps
    errors = values[targets] - values[targets - back]
    course = np.nan_to_num(values[len(values) - 1 + steps - back])
    return _bounded(series, course + np.nan_to_num(errors[_spread(len(days), count)]))


def climatology(series: Series, leads: int, count: int, days: int = 30) -> Array | None:
    """Return the courses of the past days at the same hours, as they were.

    Parameters
    ----------
    series : Series
        The past.
    leads : int
        Slots ahead.
    count : int
        Courses wanted; days repeat when there are fewer.
    days : int
        How far back.

    Returns
    -------
    array or None
        (count, leads); None when less than three days are known.
    """
    values, per_day = series.values, series.per_day
    steps = np.arange(1, leads + 1)
    newest = len(values) - 1 + steps - same_hour(steps, per_day)
    known = min(days, (int(newest[0]) // per_day) + 1, (int(newest.min()) // per_day) + 1)
    if known < 3:
        return None
    courses = values[newest - per_day * np.arange(known)[:, None]]
    there = ~np.isnan(courses)
    usual = np.where(there, courses, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    paths: Array = np.where(there, courses, usual)[_spread(known, count)]
    return paths


def _spread(have: int, count: int) -> NDArray[np.intp]:
    """Return `count` rows spread evenly over `have`."""
    return ((np.arange(count) + 0.5) / count * have).astype(np.intp)


def _bounded(series: Series, paths: Array) -> Array:
    return np.maximum(paths, 0.0) if np.nanmin(series.values) >= 0.0 else paths
