"""Ensembles blended: each lead's quantiles of one drawn towards those of another."""

import numpy as np

from coordinator.forecast.series import Array

_HELD_HOURS = 12.0
"""By then what is measured now has faded to 1/e; a past that could tell how fast is one to learn from."""


def leant(paths: Array, other: Array, share: Array | float) -> Array:
    """Draw an ensemble towards another; every course keeps its rank, so hours stay linked.

    Parameters
    ----------
    paths, other : array
        (P, K).
    share : array or float
        How far, 0 to 1; by lead (K,), or for all.
    """
    ranks = paths.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    drawn: Array = (1.0 - share) * paths + share * np.take_along_axis(np.sort(other, axis=0), ranks, axis=0)
    return drawn


def fading(held: Array, climate: Array, per_day: int) -> Array:
    """Return what holds now for the first slot, passing into climatology as the lead grows, (P, K)."""
    hours = np.arange(held.shape[1]) * 24.0 / per_day
    return leant(held, climate, 1.0 - np.exp(-hours / _HELD_HOURS))


def widened(paths: Array, days: float) -> Array:
    """Return an ensemble of the errors of so few days, > 2, as wide as errors are.

    The extremes of few seldom hold what comes: of n errors p10 to p90 are to hold 80 %, and a factor of
    n / (n - 1) is near what Student's t asks for.
    """
    middle = np.median(paths, axis=0)
    wide: Array = middle + (paths - middle) * (days - 1.0) / (days - 2.0)
    return wide
