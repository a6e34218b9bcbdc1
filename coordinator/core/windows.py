"""Renewable windows: when the surplus of a site covers what is needed there.

A forecast is read as a step function: each slot's quantile holds for the whole slot. What is measured
now replaces all quantiles of the slot that contains now (or of the time before the first slot, when that
begins within one slot's length), so a window is open now only where it is measured to be. Time that no
slot covers, and surplus that nobody measured, never count as surplus.

How long an open window lasts is asked of whole paths where the forecast has them: the window ends where a
path first falls below the need. A share 1 - q of the paths lasts to the end of a step exactly where the
q-quantile of the paths' lowest surplus so far covers the need, so three curves of the lowest so far
(`floors_w`) hold the distribution of the end for every need at once. Where a forecast has no paths, a poor
slot is taken to be poor throughout: the lowest so far is that of the stated quantile itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from coordinator.core.confidence import MEDIAN, QUANTILES
from coordinator.model.forecast import ForecastSlot, Paths, SurplusForecast, Window
from coordinator.model.view import SiteView

Array = NDArray[np.float64]

Rows = list[tuple[float, ...]]

_UNKNOWN_W = -np.inf  # below any need, so that unknown never passes for surplus
_BLOCK = 4_000_000  # comparisons held in memory at once, one byte each


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurplusCurve:
    """A site's surplus from now on, as steps.

    `edges_s` (K + 1, seconds from now, from 0, rising); `watts` (3, K) by `QUANTILES`, each step for itself;
    `floors_w` (3, K) likewise, the lowest from now to the end of the step. With K = 0 nothing is known.
    """

    now: datetime
    edges_s: Array
    watts: Array
    floors_w: Array


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
    edges, rows, columns = _steps(now, forecast.slots if forecast is not None else (), measured_w)
    watts = np.array(rows, dtype=np.float64).reshape(len(rows), len(QUANTILES)).T
    # A forecast whose quantiles cross is mended upwards, so that window ends never decrease.
    watts = np.maximum.accumulate(watts, axis=0)
    paths = forecast.paths_w if forecast is not None else None
    floors = np.minimum.accumulate(watts, axis=1) if paths is None else _floors(paths, columns, watts[0])
    return SurplusCurve(now=now, edges_s=np.array(edges), watts=watts, floors_w=floors)


def _steps(
    now: datetime, slots: Sequence[ForecastSlot], measured_w: float | None
) -> tuple[list[float], Rows, list[int]]:
    """Return edges from now, quantiles of each step, its column of the paths; -1: measured, or nothing."""
    first = next((n for n, slot in enumerate(slots) if slot.end_at > now), len(slots))
    coming = slots[first:]
    ends = [slot.end_at for slot in coming]
    if coming and coming[0].start_at <= now and [slot.start_at for slot in coming[1:]] == ends[:-1]:
        # Without a gap, as all our own sources state it: many slots at once.
        rows: Rows = [(slot.p10_w, slot.p50_w, slot.p90_w) for slot in coming]
        rows[0] = _flat(measured_w)
        edges = [0.0, *[(end_at - now).total_seconds() for end_at in ends]]
        if edges == sorted(set(edges)):
            return edges, rows, [-1, *range(first + 1, len(slots))]
    return _steps_one_by_one(now, slots, measured_w)


def _steps_one_by_one(
    now: datetime, slots: Sequence[ForecastSlot], measured_w: float | None
) -> tuple[list[float], Rows, list[int]]:
    edges = [0.0]
    rows: Rows = []
    columns: list[int] = []
    for column, slot in enumerate(slots):
        start_s = (slot.start_at - now).total_seconds()
        end_s = (slot.end_at - now).total_seconds()
        if end_s <= edges[-1]:
            continue
        if start_s > edges[-1]:
            soon = not rows and start_s <= end_s - start_s
            edges.append(start_s)
            rows.append(_flat(measured_w if soon else None))
            columns.append(-1)
        edges.append(end_s)
        future = start_s > 0.0
        rows.append((slot.p10_w, slot.p50_w, slot.p90_w) if future else _flat(measured_w))
        columns.append(column if future else -1)
    return edges, rows, columns


def _floors(paths: Paths, columns: list[int], known: Array) -> Array:
    """Return the quantiles of the paths' lowest so far; `known` holds the watts of steps with no column."""
    taken = np.array(columns, dtype=np.intp)
    lowest = np.where(taken < 0, known, paths[:, taken])
    np.minimum.accumulate(lowest, axis=1, out=lowest)
    # Of P paths at most floor(q * P) may have failed; the tolerance mends q * P a hair below a whole number.
    ranks = [min(len(paths) - 1, int(q * len(paths) + 1e-9)) for q in QUANTILES]
    lowest.partition(ranks, axis=0)
    return lowest[ranks]


