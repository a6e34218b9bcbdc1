"""Sites as they describe themselves; the messages of sterna.v1 as frozen values."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from coordinator.model.import_cost import CostSlot


class Quality(Enum):
    """How far a reading can be trusted (OpenADR words)."""

    OK = "OK"
    STALE = "STALE"
    ESTIMATED = "ESTIMATED"
    BAD = "BAD"


MEASURED = frozenset({Quality.OK, Quality.ESTIMATED})
"""Qualities with which a reading stands for what it says."""


class GridState(Enum):
    """Where the site's fail-safe machine stands (sterna.v1.GridState)."""

    INIT = "INIT"
    UNLIMITED = "UNLIMITED"
    LIMITED = "LIMITED"
    FAILSAFE = "FAILSAFE"
    AUTONOMOUS = "AUTONOMOUS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a site is and can do. `checkpoint_address` "": it cannot be dialled."""

    slots: int
    storage_free_bytes: int = 0
    idle_power_w: float = 0.0
    gpus: tuple[str, ...] = ()
    can_cap: bool = False
    checkpoint_address: str = ""
    container_engines: tuple[str, ...] = ()
    container_mounts: tuple[str, ...] = ()
    can_slow: bool = False
    storage_fault: str = ""
    """Why its checkpoint store cannot be read, in its own words; "" when it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """One GPU at an instant; None is unknown, for `power_cap_w` no cap."""

    name: str
    power_w: float | None = None
    utilization_frac: float | None = None
    temperature_degc: float | None = None
    power_cap_w: float | None = None
    calibration_factor: float | None = None
    clock_hz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteBattery:
    """All batteries of a site as one; None is unknown. `reserve_wh` is in `available_wh`, and kept back.

    `serves_site`: by their own control they give whatever the site would import.
    """

    soc_frac: float | None = None
    capacity_wh: float | None = None
    available_wh: float | None = None
    max_charge_w: float | None = None
    max_discharge_w: float | None = None
    reserve_wh: float | None = None
    serves_site: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSample:
    """One instant at a site; watts into the site or device are positive, None is unknown."""

    measured_at: datetime
    sequence: int
    quality: Quality
    grid_w: float | None = None
    generation_w: float | None = None
    available_w: float | None = None
    battery_w: float | None = None
    compute_w: float | None = None
    site_load_w: float | None = None
    surplus_w: float | None = None
    gpus: tuple[GpuSample, ...] = ()
    historical: bool = False
    battery: SiteBattery | None = None
    """None: it has none, or it is not believed. Not stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveLimit:
    """One limit on grid import in the site's merged timeline. `end_at` None: until it is replaced."""

    source: str
    command_id: str
    limit_w: float
    start_at: datetime
    end_at: datetime | None
    reason: str


EMERGENCIES = ("ALERT_GRID_EMERGENCY", "ALERT_BLACK_START")
"""How reasons of limits begin in an emergency: OpenADR's words."""


def is_emergency(limit: ActiveLimit) -> bool:
    """Tell whether a limit says that the grid is in an emergency."""
    return limit.reason.startswith(EMERGENCIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSurplus:
    """Watts of surplus, >= 0, that somebody promises from `start_at` until `end_at`; `source` says who."""

    start_at: datetime
    end_at: datetime
    surplus_w: float
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridStatus:
    """What the grid asks of the site and what the site can do. `limit_w` None: no limit is active."""

    state: GridState
    limit_w: float | None
    limits: tuple[ActiveLimit, ...] = ()
    coming: tuple[ActiveLimit, ...] = ()
    """Limits that begin later, as far as they are known."""
    achievable_min_w: float | None = None
    achievable_max_w: float | None = None
    unachievable: bool = False
    breaches: int = 0
    measured_at: datetime | None = None
    declared: tuple[DeclaredSurplus, ...] = ()
    """What counts as surplus beside what is measured."""
    export_limits: tuple[ActiveLimit, ...] = ()
    """What operators say of the export, the most restrictive first."""
    export_breaches: int = 0
    prices: tuple[CostSlot, ...] = ()
    """What import costs, in the operator's currency, by start."""
    carbon: tuple[CostSlot, ...] = ()
    """Grams of CO2 of what is imported, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRequest:
    """The site's own means do not suffice: it asks for a job to be moved away."""

    job_id: str
    epoch: int
    reason: str
