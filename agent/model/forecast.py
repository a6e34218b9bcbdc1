"""What a plant expects of itself: surplus quantiles per slot."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSlot:
    """Surplus of the site in one interval, as quantiles in watts, 0 <= p10 <= p50 <= p90."""

    start_at: datetime
    duration_s: float
    surplus_p10_w: float
    surplus_p50_w: float
    surplus_p90_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantForecast:
    """A site's forecast, slots in order and without overlap."""

    source: str
    issued_at: datetime
    slots: tuple[ForecastSlot, ...]
