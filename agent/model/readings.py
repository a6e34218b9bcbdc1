"""What meters and GPUs say: frozen values with unit, instant and quality."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Quality(Enum):
    """How far a reading can be trusted (OpenADR data quality words)."""

    OK = "OK"
    STALE = "STALE"
    ESTIMATED = "ESTIMATED"
    BAD = "BAD"


class MeterRole(Enum):
    """What a meter measures at the site."""

    GRID = "grid"
    GENERATION = "generation"
    LOAD = "load"
    BATTERY = "battery"
    COMPUTE = "compute"


class StorageStatus(Enum):
    """What a battery says of its health (SunSpec 713)."""

    OK = "OK"
    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A battery's charge; None is what it does not say.

    `capacity_wh` is its rating, `available_wh` what could be drawn now, `soc_frac` and `soh_frac` charge and
    health as parts of 1. `max_charge_w` and `max_discharge_w` are the most that it takes and gives,
    `reserve_wh` what it keeps back; `serves_site`: it gives by itself what the site lacks.
    """

    capacity_wh: float | None = None
    available_wh: float | None = None
    soc_frac: float | None = None
    soh_frac: float | None = None
    status: StorageStatus | None = None
    max_charge_w: float | None = None
    max_discharge_w: float | None = None
    reserve_wh: float | None = None
    serves_site: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredBattery:
    """What the operator says of a battery; a figure that is None is left to the device.

    `capacity_wh` is what can be used of it, `reserve_frac` the part of its capacity that it keeps back.
    """

    capacity_wh: float | None = None
    max_charge_w: float | None = None
    max_discharge_w: float | None = None
    reserve_frac: float = 0.0
    serves_site: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReading:
    """One poll of one meter, converted to the house's sign: power into the site or device is positive.

    For a generation meter `active_power_w` is the production, >= 0. None means that the device does not say.
    """

    meter: str
    role: MeterRole
    measured_at: datetime
    measured_boottime_s: float
    quality: Quality
    active_power_w: float | None
    available_power_w: float | None = None
    energy_import_wh: float | None = None
    energy_export_wh: float | None = None
    frequency_hz: float | None = None
    storage: Storage | None = None
    """Of a battery that tells its charge."""
    fault: str | None = None
    """Why quality is BAD, or why the last poll failed when STALE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One look at one GPU; None is what the device does not say."""

    name: str
    measured_at: datetime
    power_w: float | None = None
    utilization_frac: float | None = None
    temperature_degc: float | None = None
    power_cap_w: float | None = None
    clock_hz: float | None = None
    calibration_factor: float | None = None
    """Watts at the site's meter per watt that the device states; `power_w` has it in it. None: no factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePower:
    """The power balance of a site at one instant (DESIGN 3). None is unknown, never zero.

    `quality` is the worst of everything that entered the balance, `measured_at` the oldest. `grid_quality`
    and `grid_measured_at` are those of `grid_w` alone; None: as they. `load_metered`: the load has a meter of
    its own, and is not what the balance leaves.
    """

    measured_at: datetime
    quality: Quality
    grid_w: float | None
    generation_w: float | None
    available_w: float | None
    battery_w: float | None
    compute_w: float | None
    site_load_w: float | None
    surplus_w: float | None
    grid_quality: Quality | None = None
    grid_measured_at: datetime | None = None
    load_metered: bool = False

    @property
    def import_quality(self) -> Quality:
        """How far `grid_w` can be trusted, whatever else is missing."""
        return self.quality if self.grid_quality is None else self.grid_quality

    @property
    def import_measured_at(self) -> datetime:
        """When `grid_w` was measured, however old something else is."""
        return self.measured_at if self.grid_measured_at is None else self.grid_measured_at
