"""What a site tells about itself: power samples, where the grid stands, what the site is."""

from dataclasses import dataclass
from datetime import datetime

from agent.model.limits import Envelope, Limit
from agent.model.readings import GpuReading, SitePower, Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySample:
    """One instant at the site; `sequence` strictly increases over the site's life, restarts included."""

    sequence: int
    power: SitePower
    gpus: tuple[GpuReading, ...] = ()
    storage: Storage | None = None
    """Of all batteries of the site; None: it has none, or they cannot be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSurplus:
    """Watts that count as surplus from `start_at` until `end_at`, on somebody's word: the `source`."""

    start_at: datetime
    end_at: datetime
    surplus_w: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportCost:
    """What a kilowatt-hour of import costs from `start_at` until `end_at`: money, or grams of CO2."""

    start_at: datetime
    end_at: datetime
    per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GridStatus:
    """What the grid asks and what the site can do.

    `achievable_min_w` is the grid import in watts with everything shed that may be shed, `achievable_max_w`
    with all jobs at full power; None when unknown. `breaches` of import limits and `export_breaches` count
    since the store was made.
    """

    measured_at: datetime
    envelope: Envelope
    achievable_min_w: float | None = None
    achievable_max_w: float | None = None
    unachievable: bool = False
    breaches: int = 0
    export_breaches: int = 0
    declared: tuple[DeclaredSurplus, ...] = ()
    exports: tuple[Limit, ...] = ()
    """Limits of the export, the most restrictive first."""
    prices: tuple[ImportCost, ...] = ()
    """What import costs, in the operator's currency, by start."""
    carbon: tuple[ImportCost, ...] = ()
    """Grams of CO2 of what is imported, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCapabilities:
    """What the site is and can do. `checkpoint_address` None: it cannot be dialled."""

    slots: int
    storage_free_bytes: int
    idle_power_w: float
    gpus: tuple[str, ...] = ()
    can_cap: bool = False
    checkpoint_address: str | None = None
    container_engines: tuple[str, ...] = ()
    container_mounts: tuple[str, ...] = ()
    storage_fault: str = ""
    """Why the checkpoint store cannot be read now; empty when it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexibilityOffer:
    """Flexibility computed from the fleet's plan, for the site to publish to its grid operator.

    Import can fall by `reduction_w`, or rise by `increase_w`; the other is 0. It touches `jobs` jobs, of
    which `moves` would leave. `cost_job_s` is the work that it delays, in job-seconds, `steps_at_risk` the
    training steps since the last sealed checkpoints (None: unknown). `shifted_wh` is drawn at another time,
    `extra_wh` on top.
    """

    offer_id: str
    start_at: datetime
    duration_s: float
    reduction_w: float = 0.0
    increase_w: float = 0.0
    jobs: int = 0
    moves: int = 0
    cost_job_s: float = 0.0
    steps_at_risk: int | None = None
    shifted_wh: float = 0.0
    extra_wh: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexibilityOffers:
    """All that may be offered until `expires_at`: alternatives. `reason` says why there is nothing."""

    issued_at: datetime
    expires_at: datetime
    offers: tuple[FlexibilityOffer, ...] = ()
    reason: str = ""
