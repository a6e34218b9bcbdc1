"""Courses that a series may take: a prediction, and whole past errors around it. Knows no kind of series.

An error is kept as it happened, from the first lead to the last, so that hours that hang together in the past
hang together in the ensemble. Errors from hours that were like now weigh more (analogues).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.forecast.series import Array, Series

Index = NDArray[np.intp]

REACH_DAYS = 8
"""How far back from an origin any feature looks."""

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


def origins_of(series: Series, leads: int, around: int) -> tuple[Index, Index]:
    """Return the slots to learn from, now first, and their targets (1 + N, K).

    The past ones lie at the hour of now, give or take `around` slots, newest first, each with its whole
    future known. The targets of now are not known; nothing reads them.
    """
    count, per_day = len(series.values), series.per_day
    days = np.arange(1, count // per_day)
    origins = (count - 1 - per_day * days[:, None] + np.arange(-around, around + 1)).ravel()
    origins = origins[(origins + leads < count) & (origins >= REACH_DAYS * per_day)]
    origins = np.concatenate(([count - 1], origins))
    return origins, origins[:, None] + np.arange(1, leads + 1)


def likeness(traits: Array, weight: Array, width: float) -> Array:
    """Return how like now (the first row) each past row is, 0 to 1."""
    spread = traits[1:].std(axis=0) + 0.02
    distance = (((traits[1:] - traits[0]) / spread) ** 2 * weight).mean(axis=1)
    near: Array = np.exp(-distance / (2.0 * width**2))
    return near


def grown(leads: int) -> Array:
    """Return a penalty that grows with the lead, since less of what is far can be learnt."""
    penalty: Array = np.power(np.arange(1.0, leads + 1.0), 0.7)
    return penalty


def mean_until(values: Array, origins: Index, slots: int) -> Array:
    """Return the mean of the last `slots` values up to and with each origin."""
    total = np.concatenate(([0.0], np.cumsum(values)))
    mean: Array = (total[origins + 1] - total[origins + 1 - slots]) / slots
    return mean
