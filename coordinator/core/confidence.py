"""From three stated quantiles to "how sure": the forecast form of the time test (DESIGN 4).

A forecast states the surplus at probabilities 0.10, 0.50 and 0.90. Taken as whole paths (a poor day is
poor throughout), each gives a window end. In between the quantiles are interpolated; outside them nothing
is known, so: below the lowest no window is promised at all, above the highest no more than the highest.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

QUANTILES = (0.10, 0.50, 0.90)
"""What a `ForecastSlot` states, in the order of the rows here."""
MEDIAN = 1
"""Row of the median."""


def between(epsilon: float) -> tuple[int, int, float] | None:
    """Return the rows of `QUANTILES` that an accepted risk lies between, and how far from the first.

    None: it lies below the lowest stated quantile. At and above the highest both rows are that one's.
    """
    if epsilon < QUANTILES[0]:
        return None
    if epsilon >= QUANTILES[-1]:
        return len(QUANTILES) - 1, len(QUANTILES) - 1, 0.0
    upper = next(i for i, q in enumerate(QUANTILES) if epsilon < q)
    low, high = QUANTILES[upper - 1], QUANTILES[upper]
    return upper - 1, upper, (epsilon - low) / (high - low)


def end_at_risk(ends_s: Array, epsilon: float) -> Array:
    """Return the window end that holds with probability 1 - epsilon at least.

    ``T_mig < alpha * window_s`` with the window up to this end is the same test as
    ``Pr[T_mig < alpha * window_s] >= 1 - epsilon``.

    Parameters
    ----------
    ends_s : array
        Shape (3, ...): seconds from now to the window end, by `QUANTILES`, not decreasing, >= 0.
    epsilon : float
        Accepted probability of the window being shorter, 0 to 1.

    Returns
    -------
    array
        Shape (...); 0 for every pair when epsilon lies below the lowest stated quantile.
    """
    rows = between(epsilon)
    if rows is None:
        return np.zeros_like(ends_s[0])
    low, high, share = rows
    end_s: Array = ends_s[low] + share * (ends_s[high] - ends_s[low])
    return end_s


def chance_beyond(ends_s: tuple[float, float, float], needed_s: float) -> float:
    """Return how probable it is, at least, that the window lasts longer than `needed_s` from now.

    Parameters
    ----------
    ends_s : tuple of float
        Seconds from now to the window end, by `QUANTILES`, not decreasing.
    needed_s : float
        Seconds from now that the window must outlast: T_mig * (1 + 1 / alpha).

    Returns
    -------
    float
        0.90 at most, since no lower quantile is stated; 0 when even the highest does not suffice.
    """
    if needed_s < ends_s[0]:
        return 1.0 - QUANTILES[0]
    for upper in range(1, len(QUANTILES)):
        low_s, high_s = ends_s[upper - 1], ends_s[upper]
        if needed_s < high_s:
            share = (needed_s - low_s) / (high_s - low_s)
            return 1.0 - (QUANTILES[upper - 1] + share * (QUANTILES[upper] - QUANTILES[upper - 1]))
    return 0.0
