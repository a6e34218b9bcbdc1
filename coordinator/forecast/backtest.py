"""Every source over the same past, hour by hour: what it said before, held against what came after.

The first part of a trace is there to learn from; only what is issued after it is scored. At each step a
source sees the past and nothing else, as in production; ours runs through the `Learner` of production.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.forecast import scores, simple
from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import SOURCE, Learner, Part
from coordinator.forecast.series import Array, Series, same_hour
from sterna.errors import PermanentError

_PLAIN = {
    "persistence": simple.persistence,
    "day-before": simple.day_before,
    "climatology": simple.climatology,
}
_LIT_FRAC = 0.02
_LIT_DAYS = 14
NEED_FRAC = 0.3
"""A window is open while the series covers this share of the most that its training part saw."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Score:
    """One source on one trace, sums by lead (K,) over `count` scored slots.

    Night is not scored for sun: a slot counts where the last fortnight saw light at its hour.
    """

    source: str
    count: Array
    crps: Array
    pinball: Array
    covered: Array
    window_error_slots: float
    """Sum over `windows`."""
    window_crps_slots: float
    windows: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceScore:
    """All sources on one trace; `mean` of the scored values is what shares are taken of."""

    name: str
    kind: Kind
    slot_s: float
    mean: float
    by_source: Mapping[str, Score]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a trace is scored. `train_frac`: share to learn from; `every`: score each so many slots' issue."""

    leads: int = 48
    paths: int = 100
    train_frac: float = 0.6
    every: int = 1
    rehearse_days: float = 30.0


def run(name: str, series: Series, plan: Plan, start: int | None = None) -> TraceScore:
    """Score every source on one trace.

    Parameters
    ----------
    name, series, plan
        The trace and how it is scored.
    start : int or None
        The first slot that is scored; None: as the plan's `train_frac` says, a month at least.

    Raises
    ------
    PermanentError
        The trace is too short to learn from and to be scored.
    """
    total = len(series.values)
    least_days = 30 if start is None else 7
    start = round(total * plan.train_frac) if start is None else start
    if start < least_days * series.per_day or total - start < plan.leads + series.per_day:
        raise PermanentError(f"{name}: {total} slots are too few to learn from and to score")
    need = NEED_FRAC * float(np.nanmax(series.values[:start]))
    sums = {source: _Sums(plan.leads) for source in (*_PLAIN, SOURCE)}
    steps = np.arange(1, plan.leads + 1)
    for last, ours in _ours(series, start, total - plan.leads, plan):
        if (last - start) % plan.every:
            continue
        seen = series.values[last + steps]
        past = Series(
            kind=series.kind, slot_s=series.slot_s, end_at=series.end_at, values=series.values[: last + 1]
        )
        told = {source: say(past, plan.leads, plan.paths) for source, say in _PLAIN.items()}
        told[SOURCE] = ours
        ready = {source: paths for source, paths in told.items() if paths is not None}
        if len(ready) < len(told):
            continue  # what one cannot say is held against none
        counted = ~np.isnan(seen) & _lit(past, steps)
        opened = series.values[last] >= need and not np.isnan(seen).any()
        for source, paths in ready.items():
            sums[source].add(paths, seen, counted, need if opened else None)
    return TraceScore(
        name=name,
        kind=series.kind,
        slot_s=series.slot_s,
        mean=float(np.nanmean(series.values[start:])),
        by_source={source: one.score(source) for source, one in sums.items()},
    )


class _Sums:
    """The running sums of one source."""

    def __init__(self, leads: int) -> None:
        self._rows = np.zeros((4, leads))
        self._window = np.zeros(3)

    def add(self, paths: Array, seen: Array, counted: Array, need: float | None) -> None:
        """Add one issue; `need` None: no window is open at it."""
        known = np.where(counted, seen, 0.0)
        rows = [
            np.ones(len(seen)),
            scores.crps(paths, known),
            scores.pinball(paths, known),
            scores.covered(paths, known),
        ]
        self._rows += np.array(rows) * counted
        if need is not None:
            self._window += (1.0, *scores.window_error(paths, seen, need))

    def score(self, source: str) -> Score:
        """Close the sums."""
        count, ranked, loss, inside = self._rows
        return Score(
            source=source,
            count=count,
            crps=ranked,
            pinball=loss,
            covered=inside,
            windows=int(self._window[0]),
            window_error_slots=float(self._window[1]),
            window_crps_slots=float(self._window[2]),
        )


def _ours(series: Series, start: int, stop: int, plan: Plan) -> Iterator[tuple[int, Array | None]]:
    learner = Learner(leads=plan.leads, paths=plan.paths)
    rehearse = round(plan.rehearse_days * series.per_day)
    memory = learner.begin([Part(series=series.until(start))], rehearse)
    for last in range(start, stop):
        value = float(series.values[last])
        memory = learner.observe(memory, [None if np.isnan(value) else value])
        yield last, memory.paths


def _lit(past: Series, steps: NDArray[np.intp]) -> Array:
    if past.kind is not Kind.SUN:
        return np.ones(len(steps), dtype=bool)
    newest = len(past.values) - 1 + steps - same_hour(steps, past.per_day)
    seen = np.nan_to_num(past.values[newest - past.per_day * np.arange(_LIT_DAYS)[:, None]])
    most = seen.max(axis=0)
    return np.asarray(most > _LIT_FRAC * most.max())
