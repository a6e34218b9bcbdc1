"""Surplus that is declared at a site, on an operator's word: it counts as renewable like any other."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import numpy as np

from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.live import LiveSite
from coordinator.model.site import DeclaredSurplus, Quality, SiteSample


def declared_w(declared: Iterable[DeclaredSurplus], at: datetime) -> float | None:
    """Return the largest surplus declared for an instant, in watts; None when none is."""
    return max((d.surplus_w for d in declared if d.start_at <= at < d.end_at), default=None)


def declared_at(live: LiveSite) -> tuple[DeclaredSurplus, ...]:
    """Return what the site says that counts as surplus beside what is measured."""
    return live.grid_status.declared if live.grid_status is not None else ()


def surplus_of(sample: SiteSample | None, promised_w: float | None) -> tuple[float | None, bool]:
    """Return the surplus, and whether it can be believed: a promise stands whatever the meters say."""
    good = sample is not None and sample.quality is Quality.OK
    measured_w = sample.surplus_w if sample is not None else None
    if promised_w is None:
        return measured_w, good
    return max(promised_w, measured_w if good and measured_w is not None else 0.0), True


def with_declared(
    forecast: SurplusForecast | None, declared: Iterable[DeclaredSurplus], now: datetime
) -> SurplusForecast | None:
    """Raise a forecast to what is declared: all quantiles are at least the declared watts.

    Slots are cut where a declaration begins or ends. A forecast that ends before the last declaration, or is
    none, goes on to its end with nothing but what is declared.
    """
    promises = tuple(d for d in declared if d.end_at > now)
    if not promises:
        return forecast
    if forecast is None:
        forecast = SurplusForecast(issued_at=now, source="declared", slots=())
    forecast = _extended(forecast, now, max(d.end_at for d in promises))
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


def _extended(forecast: SurplusForecast, now: datetime, until: datetime) -> SurplusForecast:
    """Add a slot without surplus up to an instant, where the forecast does not reach it."""
    reached = forecast.slots[-1].end_at if forecast.slots else now
    if reached >= until:
        return forecast
    more = ForecastSlot(start_at=reached, end_at=until, p10_w=0.0, p50_w=0.0, p90_w=0.0)
    paths = forecast.paths_w
    if paths is not None:
        paths = np.concatenate((paths, np.zeros((len(paths), 1), dtype=paths.dtype)), axis=1)
    return replace(forecast, slots=(*forecast.slots, more), paths_w=paths)
