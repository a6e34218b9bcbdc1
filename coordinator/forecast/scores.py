"""How good an ensemble was, once the future is known: proper scores, coverage, and the error of a window.

All by lead time. `paths` (P, K) in the series' unit; `seen` (K,) what came, NaN where it is not known.
"""

import numpy as np

from coordinator.forecast.series import Array

LEVELS = np.arange(1, 10) / 10.0
"""Quantile levels of the pinball loss."""


def crps(paths: Array, seen: Array) -> Array:
    """Return the continuous ranked probability score, (K,); same unit as the series, 0 is perfect.

    ``mean |x - y| - mean |x - x'| / 2`` over the members.
    """
    ordered = np.sort(paths, axis=0)
    count = len(ordered)
    weight = (2.0 * np.arange(1, count + 1) - count - 1.0) / count**2
    score: Array = np.abs(ordered - seen).mean(axis=0) - weight @ ordered
    return score


def pinball(paths: Array, seen: Array) -> Array:
    """Return the pinball loss, (K,), mean over `LEVELS`; same unit as the series, 0 is perfect."""
    miss = seen - np.quantile(paths, LEVELS, axis=0)
    level = LEVELS[:, None]
    loss: Array = np.maximum(level * miss, (level - 1.0) * miss).mean(axis=0)
    return loss


def covered(paths: Array, seen: Array) -> Array:
    """Return 1 where what came lies between p10 and p90, else 0, (K,)."""
    low, high = np.quantile(paths, (0.1, 0.9), axis=0)
    tolerance = 1e-9 * np.maximum(1.0, np.abs(seen))
    return np.asarray((seen >= low - tolerance) & (seen <= high + tolerance), dtype=np.float64)


def lasts(courses: Array, need: float) -> Array:
    """Return for each course (..., K) how many slots from the first on cover the need without a gap."""
    short = courses < need
    held: Array = np.where(short.any(axis=-1), short.argmax(axis=-1), courses.shape[-1]).astype(np.float64)
    return held


def window_error(paths: Array, seen: Array, need: float) -> tuple[float, float]:
    """Return the absolute error of the median window length, and the CRPS of its distribution, in slots.

    Parameters
    ----------
    paths, seen : array
        As above; nothing of `seen` missing. A window that outlasts the K slots counts as K.
    need : float
        What must be covered, in the unit of the series.
    """
    told = lasts(paths, need)
    came = lasts(seen, need)
    return abs(float(np.median(told)) - float(came)), float(crps(told[:, None], np.atleast_1d(came))[0])
