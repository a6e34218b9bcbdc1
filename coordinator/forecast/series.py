"""A site's past, slot by slot: what every learnt forecast is made from. Knows no forecast.

Inside the arrays a missing value is NaN, since an array has no None; at the edges it is None.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from coordinator.forecast.kinds import Kind

Array = NDArray[np.float64]

SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """Means over consecutive slots of one length, oldest first.

    `values` (N,) in whatever unit the series has (watts, for generation and load), NaN where missing;
    `slot_s` divides a day; `end_at` (aware) is when the last slot ends. `day_s`: how long a day lasts, which
    is shorter only where somebody replays the weather faster than it was. `unit`: of the values, as ``MW`` or
    ``EUR/MWh``; empty: not said. Not written to afterwards.
    """

    kind: Kind
    slot_s: float
    end_at: datetime
    values: Array
    day_s: float = SECONDS_PER_DAY
    unit: str = ""

    @property
    def begin_at(self) -> datetime:
        """When the first slot begins."""
        return self.end_at - timedelta(seconds=self.slot_s * len(self.values))

    @property
    def per_day(self) -> int:
        """Slots in a day."""
        return round(self.day_s / self.slot_s)

    def slots(self, hours: float) -> int:
        """Return how many slots make so many hours, at least one."""
        return max(1, round(hours * self.per_day / 24.0))

    def until(self, count: int) -> "Series":
        """Return the series as it was when only the first `count` slots were known."""
        later_s = self.slot_s * (len(self.values) - count)
        return replace(self, values=self.values[:count], end_at=self.end_at - timedelta(seconds=later_s))

    def on(self, start_at: datetime, step_s: float) -> tuple[Array, Array]:
        """Return it in steps of another length: those before an instant, the newest last, and from it on.

        A step has the mean of the slots in it, NaN where one is missing, or the value of the slot it lies in.
        """
        lead_s = (start_at - self.begin_at).total_seconds()
        before = max(0, math.floor(lead_s / step_s))
        after = max(0, math.floor((self.end_at - start_at).total_seconds() / step_s))
        each = max(1, round(step_s / self.slot_s))
        first = np.floor((lead_s + step_s * np.arange(-before, after)) / self.slot_s).astype(np.intp)
        places = first[:, None] + np.arange(each)
        inside = (places >= 0) & (places < len(self.values))
        values = np.where(inside, self.values[np.where(inside, places, 0)], np.nan).mean(axis=1)
        return values[:before], values[before:]

    def days(self, count: int) -> "Series":
        """Return the last whole days, `count` at most; the first slot of a day follows `end_at`'s time."""
        whole = min(count, len(self.values) // self.per_day) * self.per_day
        return replace(self, values=self.values[len(self.values) - whole :])

    def append(self, value: float | None, keep: int) -> "Series":
        """Return the series one slot on, no longer than `keep` slots; None: the slot was not measured."""
        known = self.values[max(0, len(self.values) + 1 - keep) :]
        return replace(
            self,
            values=np.append(known, np.nan if value is None else value),
            end_at=self.end_at + timedelta(seconds=self.slot_s),
        )


def trailing_max(values: Array, per_day: int, days: int) -> Array:
    """Return, for each slot and the day that follows, the most that the `days` before saw at that hour.

    `values` (N,) whole days; the answer (N + per_day,), 0 where nothing was seen.
    """
    table = values.reshape(-1, per_day)
    padded = np.vstack([np.full((days, per_day), np.nan), table])
    seen = np.lib.stride_tricks.sliding_window_view(padded, days, axis=0)
    most: Array = np.nan_to_num(np.fmax.reduce(seen, axis=2)).ravel()
    return most


def trailing_mean(values: Array, per_day: int, days: int) -> Array:
    """Return, for each slot and the day that follows, the mean of the `days` before at that hour.

    Shapes as for `trailing_max`; 0 where nothing was seen.
    """
    table = np.vstack([np.zeros((1, per_day)), values.reshape(-1, per_day)])
    known = ~np.isnan(table)
    known[0] = False
    total = np.cumsum(np.where(known, table, 0.0), axis=0)
    count = np.cumsum(known, axis=0)
    first = np.maximum(np.arange(len(table)) - days, 0)
    mean: Array = ((total - total[first]) / np.maximum(count - count[first], 1)).ravel()
    return mean


def same_hour(leads: NDArray[np.intp], per_day: int) -> NDArray[np.intp]:
    """Return how many slots before the target the newest known slot of the same hour lies, by lead."""
    return per_day * ((leads + per_day - 1) // per_day)
