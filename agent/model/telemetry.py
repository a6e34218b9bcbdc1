"""What a site tells about itself: power samples, where the grid stands, what the site is."""

from dataclasses import dataclass
from datetime import datetime

from agent.model.limits import Envelope
from agent.model.readings import GpuReading, SitePower


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySample:
    """One instant at the site; `sequence` strictly increases over the site's life, restarts included."""

    sequence: int
    power: SitePower
    gpus: tuple[GpuReading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GridStatus:
    """What the grid asks and what the site can do.

    `achievable_min_w` is the grid import in watts with everything shed that may be shed, `achievable_max_w`
    with all jobs at full power; None when unknown. `breaches` counts since the store was made.
    """

    measured_at: datetime
    envelope: Envelope
    achievable_min_w: float | None = None
    achievable_max_w: float | None = None
    unachievable: bool = False
    breaches: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCapabilities:
    """What the site is and can do. `checkpoint_address` None: it cannot be dialled."""

    slots: int
    storage_free_bytes: int
    idle_power_w: float
    gpus: tuple[str, ...] = ()
    can_cap: bool = False
    checkpoint_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexibilityOffer:
    """Flexibility computed from the fleet's plan, for the site to publish to its grid operator."""

    offer_id: str
    start_at: datetime
    duration_s: float
    reduction_w: float
    cost_job_s: float