def site_curve(now: datetime, site: SiteView) -> SurplusCurve:
    """Return the curve of a site; a measurement of doubtful quality counts as none."""
    return curve(now, site.forecast, site.known_surplus_w)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurveStack:
    """The curves of S sites side by side, filled up to one length with steps that are never enough.

    `edges_s` (S, K + 1); `floors_w` (3, S, K + 1), whose last step is always filling.
    """

    edges_s: Array
    floors_w: Array


def stack(curves: Sequence[SurplusCurve]) -> CurveStack:
    """Put curves side by side, in their order."""
    longest = max((len(steps.edges_s) for steps in curves), default=1)
    edges = np.zeros((len(curves), longest))
    floors = np.full((len(QUANTILES), len(curves), longest), _UNKNOWN_W)
    for index, steps in enumerate(curves):
        count = len(steps.edges_s)
        edges[index, :count] = steps.edges_s
        edges[index, count:] = steps.edges_s[-1]
        floors[:, index, : count - 1] = steps.floors_w
    return CurveStack(edges_s=edges, floors_w=floors)


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
    block = max(1, _BLOCK // max(1, stacked.floors_w.size))
    for start in range(0, need_w.shape[0], block):
        some = need_w[start : start + block]
        first = (stacked.floors_w[:, None] < some[None, :, :, None]).argmax(axis=3)
        ends[:, start : start + block] = stacked.edges_s[sites, first]
    return ends


def ends_at_s(stacked: CurveStack, columns: Sequence[int], need_w: Array) -> Array:
    """Return `ends_s` for one need each at n of the stacked sites, shape (3, n)."""
    sites = np.array(columns, dtype=np.intp)
    first = (stacked.floors_w[:, sites] < need_w[:, None]).argmax(axis=2)
    ends: Array = stacked.edges_s[sites, first]
    return ends


def most_w(
    stacked: CurveStack, columns: NDArray[np.intp], quantile: int, wanted_s: Array, least_w: float
) -> Array:
    """Return the draw up to which windows outlast `wanted_s`, seconds from now, shape (J, D), at D sites.

    Exact where it is `least_w` or more.
    """
    floors, edges = stacked.floors_w[quantile, columns], stacked.edges_s[columns]
    most = np.tile(floors[:, 0], (len(wanted_s), 1))
    for step in range(1, edges.shape[1]):
        later = wanted_s >= edges[:, step]
        if not (later & (most >= least_w)).any():
            break
        np.copyto(most, floors[:, step], where=later)
    return most


def covered_s(steps: SurplusCurve, need_w: float, until_s: Array) -> Array:
    """Return the seconds between now and each of `until_s` in which the median covers the need.

    Windows that open later count too; this is what a job has when it stays.
    """
    edges_s = steps.edges_s
    total = np.zeros(len(edges_s))
    ((edges_s[1:] - edges_s[:-1]) * (steps.watts[MEDIAN] >= need_w)).cumsum(out=total[1:])
    return np.interp(until_s, edges_s, total)


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
    if first == 0:
        enough = steps.floors_w[quantile] >= need_w  # open now: as long as the paths say
    short = ~enough[first:]
    last = first + int(short.argmax()) if short.any() else len(enough)
    return Window(
        start_at=steps.now + timedelta(seconds=float(steps.edges_s[first])),
        end_at=steps.now + timedelta(seconds=float(steps.edges_s[last])),
        open_ended=last == len(enough),
    )


def _flat(measured_w: float | None) -> tuple[float, ...]:
    return (_UNKNOWN_W if measured_w is None else measured_w,) * len(QUANTILES)
