"""What import costs at the sites of a fleet in the hours ahead, as shares of the dearest.

By its shares everything that is counted in joules is counted in joules of the dearest import: where a share
is 1, and where energy alone counts, a joule is a joule. What nobody tells counts as the dearest, so that
unknown is never cheap. Owns the courses of costs; what jobs gain by them is `horizon`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import nan

import numpy as np
from numpy.typing import NDArray

from coordinator.model.import_cost import ImportCost
from sterna.units import wh_to_joules

Array = NDArray[np.float64]
Columns = Sequence[int] | NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Costs:
    """Courses of S sites, filled up to one length with steps of no length.

    `edges_s` (S, K + 1) from now on; `per_kwh` (S, K) in `unit`, NaN: not known; `dearest`, above 0, is the
    largest of them in size; `shares` (S, K) are shares of it, -1 to 1, 1 where nothing is known.
    """

    unit: str
    dearest: float
    edges_s: Array
    per_kwh: Array
    shares: Array

    def cheaper_until_s(self, here: Columns, there: Columns, margin_frac: float) -> Array:
        """Return until when import at sites stays below what it costs now at others, by a margin.

        Shape (len(here), len(there)), in seconds from now.
        """
        now = self.shares[here, 0]
        below = now - margin_frac * np.abs(now)
        highest = np.maximum.accumulate(self.shares, axis=1)
        found = np.empty((len(below), len(there)))
        for place, column in enumerate(there):
            found[:, place] = self.edges_s[column, highest[column].searchsorted(below)]
        return found

    def means(self, until_s: float) -> Array:
        """Return what import costs at each site from now until then; NaN where part of it is not known."""
        lasts_s = np.diff(np.minimum(self.edges_s, until_s))
        found: Array = np.where(lasts_s > 0.0, lasts_s * self.per_kwh, 0.0).sum(axis=1) / until_s
        return found

    def saving(self, joules: float) -> tuple[float, str]:
        """Tell joules of the dearest import as what they cost, with the unit."""
        amount = joules / wh_to_joules(1000.0) * self.dearest
        unit = self.unit.removesuffix("/kWh")
        return (amount / 1000.0, "kg") if unit == "g" else (amount, unit)


def costs_of(now: datetime, told: Sequence[ImportCost | None], until_s: float) -> Costs | None:
    """Put costs of sites side by side, from now until `until_s`, > 0.

    Costs in another unit than the first that is told are not known. None: nobody tells a cost other than 0.
    """
    unit = next((cost.unit for cost in told if cost is not None), "")
    courses = [
        _course(now, cost if cost is not None and cost.unit == unit else None, until_s) for cost in told
    ]
    longest = max((len(values) for _, values in courses), default=0)
    edges_s, per_kwh = np.full((len(told), longest + 1), until_s), np.full((len(told), longest), np.nan)
    for row, (edges, values) in enumerate(courses):
        edges_s[row, : len(edges)], per_kwh[row, : len(values)] = edges, values
    dearest = float(np.nanmax(np.abs(per_kwh), initial=0.0))
    if not dearest > 0.0:
        return None
    shares = np.where(np.isnan(per_kwh), 1.0, per_kwh / dearest)
    return Costs(unit=unit, dearest=dearest, edges_s=edges_s, per_kwh=per_kwh, shares=shares)


def _course(now: datetime, cost: ImportCost | None, until_s: float) -> tuple[list[float], list[float]]:
    edges, values = [0.0], list[float]()
    for slot in cost.slots if cost is not None else ():
        start_s, end_s = (slot.start_at - now).total_seconds(), (slot.end_at - now).total_seconds()
        if end_s <= edges[-1]:
            continue
        if start_s >= until_s:
            break
        if start_s > edges[-1]:
            edges.append(start_s)
            values.append(nan)
        edges.append(min(end_s, until_s))
        values.append(slot.per_kwh)
    if edges[-1] < until_s:
        edges.append(until_s)
        values.append(nan)
    return edges, values
