"""From a series' own past to what may come: a prediction, and the whole courses of past errors around it.

An error is kept as it happened, from the first lead to the last, so that hours that hang together in the past
hang together in the ensemble. Errors from hours that were like now weigh more (analogues).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.forecast import regression
from coordinator.forecast.series import Array, Kind, Series, same_hour, trailing_max, trailing_mean

Index = NDArray[np.intp]

LEAST_DAYS = 14
"""Days to learn from, beyond the features' own reach, before anything is said."""

_LIT_FRAC = 0.02  # of the day's clear-sky peak; below it is night
_CLEAR_DAYS = 21
_REACH_DAYS = 8  # how far back features look
_CLEAR_MOST = 1.3  # clear-sky index beyond which none was ever believed
_FLOOR_WEIGHT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Members:
    """Courses that the series may take over K slots, in its unit.

    `ages` (N,): slots between each past error's issue and now; `weights` (N,); `centre` (K,);
    `errors` (N, K); `low`, `high` (K,): what no course leaves.
    """

    ages: Index
    weights: Array
    centre: Array
    errors: Array
    low: Array
    high: Array

    def paths(self, rows: Index) -> Array:
        """Return the courses for the chosen errors, (len(rows), K)."""
        return np.clip(self.centre + self.errors[rows], self.low, self.high)


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
    if days < _REACH_DAYS + LEAST_DAYS + -(-leads // cut.per_day):
        return None
    return _LEARNERS[series.kind](cut, leads)


def choose(weights: Array, count: int) -> Index:
    """Return `count` rows, each as often as its weight says (systematic, so nothing is random)."""
    total = np.cumsum(weights)
    rows: Index = np.searchsorted(total, (np.arange(count) + 0.5) / count * total[-1])
    return rows


def joint_paths(parts: Sequence[Members], signs: Sequence[float], count: int) -> Array:
    """Return courses of the signed sum; all parts take their error from the same past hour.

    Parameters
    ----------
    parts : sequence of Members
        Same leads; at least one.
    signs : sequence of float
        1 or -1 by part.
    count : int
        Courses wanted.

    Returns
    -------
    array
        (count, K).
    """
    ages = parts[0].ages
    for part in parts[1:]:
        ages = np.intersect1d(ages, part.ages)
    rows = [_rows(part.ages, ages) for part in parts]
    weights = np.prod([part.weights[row] for part, row in zip(parts, rows, strict=True)], axis=0)
    chosen = choose(weights + _FLOOR_WEIGHT * weights.max(), count)
    total: Array = np.sum(
        [sign * part.paths(row[chosen]) for part, sign, row in zip(parts, signs, rows, strict=True)],
        axis=0,
    )
    return total


def _rows(have: Index, wanted: Index) -> Index:
    order = np.argsort(have, kind="stable")
    rows: Index = order[np.searchsorted(have[order], wanted)]
    return rows


def _sun(series: Series, leads: int) -> Members:
    """Clear-sky index around the envelope of the last weeks, each hour of issue by itself."""
    values, per_day = series.values, series.per_day
    clear = trailing_max(values, per_day, _CLEAR_DAYS)
    lit = clear > _LIT_FRAC * clear[-per_day:].max(initial=0.0)
    origins, targets = _origins(series, leads, 0)
    steps = np.arange(1, leads + 1)
    back = same_hour(steps, per_day)
    # The newest envelope known at the issue: for the second day that of the first.
    ahead = targets - (back - per_day)
    scale, shines = clear[ahead], lit[ahead]
    recent = _indices(series, clear, lit, origins)
    before = targets - back
    with np.errstate(divide="ignore", invalid="ignore"):
        yesterday = np.where(lit[before], values[before] / clear[before], np.nan)
        wanted = np.where(shines[1:], values[targets[1:]] / scale[1:], np.nan)
    yesterday = np.where(np.isnan(yesterday), recent[:, 3:4], yesterday)
    shape = (leads, *recent.shape)
    features = np.concatenate(
        [np.ones((*shape[:2], 1)), np.broadcast_to(recent, shape), yesterday.T[:, :, None]], axis=2
    )
    age_days = (len(values) - 1 - origins[1:]) / per_day
    weights = np.exp(-age_days / 60.0)
    fitted = regression.by_lead(features, wanted, weights, 0.4 * _grown(leads))
    first_day = slice(0, min(leads, per_day))
    energy = (fitted.predicted * scale)[:, first_day].sum(axis=1)
    share = energy / np.maximum(scale[:, first_day].sum(axis=1), 1e-9)
    alike = _alike(np.column_stack([recent[:, :4], share]), np.array([1, 1, 1, 1, 2.0]), 1.5)
    night = np.nan_to_num(values[targets[1:]])
    return Members(
        ages=len(values) - 1 - origins[1:],
        weights=weights * alike,
        centre=np.where(shines[0], fitted.predicted[0] * scale[0], 0.0),
        errors=np.where(shines[0], fitted.residuals * scale[0], night),
        low=np.zeros(leads),
        high=np.where(shines[0], _CLEAR_MOST * scale[0], np.inf),
    )


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


def _wind(series: Series, leads: int) -> Members:
    """Let the departure from the hour's mean fade as it always has: persistence blended into climatology."""
    usual = trailing_mean(series.values, series.per_day, 30)
    values = np.where(np.isnan(series.values), usual[: len(series.values)], series.values)
    scale = max(float(values.std()), 1e-9)
    origins, targets = _origins(series, leads, series.slots(5))
    expected = usual[targets - (same_hour(np.arange(1, leads + 1), series.per_day) - series.per_day)]
    off = (values - usual[: len(values)]) / scale
    features = np.column_stack(
        [
            np.ones(len(origins)),
            off[origins],
            *(off[origins] - off[origins - series.slots(h)] for h in (1, 3)),
            *(_mean_until(off, origins, series.slots(h)) for h in (6, 24, 72)),
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
        weights=weights * _alike(traits, np.array([2.25, 1, 1, 1, 0.5]), 0.6),
        centre=fitted.predicted[0] * scale + expected[0],
        errors=fitted.residuals * scale,
        low=np.zeros(leads),
        high=np.full(leads, float(values.max())),
    )


def _other(series: Series, leads: int) -> Members:
    """As wind, but each hour of issue by itself, and with the same hour a day and a week before."""
    usual = trailing_mean(series.values, series.per_day, 30)
    values = np.where(np.isnan(series.values), usual[: len(series.values)], series.values)
    scale = max(float(values.std()), 1e-9)
    origins, targets = _origins(series, leads, series.slots(1))
    steps = np.arange(1, leads + 1)
    back = same_hour(steps, series.per_day)
    expected = usual[targets - (back - series.per_day)]
    off = (values - usual[: len(values)]) / scale
    recent = np.column_stack(
        [
            off[origins],
            off[origins] - off[origins - series.slots(1)],
            *(_mean_until(off, origins, series.slots(h)) for h in (6, 24, 72)),
        ]
    )
    shape = (leads, *recent.shape)
    features = np.concatenate(
        [
            np.ones((*shape[:2], 1)),
            np.broadcast_to(recent, shape),
            off[targets - back].T[:, :, None],
            off[targets - 7 * series.per_day].T[:, :, None],
        ],
        axis=2,
    )
    weights = np.exp(-(len(values) - 1 - origins[1:]) / (series.per_day * 120.0))
    wanted = (values[targets[1:]] - expected[1:]) / scale
    fitted = regression.by_lead(features, wanted, weights, _grown(leads))
    level = fitted.predicted + expected / scale
    marks = [min(series.slots(h), leads) - 1 for h in (3, 12, 24)]
    alike = _alike(np.column_stack([recent[:, :2], level[:, marks]]), np.ones(5), 1.0)
    bounds = (0.0 if values.min() >= 0.0 else -np.inf, np.inf)
    return Members(
        ages=len(values) - 1 - origins[1:],
        weights=weights * alike,
        centre=fitted.predicted[0] * scale + expected[0],
        errors=fitted.residuals * scale,
        low=np.full(leads, bounds[0]),
        high=np.full(leads, bounds[1]),
    )


def _origins(series: Series, leads: int, around: int) -> tuple[Index, Index]:
    """Return the slots to learn from, now first, and their targets (1 + N, K).

    The past ones lie at the hour of now, give or take `around` slots, newest first, each with its whole
    future known. The targets of now are not known; nothing reads them.
    """
    count, per_day = len(series.values), series.per_day
    days = np.arange(1, count // per_day)
    origins = (count - 1 - per_day * days[:, None] + np.arange(-around, around + 1)).ravel()
    origins = origins[(origins + leads < count) & (origins >= _REACH_DAYS * per_day)]
    origins = np.concatenate(([count - 1], origins))
    return origins, origins[:, None] + np.arange(1, leads + 1)


def _alike(traits: Array, weight: Array, width: float) -> Array:
    """Return how like now (the first row) each past row is, 0 to 1."""
    spread = traits[1:].std(axis=0) + 0.02
    distance = (((traits[1:] - traits[0]) / spread) ** 2 * weight).mean(axis=1)
    near: Array = np.exp(-distance / (2.0 * width**2))
    return near


def _grown(leads: int) -> Array:
    """Return a penalty that grows with the lead, since less of what is far can be learnt."""
    penalty: Array = np.power(np.arange(1.0, leads + 1.0), 0.7)
    return penalty


def _mean_until(values: Array, origins: Index, slots: int) -> Array:
    total = np.concatenate(([0.0], np.cumsum(values)))
    mean: Array = (total[origins + 1] - total[origins + 1 - slots]) / slots
    return mean


_DAYS = {Kind.SUN: 180, Kind.WIND: 230, Kind.OTHER: 180}
_LEARNERS: dict[Kind, Callable[[Series, int], Members]] = {
    Kind.SUN: _sun,
    Kind.WIND: _wind,
    Kind.OTHER: _other,
}
