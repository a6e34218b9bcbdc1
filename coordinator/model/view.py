"""What the planner sees: the fleet at one instant, frozen, without how it came to be known.

The same values are built from live sessions by the coordinator and from traces by the replay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from coordinator.model.forecast import SurplusForecast
from coordinator.model.import_cost import ImportCost
from coordinator.model.job import ContainerSpec, SlowRange
from coordinator.model.replication import Replication
from coordinator.model.site import ActiveLimit


class Phase(Enum):
    """Where a job stands, as far as planning cares."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    """Paused by the planner: it keeps its slot, draws nothing and may be resumed or moved."""
    MIGRATING = "migrating"
    HELD = "held"
    """Starting, paused by its site, or out of contact: the planner leaves it alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """One site. `forecast` None: nothing is known of its future."""

    site_id: str
    available: bool
    """Connected, not draining and not fenced: jobs may arrive."""
    draining: bool
    slots: int
    slots_held: int
    """Slots that jobs or reservations hold now."""
    surplus_w: float | None
    surplus_quality_ok: bool
    compute_w: float | None
    forecast: SurplusForecast | None
    limits: tuple[ActiveLimit, ...] = ()
    """Every limit of the import that is in force or known to come."""
    emergency: bool = False
    """A grid emergency is in force."""
    others_w: float | None = None
    """What it would import if no job ran there; below 0: it would export. None: not measured."""
    site_load_w: float | None = None
    generation_w: float | None = None
    wants_to_shed: bool = False
    """The agent has asked for jobs to be moved away (a limit that it cannot hold otherwise)."""
    uplink_free_bps: float | None = None
    """What the site's access still carries out of it, whatever the link. None: only links are limited."""
    downlink_free_bps: float | None = None
    """What it still carries into it."""
    container_engines: tuple[str, ...] = ()
    container_mounts: tuple[str, ...] = ()
    import_cost: ImportCost | None = None
    """By what import is valued; None: nobody says, or by nothing but its energy."""

    @property
    def known_surplus_w(self) -> float | None:
        """Return the surplus now; None: not measured, or by meters that are in doubt."""
        return self.surplus_w if self.surplus_quality_ok else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One job. Declared and measured figures are merged before they come here."""

    job_id: str
    phase: Phase
    site_id: str | None
    home_site: str | None
    power_w: float
    checkpoint_bytes: int | None
    """None (or 0): nobody has declared or measured it; such a job is never moved by a policy."""
    seal_s: float
    load_s: float
    downtime_s: float
    may_migrate: bool
    submitted_at: datetime
    resident_since: datetime | None
    """When it began to run where it is; None when it does not run."""
    min_residence_s: float
    stop_bytes: int | None = None
    """S_effective: what is expected to cross while it is down; None: the whole checkpoint."""
    held_at: frozenset[str] = frozenset()
    """Sites that hold a verified checkpoint to start from; empty for a job that never ran."""
    must_start_at_holder: bool = False
    """It has progress to lose: it may only start at a site in `held_at`."""
    declared_work_s: float | None = None
    progressed_s: float = 0.0
    """Running time so far; of a job that declares no work it may be that up to `resident_since`."""
    slack_s: float | None = None
    """For how long it may still stand still (wait, pause, move) and end in time; None: it is not to wait."""
    deadline_slack_s: float | None = None
    """For how long it may stand still and keep its own deadline; below 0: it cannot. None: it has none."""
    may_pause: bool = False
    """Somebody can pause it where it runs, and resume it."""
    slow: SlowRange | None = None
    """How far it may be slowed where it runs; None: not at all, or nobody can there."""
    slowed_to_w: float | None = None
    """What the plan has it draw at most; None: its full power."""
    coming_to: str | None = None
    """Where the checkpoint of a queued job is being brought, because there is no room where it is."""
    bound_for: str | None = None
    """Destination of the migration under way; None when there is none."""
    replica_of: str | None = None
    """The distributed job that this is one replica of; None: a job of its own."""
    replication: Replication | None = None
    """How that job trains; None for a job of its own."""
    container: ContainerSpec | None = None
    """What it runs in; None: a process, which every site runs."""

    @property
    def spare_s(self) -> float | None:
        """Return what moves, slowing and an operator's call may take of its time; None: no bound."""
        return self.deadline_slack_s if self.slack_s is None else self.slack_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkView:
    """A directed link; `free_bps` is what no transfer has reserved of `whole_bps` (None: not known)."""

    source: str
    destination: str
    free_bps: float
    whole_bps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """Everything at one instant."""

    now: datetime
    sites: Mapping[str, SiteView]
    jobs: Mapping[str, JobView]
    links: Mapping[tuple[str, str], LinkView] = field(default_factory=dict)

    @property
    def is_valued(self) -> bool:
        """Tell whether import counts by what it costs, not by its energy alone."""
        return any(site.import_cost is not None for site in self.sites.values())
