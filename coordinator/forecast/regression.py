"""Ridge regression of what came next on what was known, for all lead times at once.

Learning is lazy: the rows are the past itself, the newest row is the one to predict, nothing is stored. The
residuals are those that each row would have had without itself (leave one out), so that their spread is that
of a forecast and not of a fit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST_FREEDOM = 0.3  # a row that holds its own prediction alone says little of the error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regressed:
    """`predicted` (1 + N, K), the first row for now; `residuals` (N, K), 0 where the target is missing."""

    predicted: Array
    residuals: Array


def common(features: Array, targets: Array, weights: Array, ridge: Array) -> Regressed:
    """Regress every lead on the same features.

    Parameters
    ----------
    features : array
        (1 + N, p), the first row for now, the first column constant.
    targets : array
        (N, K), none missing.
    weights : array
        (N,), > 0.
    ridge : array
        (K,), penalty by lead, > 0.
    """
    past = features[1:]
    weighted = past * weights[:, None]
    values, vectors = np.linalg.eigh(weighted.T @ past)
    values = np.maximum(values, 0.0)
    slopes = vectors @ ((vectors.T @ (weighted.T @ targets)) / (values[:, None] + ridge))
    predicted = features @ slopes
    own = ((past @ (vectors / (values + ridge[0]))) @ vectors.T * past).sum(axis=1) * weights
    freedom = np.maximum(1.0 - own, _LEAST_FREEDOM)
    return Regressed(predicted=predicted, residuals=(targets - predicted[1:]) / freedom[:, None])


def by_lead(features: Array, targets: Array, weights: Array, ridge: Array) -> Regressed:
    """Regress each lead on features of its own.

    Parameters
    ----------
    features : array
        (K, 1 + N, p), the first row for now, the first column constant (it is not penalised).
    targets : array
        (N, K), NaN where missing.
    weights : array
        (N,), > 0.
    ridge : array
        (K,), penalty by lead, > 0.
    """
    past = features[:, 1:]
    known = ~np.isnan(targets.T)
    wanted = np.where(known, targets.T, 0.0)
    weight = weights * known
    weighted = past * weight[:, :, None]
    penalty = np.ones(features.shape[2])
    penalty[0] = 1e-6
    gram = weighted.transpose(0, 2, 1) @ past + ridge[:, None, None] * np.diag(penalty)
    inverse = np.linalg.inv(gram)
    slopes = inverse @ (weighted.transpose(0, 2, 1) @ wanted[:, :, None])
    predicted = (features @ slopes)[:, :, 0]
    own = ((past @ inverse) * past).sum(axis=2) * weight
    residuals = np.where(known, (wanted - predicted[:, 1:]) / np.maximum(1.0 - own, _LEAST_FREEDOM), 0.0)
    return Regressed(predicted=predicted.T, residuals=residuals.T)
