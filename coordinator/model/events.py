"""What happened to the fleet: the events that its state is a fold over.

Phase changes, sealed checkpoints, decisions of the machines and ends are events; telemetry, steps and
connections are not. Each event carries its instant `at` (aware UTC).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from coordinator.model.fleet import JobState
from coordinator.model.job import Checkpoint, JobSpec
from coordinator.model.site import Capabilities


class MigrationEvent(Enum):
    """What moves the migration machine."""

    RESERVED = "RESERVED"
    """The destination holds a slot and disk space."""
    PRESTAGE = "PRESTAGE"
    STOP = "STOP"
    """The source is to be told to stop."""
    SEAL = "SEAL"
    """The source has stopped and sealed."""
    FETCH = "FETCH"
    """The destination is to be told to fetch."""
    VERIFY = "VERIFY"
    """The destination holds the checkpoint, verified."""
    COMMIT = "COMMIT"
    START = "START"
    """The destination is to be told to start."""
    CONFIRM = "CONFIRM"
    """The destination has done a new step."""
    FINISH = "FINISH"
    FAIL = "FAIL"
    """Something before COMMITTED went wrong, or took too long."""
    RESUMED = "RESUMED"
    """The source has the job again, under its new epoch."""
    JOB_ENDED = "JOB_ENDED"
    """The job ended while it was being moved."""
    VOIDED = "VOIDED"
    """The grant that the move hangs on was voided: its site is fenced, or a higher epoch turned up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted:
    """A job entered the fleet."""

    at: datetime
    job_id: str
    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class JobGranted:
    """A site may run a job, under a higher epoch than any before."""

    at: datetime
    job_id: str
    site_id: str
    epoch: int
    checkpoint_id: str | None
    lease_ttl_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPhaseChanged:
    """The owner reported another phase (STARTING, RUNNING or PAUSED), or that it runs at another speed."""

    at: datetime
    job_id: str
    state: JobState
    speed_frac: float = 1.0
    """Of one that runs: 1 is full speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWithdrawn:
    """The owner does not run the job; its grant is taken back under a higher epoch."""

    at: datetime
    job_id: str
    epoch: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequeued:
    """Nobody may run the job now; it waits for a site. `epoch` voids what was granted before.

    `lost_site`: its checkpoints are not to be waited for until it says again that it holds them.
    """

    at: datetime
    job_id: str
    epoch: int
    message: str
    lost_site: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStartFailed:
    """The destination failed to start after COMMITTED and is granted another try under a higher epoch."""

    at: datetime
    job_id: str
    epoch: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMeasured:
    """What a move of this job took, as its site measured it; None: not measured this time."""

    at: datetime
    job_id: str
    seal_s: float | None = None
    load_s: float | None = None
    sent_frac: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSealed:
    """The verified checkpoints of a job at a site are now these, newest first."""

    at: datetime
    job_id: str
    site_id: str
    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """An operator wants the job ended."""

    at: datetime
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded:
    """The job is over; nothing of it may run any more."""

    at: datetime
    job_id: str
    state: JobState
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochAdopted:
    """A site reported a higher epoch than was known: the coordinator's memory is older than the fleet.

    `owner` None: the number alone is taken over.
    """

    at: datetime
    job_id: str
    epoch: int
    owner: str | None
    lease_ttl_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationPlanned:
    """A job is to be moved."""

    at: datetime
    migration_id: str
    job_id: str
    destination_site: str
    reason: str
    predicted_s: float | None
    reserved_bps: float | None
    window_end_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationAdvanced:
    """The machine took a step that changes no ownership. `failure` "" but for failures."""

    at: datetime
    migration_id: str
    event: MigrationEvent
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSentAhead:
    """A checkpoint is to travel while the job goes on."""

    at: datetime
    migration_id: str
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSealed:
    """The source stopped and sealed this checkpoint, `seal_s` seconds after it was told to."""

    at: datetime
    migration_id: str
    checkpoint: Checkpoint
    seal_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationCommitted:
    """The one step that moves ownership: owner = destination under a higher epoch."""

    at: datetime
    migration_id: str
    epoch: int
    lease_ttl_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationFailed:
    """Before COMMITTED: the source gets the job back under a higher epoch."""

    at: datetime
    migration_id: str
    epoch: int
    checkpoint_id: str | None
    lease_ttl_s: float | None
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSeen:
    """A site said Hello with capabilities that differ from those known."""

    at: datetime
    site_id: str
    capabilities: Capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteDrained:
    """Jobs leave the site and none arrive."""

    at: datetime
    site_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteResumed:
    """Draining and fencing end."""

    at: datetime
    site_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFenced:
    """An operator's word that nothing runs at the site any more."""

    at: datetime
    site_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkMeasured:
    """A transfer over a link reached this goodput, in bit/s. `allotted_bps` None: it had no limit."""

    at: datetime
    source: str
    destination: str
    goodput_bps: float
    allotted_bps: float | None = None


Event = (
    JobSubmitted
    | JobGranted
    | JobPhaseChanged
    | JobWithdrawn
    | JobRequeued
    | JobStartFailed
    | JobMeasured
    | CheckpointSealed
    | CancelRequested
    | JobEnded
    | EpochAdopted
    | MigrationPlanned
    | MigrationAdvanced
    | MigrationSentAhead
    | MigrationSealed
    | MigrationCommitted
    | MigrationFailed
    | SiteSeen
    | SiteDrained
    | SiteResumed
    | SiteFenced
    | LinkMeasured
)
