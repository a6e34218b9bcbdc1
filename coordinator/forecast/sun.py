"""Courses of solar generation: the clear-sky index under an envelope that the site's own history draws.

The envelope is the most that the last weeks saw at each hour; no position and no physics are needed, and a
fence that shades the morning is in it.
"""

import numpy as np
from numpy.typing import NDArray

from coordinator.forecast import regression
from coordinator.forecast.courses import Index, Members, grown, likeness, origins_of
from coordinator.forecast.series import Array, Series, same_hour, trailing_max

_LIT_FRAC = 0.02  # of the day's clear-sky peak; below it is night
_CLEAR_DAYS = 21
_MEMORY_DAYS = 60.0  # the seasons change what a cloud means
_CLEAR_MOST = 1.3  # clear-sky index beyond which none was ever believed


def sun_members(series: Series, leads: int) -> Members:
    """Learn the clear-sky index around the envelope of the last weeks, each hour of issue by itself."""
    values, per_day = series.values, series.per_day
    clear = trailing_max(values, per_day, _CLEAR_DAYS)
    lit = clear > _LIT_FRAC * clear[-per_day:].max(initial=0.0)
    origins, targets = origins_of(series, leads, 0)
    steps = np.arange(1, leads + 1)
    back = same_hour(steps, per_day)
    # The newest envelope known at the issue: for the second day that of the first.
    ahead = targets - (back - per_day)
    scale, shines = clear[ahead], lit[ahead]
    recent = _indices(series, clear, lit, origins)
    features = _features(values, clear, lit, recent, targets - back)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.where(shines[1:], values[targets[1:]] / scale[1:], np.nan)
    age_days = (len(values) - 1 - origins[1:]) / per_day
    weights = np.exp(-age_days / _MEMORY_DAYS)
    fitted = regression.by_lead(features, wanted, weights, 0.4 * grown(leads))
    traits = np.column_stack([recent[:, :4], _share(fitted.predicted, scale, min(leads, per_day))])
    alike = likeness(traits, np.array([1, 1, 1, 1, 2.0]), 1.5)
    night = np.nan_to_num(values[targets[1:]])
    return Members(
        ages=len(values) - 1 - origins[1:],
        weights=weights * alike,
        centre=np.where(shines[0], fitted.predicted[0] * scale[0], 0.0),
        errors=np.where(shines[0], fitted.residuals * scale[0], night),
        low=np.zeros(leads),
        high=np.where(shines[0], _CLEAR_MOST * scale[0], np.inf),
    )


def _features(values: Array, clear: Array, lit: NDArray[np.bool_], recent: Array, before: Index) -> Array:
    """Return what each lead is regressed on, (K, 1 + N, p): the recent indices, and the same hour's last."""
    with np.errstate(divide="ignore", invalid="ignore"):
        last = np.where(lit[before], values[before] / clear[before], np.nan)
    last = np.where(np.isnan(last), recent[:, 3:4], last)
    shape = (before.shape[1], *recent.shape)
    return np.concatenate(
        [np.ones((*shape[:2], 1)), np.broadcast_to(recent, shape), last.T[:, :, None]], axis=2
    )


def _share(predicted: Array, scale: Array, slots: int) -> Array:
    """Return how much of the clear sky's energy the first slots are predicted to bring."""
    could = scale[:, :slots]
    share: Array = (predicted[:, :slots] * could).sum(axis=1) / np.maximum(could.sum(axis=1), 1e-9)
    return share


def _indices(series: Series, clear: Array, lit: NDArray[np.bool_], origins: Index) -> Array:
    """Return clear-sky indices up to each origin: of the last 1, 2, 6, 24, 72 and 168 h.

    A short stretch with little light leans on the next longer one, so that night needs no case of its own.
    """
    count = len(series.values)
    usable = lit[:count] & ~np.isnan(series.values)
    seen = np.concatenate(([0.0], np.cumsum(np.where(usable, series.values, 0.0))))
    could = np.concatenate(([0.0], np.cumsum(np.where(usable, clear[:count], 0.0))))
    peak = max(float(clear[-series.per_day :].max()), 1e-9)
    index = np.full(len(origins), 0.7)
    columns = []
    for hours, lean in ((168, 0.5), (72, 0.5), (24, 0.3), (6, 0.2), (2, 0.1), (1, 0.05)):
        start = origins + 1 - series.slots(hours)
        lean_on = lean * peak * series.slots(1)
        index = (seen[origins + 1] - seen[start] + lean_on * index) / (
            could[origins + 1] - could[start] + lean_on
        )
        columns.append(index)
    return np.column_stack(columns[::-1])
