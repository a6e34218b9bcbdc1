"""Surplus that an operator declares at a site: it counts as renewable (DESIGN 3)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

import numpy as np

from coordinator.model.forecast import ForecastSlot, SurplusForecast


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSurplus:
    """Watts of surplus, >= 0, that the operator promises from `start_at` until `end_at`."""

    start_at: datetime
    end_at: datetime
    surplus_w: float


def declared_w(declared: Iterable[DeclaredSurplus], at: datetime) -> float | None:
    """Return the largest surplus declared for an instant, in watts; None when none is."""
    return max((d.surplus_w for d in declared if d.start_at <= at < d.end_at), default=None)


def with_declared(forecast: SurplusForecast, declared: Iterable[DeclaredSurplus]) -> SurplusForecast:
    """Raise a forecast to what is declared: all quantiles are at least the declared watts.

    Slots are cut where a declaration begins or ends; time outside the forecast stays outside.
    """
    promises = tuple(declared)
    marks = {t for d in promises for t in (d.start_at, d.end_at)}
    slots: list[ForecastSlot] = []
    columns: list[int] = []
    least: list[float] = []
    for column, slot in enumerate(forecast.slots):
        edges = sorted({slot.start_at, slot.end_at} | {t for t in marks if slot.start_at < t < slot.end_at})
        for start_at, end_at in pairwise(edges):
            least_w = declared_w(promises, start_at) or 0.0
            columns.append(column)
            least.append(least_w)
            slots.append(
                ForecastSlot(
                    start_at=start_at,
                    end_at=end_at,
                    p10_w=max(slot.p10_w, least_w),
                    p50_w=max(slot.p50_w, least_w),
                    p90_w=max(slot.p90_w, least_w),
                )
            )
    paths = forecast.paths_w
    if paths is not None:
        paths = np.maximum(paths[:, columns], np.array(least, dtype=np.float32))
    return replace(forecast, slots=tuple(slots), paths_w=paths)
