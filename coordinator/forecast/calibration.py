"""Stated and real coverage made to agree, online: adaptive conformal stretching of an ensemble.

Each lead time has two factors, for what lies below the median and above it. Whenever a measured value falls
outside what was stated for it, the factor of that side grows, otherwise it shrinks a little; in the long run
a tenth falls outside on each side, whatever the errors' distribution is and however it changes.
"""

from dataclasses import dataclass

import numpy as np

from coordinator.forecast.series import Array

TAIL = 0.10
"""Share that is meant to fall outside on each side: p10 and p90."""

_LEAST, _MOST = 0.3, 4.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """State of the recalibration for K leads.

    `factors` (2, K): stretch below and above the median; `stated` (K, 2, K): p10 and p90 by lead as issued
    1, 2, … K slots ago, NaN where nothing was.
    """

    factors: Array
    stated: Array


def fresh(leads: int) -> Calibration:
    """Return a calibration that has seen nothing: it changes nothing."""
    return Calibration(factors=np.ones((2, leads)), stated=np.full((leads, 2, leads), np.nan))


def stretched(state: Calibration, paths: Array) -> Array:
    """Return the ensemble (P, K) with each lead drawn apart or together around its median."""
    middle = np.median(paths, axis=0)
    away = paths - middle
    result: Array = middle + np.where(away < 0.0, state.factors[0], state.factors[1]) * away
    return result


def learn(state: Calibration, value: float | None, rate: float) -> Calibration:
    """Hold what was stated for a slot against what was measured in it.

    Parameters
    ----------
    state : Calibration
        Before the slot's value was known.
    value : float or None
        Mean over the slot; None: not measured, nothing is learnt.
    rate : float
        Step of the logarithm of a factor at the first lead, > 0; it falls with the root of the lead, since
        the misses of long leads come in rows.
    """
    if value is None:
        return state
    leads = np.arange(state.factors.shape[1])
    low, high = state.stated[leads, :, leads].T
    scale = 1e-9 * max(1.0, abs(value))
    said = high - low > scale  # NaN compares false; a night without doubt teaches nothing
    missed = np.array([value < low - scale, value > high + scale])
    step = rate / np.sqrt(leads + 1.0) * (missed - TAIL)
    factors = np.clip(state.factors * np.exp(np.where(said, step, 0.0)), _LEAST, _MOST)
    return Calibration(factors=factors, stated=state.stated)


def issued(state: Calibration, bounds: Array | None) -> Calibration:
    """Note what is stated now, (2, K); None: nothing was."""
    leads = state.factors.shape[1]
    newest = np.full((1, 2, leads), np.nan) if bounds is None else bounds[None]
    return Calibration(factors=state.factors, stated=np.concatenate([newest, state.stated[:-1]]))
