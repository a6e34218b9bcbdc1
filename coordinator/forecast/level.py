"""Courses of what has no envelope: wind, and anything with a daily and weekly course of its own.

What is learnt is how a departure from the usual value of the hour fades: persistence blended into
climatology, as the past of the site asks for at each lead. Missing values count as usual.
"""

from collections.abc import Sequence

import numpy as np

from coordinator.forecast import regression
from coordinator.forecast.courses import Members, grown, likeness, mean_until, origins_of
from coordinator.forecast.series import Array, Series, same_hour, trailing_mean

_USUAL_DAYS = 30


def wind_members(series: Series, leads: int) -> Members:
    """Let the departure from the hour's mean fade as it always has: persistence blended into climatology."""
    values, usual, off, scale = _departures(series)
    origins, targets = origins_of(series, leads, series.slots(5))
    expected = usual[targets - (same_hour(np.arange(1, leads + 1), series.per_day) - series.per_day)]
    features = np.column_stack(
        [
            np.ones(len(origins)),
            off[origins],
            *(off[origins] - off[origins - series.slots(h)] for h in (1, 3)),
            *(mean_until(off, origins, series.slots(h)) for h in (6, 24, 72)),
            *(off[origins - series.slots(h)] for h in (23, 20)),
        ]
    )
    weights = np.exp(-(len(values) - 1 - origins[1:]) / (series.per_day * 200.0))
    wanted = (values[targets[1:]] - expected[1:]) / scale
    fitted = regression.common(features, wanted, weights, np.arange(1.0, leads + 1.0))
    level = np.clip(fitted.predicted + expected / scale, 0.0, None)
    marks = [min(series.slots(h), leads) - 1 for h in (3, 12, 24)]
    traits = np.column_stack([values[origins] / scale, level[:, marks], features[:, 3]])
    return Members(
        ages=len(values) - 1 - origins[1:],
        weights=weights * likeness(traits, np.array([2.25, 1, 1, 1, 0.5]), 0.6),
        centre=fitted.predicted[0] * scale + expected[0],
        errors=fitted.residuals * scale,
        low=np.zeros(leads),
        high=np.full(leads, float(values.max())),
    )


def other_members(series: Series, leads: int) -> Members:
    """Learn as for wind, but each hour of issue by itself, and from the same hour a day and a week before."""
    values, usual, off, scale = _departures(series)
    origins, targets = origins_of(series, leads, series.slots(1))
    steps = np.arange(1, leads + 1)
    back = same_hour(steps, series.per_day)
    expected = usual[targets - (back - series.per_day)]
    recent = np.column_stack(
        [
            off[origins],
            off[origins] - off[origins - series.slots(1)],
            *(mean_until(off, origins, series.slots(h)) for h in (6, 24, 72)),
        ]
    )
    lagged = [off[targets - back], off[targets - 7 * series.per_day]]
    features = _by_lead(recent, lagged)
    weights = np.exp(-(len(values) - 1 - origins[1:]) / (series.per_day * 120.0))
    wanted = (values[targets[1:]] - expected[1:]) / scale
    fitted = regression.by_lead(features, wanted, weights, grown(leads))
    level = fitted.predicted + expected / scale
    marks = [min(series.slots(h), leads) - 1 for h in (3, 12, 24)]
    alike = likeness(np.column_stack([recent[:, :2], level[:, marks]]), np.ones(5), 1.0)
    return Members(
        ages=len(values) - 1 - origins[1:],
        weights=weights * alike,
        centre=fitted.predicted[0] * scale + expected[0],
        errors=fitted.residuals * scale,
        low=np.full(leads, 0.0 if values.min() >= 0.0 else -np.inf),
        high=np.full(leads, np.inf),
    )


def _departures(series: Series) -> tuple[Array, Array, Array, float]:
    """Return the values without holes, the usual at each hour, the departures from it, and their unit."""
    usual = trailing_mean(series.values, series.per_day, _USUAL_DAYS)
    values = np.where(np.isnan(series.values), usual[: len(series.values)], series.values)
    scale = max(float(values.std()), 1e-9)
    return values, usual, (values - usual[: len(values)]) / scale, scale


def _by_lead(recent: Array, lagged: Sequence[Array]) -> Array:
    """Return features by lead, (K, 1 + N, p): a constant, the same for all leads, and each lead's own."""
    shape = (lagged[0].shape[1], *recent.shape)
    own = [column.T[:, :, None] for column in lagged]
    return np.concatenate([np.ones((*shape[:2], 1)), np.broadcast_to(recent, shape), *own], axis=2)
