"""Surplus forecasts and the windows read off them."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSlot:
    """Quantiles of the mean surplus in watts over one slot, >= 0 and not decreasing."""

    start_at: datetime
    end_at: datetime
    p10_w: float
    p50_w: float
    p90_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SurplusForecast:
    """Contiguous slots in ascending order; `source` says who made them, e.g. ``plant`` or ``persistence``."""

    issued_at: datetime
    source: str
    slots: tuple[ForecastSlot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A renewable window: a maximal interval in which the surplus covers what is needed.

    `open_ended` tells that the forecast ends before the window does.
    """

    start_at: datetime
    end_at: datetime
    open_ended: bool
