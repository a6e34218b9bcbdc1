"""What a site can tell of itself in reports: quantities, figures, and the intervals that they are for."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from agent.model.readings import Quality


class Quantity(Enum):
    """What a site can tell, in the house's units."""

    IMPORT_W = "mean power drawn from the grid, watts"
    IMPORT_WH = "energy drawn from the grid, watt-hours"
    BASELINE_W = "power that it would have drawn without us, watts"
    DELTA_WH = "energy drawn less the baseline, watt-hours"
    LIMIT_W = "import limit in force, watts"
    LEVEL = "SIMPLE level in force"
    SHED_AVAILABLE_W = "power that it could leave off, watts"
    RISE_AVAILABLE_W = "power that it could draw in addition, watts"
    OPERATING_STATE = "one of OpenADR's words"
    VOLTAGE_V = "mean voltage, volts"
    REACTIVE_VAR = "mean reactive power, vars"
    BATTERY_CAPACITY_WH = "usable capacity, watt-hours"
    BATTERY_SOC_FRAC = "state of charge, 0 to 1"
    BATTERY_DISCHARGE_MAX_W = "most power out, watts"
    BATTERY_CHARGE_MAX_W = "most power in, watts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a site tells of a quantity, in the house's units, and how far it can be trusted."""

    value: float | str
    quality: Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One interval to report on."""

    id: int
    start_at: datetime
    end_at: datetime
