"""Renewable windows: when the surplus of a site covers what is needed there.

A forecast is read as a step function: each slot's quantile holds for the whole slot. What is measured
now replaces all quantiles of the slot that contains now (or of the time before the first slot, when that
begins within one slot's length), so a window is open now only where it is measured to be. Time that no
slot covers, and surplus that nobody measured, never count as surplus.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from coordinator.core.confidence import MEDIAN, QUANTILES
from coordinator.model.forecast import SurplusForecast, Window
from coordinator.model.view import SiteView

Array = NDArray[np.float64]

_UNKNOWN_W = -np.inf  # below any need, so that unknown never passes for surplus
_BLOCK = 4_000_000  # comparisons held in memory at once, one byte each


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurplusCurve:
    """A site's surplus from now on, as steps.

    `edges_s` (K + 1, seconds from now, from 0, rising); `watts` (3, K) by `QUANTILES`. With K = 0 nothing
    is known.
    """

    now: datetime
    edges_s: Array
    watts: Array


def curve(now: datetime, forecast: SurplusForecast | None, measured_w: float | None) -> SurplusCurve:
    """Join what is measured with what is forecast.

    Parameters
    ----------
    now : datetime
        Aware; slots that have ended are dropped.
    forecast : SurplusForecast or None
        None: only this instant is known, so no window has any length.
    measured_w : float or None
        Surplus now in watts; None: not known, and then no window is open now.
    """
    edges = [0.0]
    rows: list[tuple[float, ...]] = []
    for slot in forecast.slots if forecast is not None else ():
        start_s = (slot.start_at - now).total_seconds()
        end_s = (slot.end_at - now).total_seconds()
        if end_s <= edges[-1]:
            continue
        if start_s > edges[-1]:
            soon = not rows and start_s <= end_s - start_s
            edges.append(start_s)
            rows.append(_flat(measured_w if soon else None))
        edges.append(end_s)
        if start_s <= 0.0:
            rows.append(_flat(measured_w))
        else:
            rows.append((slot.p10_w, slot.p50_w, slot.p90_w))
    watts = np.array(rows, dtype=np.float64).reshape(len(rows), len(QUANTILES)).T
    # A forecast whose quantiles cross is mended upwards, so that window ends never decrease.
    return SurplusCurve(now=now, edges_s=np.array(edges), watts=np.maximum.accumulate(watts, axis=0))


def site_curve(now: datetime, site: SiteView) -> SurplusCurve:
    """Return the curve of a site; a measurement of doubtful quality counts as none."""
    return curve(now, site.forecast, site.surplus_w if site.surplus_quality_ok else None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurveStack:
    """The curves of S sites side by side, filled up to one length with steps that are never enough.

    `edges_s` (S, K + 1); `watts` (3, S, K + 1), whose last step is always filling.
    """

    edges_s: Array
    watts: Array


def stack(curves: Sequence[SurplusCurve]) -> CurveStack:
    """Put curves side by side, in their order."""
    longest = max((len(steps.edges_s) for steps in curves), default=1)
    edges = np.zeros((len(curves), longest))
    watts = np.full((len(QUANTILES), len(curves), longest), _UNKNOWN_W)
    for index, steps in enumerate(curves):
        count = len(steps.edges_s)
        edges[index, :count] = steps.edges_s
        edges[index, count:] = steps.edges_s[-1]
        watts[:, index, : count - 1] = steps.watts
    return CurveStack(edges_s=edges, watts=watts)


def ends_s(stacked: CurveStack, need_w: Array) -> Array:
    """Return when the window that is open now ends, for many needs at every site at once.

    Parameters
    ----------
    stacked : CurveStack
        The surplus of S sites.
    need_w : array
        Shape (J, S): watts that the surplus must reach, for each job at each site.

    Returns
    -------
    array
        Shape (3, J, S): seconds from now by `QUANTILES`, >= 0, not decreasing; 0: no window is open. A
        window that outlasts the forecast ends with the forecast.
    """
    ends = np.empty((len(QUANTILES), *need_w.shape))
    sites = np.arange(need_w.shape[1])
    # In blocks of jobs, so that a large fleet needs no more than some megabytes at a time.
    block = max(1, _BLOCK // max(1, stacked.watts.size))
    for start in range(0, need_w.shape[0], block):
        some = need_w[start : start + block]
        first = (stacked.watts[:, None] < some[None, :, :, None]).argmax(axis=3)
        ends[:, start : start + block] = stacked.edges_s[sites, first]
    return ends


def covered_s(steps: SurplusCurve, need_w: float, until_s: Array) -> Array:
    """Return the seconds between now and each of `until_s` in which the median covers the need.

    Windows that open later count too; this is what a job has when it stays.
    """
    lengths = np.diff(steps.edges_s) * (steps.watts[MEDIAN] >= need_w)
    total = np.concatenate(([0.0], np.cumsum(lengths)))
    return np.interp(until_s, steps.edges_s, total)


def window(steps: SurplusCurve, need_w: float, quantile: int = MEDIAN) -> Window | None:
    """Return the window that is open now, else the next one; None when the forecast has none.

    Parameters
    ----------
    steps : SurplusCurve
        The site's surplus.
    need_w : float
        Watts that the surplus must reach throughout.
    quantile : int
        Row of `QUANTILES`; the median by default.
    """
    enough = steps.watts[quantile] >= need_w
    if not enough.any():
        return None
    first = int(enough.argmax())
    short = ~enough[first:]
    last = first + int(short.argmax()) if short.any() else len(enough)
    return Window(
        start_at=steps.now + timedelta(seconds=float(steps.edges_s[first])),
        end_at=steps.now + timedelta(seconds=float(steps.edges_s[last])),
        open_ended=last == len(enough),
    )


def _flat(measured_w: float | None) -> tuple[float, ...]:
    return (_UNKNOWN_W if measured_w is None else measured_w,) * len(QUANTILES)
