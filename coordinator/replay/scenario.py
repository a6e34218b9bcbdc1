"""What is replayed and what comes of it: frozen values, in seconds from the start of the replay."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coordinator.core.ledger import Energy


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteTrace:
    """One site and its surplus as a step function.

    `points`: (seconds from the start, surplus in W), rising in time; each holds until the next, the last
    to the end; before the first, and where the watts are None, the surplus is unknown.
    """

    site_id: str
    slots: int
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """One job. `work_s` None: it trains to the end of the replay."""

    job_id: str
    home_site: str | None
    power_w: float
    checkpoint_bytes: int
    seal_s: float
    load_s: float
    downtime_s: float
    work_s: float | None = None
    may_migrate: bool = True
    min_residence_s: float = 0.0
    submitted_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A fleet, its jobs and a stretch of time.

    `links`: bit/s by (source, destination); a pair that is missing has no link. `tick_s`: time between
    two looks of the planner.
    """

    start_at: datetime
    duration_s: float
    tick_s: float
    sites: tuple[SiteTrace, ...]
    jobs: tuple[ReplayJob, ...]
    links: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayMove:
    """One migration; `took_s` None: it was still under way at the end."""

    job_id: str
    source: str
    destination: str
    began_s: float
    took_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """What one policy made of a scenario."""

    policy: str
    energy: Energy
    """Of all sites together; by site in `by_site`."""
    by_site: Mapping[str, Energy]
    moves: tuple[ReplayMove, ...]
    bytes_moved: int
    """Checkpoint bytes of the moves that arrived."""
    completed_s: Mapping[str, float | None]
    """When each job ended, in seconds from the start; None: it did not."""
    worked_s: Mapping[str, float]
    """Seconds in which each job made progress."""

    @property
    def renewable_frac(self) -> float | None:
        """Return the renewable share of all energy; None when nothing was drawn."""
        return self.energy.renewable_frac
