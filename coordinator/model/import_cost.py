"""What a kilowatt-hour of import costs at a site: money, or grams of CO2, by the fleet's objective."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Objective(Enum):
    """What is to be saved: energy that is not renewable, whatever it costs, or what it costs."""

    ENERGY = "energy"
    CARBON = "carbon"
    PRICE = "price"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSlot:
    """What import costs from `start_at` until `end_at`, per kilowatt-hour; may be negative."""

    start_at: datetime
    end_at: datetime
    per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportCost:
    """Known or expected costs, in slots by start that do not overlap; between them nothing is known.

    `unit`: of the figures, e.g. ``g/kWh`` or ``EUR/kWh``. Costs in different units are not comparable.
    """

    unit: str
    slots: tuple[CostSlot, ...]
