"""The fleet as the coordinator remembers it: jobs, grants, migrations, sites, links.

Everything here survives a restart. What only lives as long as a session (telemetry, the newest report of
each job, who is connected) is not here: silence changes no fleet state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from coordinator.model.job import Checkpoint, JobSpec
from coordinator.model.site import Capabilities


class JobState(Enum):
    """Where a job stands in the fleet. MIGRATING and CONTACT_LOST are views on it, never stored."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    WITHDRAWING = "WITHDRAWING"
    """Its site refused the start; the grant is being taken back before another site may have one."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ENDED_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


class MigrationState(Enum):
    """DESIGN 7. Before COMMITTED every failure compensates; after it, only forward."""

    PLANNED = "PLANNED"
    PREPARED = "PREPARED"
    PRESTAGING = "PRESTAGING"
    STOPPING = "STOPPING"
    SEALED = "SEALED"
    TRANSFERRING = "TRANSFERRING"
    VERIFIED = "VERIFIED"
    COMMITTED = "COMMITTED"
    STARTING = "STARTING"
    CONFIRMED = "CONFIRMED"
    DONE = "DONE"
    COMPENSATING = "COMPENSATING"
    ABORTED = "ABORTED"


ENDED_MIGRATIONS = frozenset({MigrationState.DONE, MigrationState.ABORTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The right of one site to run a job, and what it starts from.

    `checkpoint_id` None: a fresh start. `lease_ttl_s` None: it has no end (on_partition = keep_running).
    """

    site_id: str
    epoch: int
    checkpoint_id: str | None
    granted_at: datetime
    lease_ttl_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. `epoch` is the highest ever granted, voided or learnt; `grant` None: nobody may run it.

    `copies` are the verified checkpoints that each site said it holds, newest first; the seal, load and
    run times are measured, `run_s` counts seconds at full speed up to the last change of phase or speed.
    """

    job_id: str
    spec: JobSpec
    state: JobState
    submitted_at: datetime
    epoch: int = 0
    grant: Grant | None = None
    migration_id: str | None = None
    cancelling: bool = False
    copies: Mapping[str, tuple[Checkpoint, ...]] = field(default_factory=dict)
    sealed_once: bool = False
    """It has progress to lose: it never starts fresh again."""
    lost_sites: frozenset[str] = frozenset()
    """Sites whose checkpoints are not waited for where others hold some: fenced, or their lease ran out."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    resident_since: datetime | None = None
    running_since: datetime | None = None
    speed_frac: float = 1.0
    """At which it runs since then, as its owner declares for what the plan has it draw; 1 is full speed."""
    run_s: float = 0.0
    migrations: int = 0
    failed_starts: int = 0
    """Reports of FAILED since the job was last committed to a destination and not confirmed there."""
    seal_s: float | None = None
    load_s: float | None = None
    sent_frac: float | None = None
    """Bytes that crossed at the stop of its last move, over the checkpoint's."""
    downtime_s: float | None = None
    message: str = ""

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will happen to it."""
        return self.state in ENDED_STATES

    @property
    def owner_site(self) -> str | None:
        """Return the site that holds the grant."""
        return self.grant.site_id if self.grant is not None else None

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint that any site holds."""
        held = [checkpoint for copies in self.copies.values() for checkpoint in copies]
        return max(held, key=lambda one: (one.step, one.sealed_at), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One move. `epoch` is that of the source's grant; `checkpoint` None until SEALED."""

    migration_id: str
    job_id: str
    source_site: str
    destination_site: str
    state: MigrationState
    epoch: int
    planned_at: datetime
    reason: str
    predicted_s: float | None = None
    reserved_bps: float | None = None
    """Rate that the plan allots on the link; None: no limit."""
    window_end_at: datetime | None = None
    """End of the window that it is made for; None: it is made for another reason."""
    ahead: Checkpoint | None = None
    """What was sent, or is being sent, while the job goes on."""
    checkpoint: Checkpoint | None = None
    stopped_at: datetime | None = None
    """When the source was told to stop, reckoned back from its seal; None before SEALED."""
    confirmed_at: datetime | None = None
    ended_at: datetime | None = None
    failure: str = ""

    @property
    def ended(self) -> bool:
        """Tell whether the machine has come to its end."""
        return self.state in ENDED_MIGRATIONS

    @property
    def downtime_s(self) -> float | None:
        """Return seconds from the stop at the source to the first new step; None before CONFIRMED."""
        if self.stopped_at is None or self.confirmed_at is None:
            return None
        return max(0.0, (self.confirmed_at - self.stopped_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One configured site that has been heard of. `capabilities` None: it never said Hello."""

    site_id: str
    capabilities: Capabilities | None = None
    draining: bool = False
    fenced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkGoodput:
    """What transfers over a directed link measured: an exponentially weighted mean, in bit/s."""

    source: str
    destination: str
    goodput_bps: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetState:
    """Everything that events change."""

    jobs: Mapping[str, Job] = field(default_factory=dict)
    migrations: Mapping[str, Migration] = field(default_factory=dict)
    sites: Mapping[str, Site] = field(default_factory=dict)
    links: Mapping[tuple[str, str], LinkGoodput] = field(default_factory=dict)

    def migration_of(self, job: Job) -> Migration | None:
        """Return the job's active migration."""
        return self.migrations[job.migration_id] if job.migration_id is not None else None
