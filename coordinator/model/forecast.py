"""Surplus forecasts and the windows read off them."""

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

Paths = NDArray[np.float32]


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
    """Contiguous slots in ascending order; `source` says who made them, e.g. ``plant`` or ``persistence``.

    `paths_w`: (paths, slots), equally likely courses of the surplus in watts, >= 0, which tell how the
    hours hang together; None where the source states nothing but quantiles. Not written to afterwards, and
    no part of equality.
    """

    issued_at: datetime
    source: str
    slots: tuple[ForecastSlot, ...]
    paths_w: Paths | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A renewable window: a maximal interval in which the surplus covers what is needed.

    `open_ended` tells that the forecast ends before the window does.
    """

    start_at: datetime
    end_at: datetime
    open_ended: bool
