"""What the coordinator orders and what the agent reports back; the messages of sterna.v1 as frozen values."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from agent.model.jobs import Checkpoint, JobPhase, JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Hold a slot and disk space for a job that will arrive; ends by itself after `expires_after_s`."""

    spec: JobSpec
    checkpoint_bytes: int
    expires_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start fresh (`checkpoint_id` None) or resume. `lease_ttl_s` None: the lease has no end."""

    spec: JobSpec
    checkpoint_id: str | None
    lease_ttl_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Stop with a checkpoint and seal it; with `cancel`, end it for good."""

    reason: str
    cancel: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Pull a checkpoint. `holder_address` None: the holder dials us. `max_bps` None: no limit.

    `for_start`: the job has stopped, and goes on here from this checkpoint as soon as all of it has arrived.
    """

    checkpoint_id: str
    holder_site: str
    holder_address: str | None
    ticket: str
    max_bps: float | None
    for_start: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Dial the receiver and let it pull over that connection."""

    checkpoint_id: str
    receiver_site: str
    receiver_address: str
    ticket: str
    max_bps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Let go of the job: drop reservation and staging, keep the newest `keep_checkpoints`."""

    keep_checkpoints: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Suspend the job for the plan's sake; it goes on by itself after `expires_after_s`.

    `sequence` is higher than that of every pause and resume of the job before it.
    """

    sequence: int
    expires_after_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """Have the job draw `power_w` at most for the plan's sake; that ends by itself, as a pause does."""

    sequence: int
    expires_after_s: float
    power_w: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """End a pause or a slowing of the plan; the site's own limits decide when the job goes on."""

    sequence: int


Action = Prepare | Start | Stop | Fetch | Offer | Release | Pause | Slow | Resume


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order. Idempotent by (migration_id, type of action, epoch). `migration_id` "" when none."""

    order_id: str
    migration_id: str
    job_id: str
    epoch: int
    action: Action


class OrderResult(Enum):
    """Answer to an order, given once it is durable."""

    ACCEPTED = "ACCEPTED"
    DONE = "DONE"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAck:
    """`reason` says why an order was refused; empty otherwise."""

    order_id: str
    migration_id: str
    job_id: str
    result: OrderResult
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """The whole of what this site knows of one job; the newest replaces all before it."""

    job_id: str
    epoch: int
    phase: JobPhase
    migration_id: str
    reported_at: datetime
    step: int | None = None
    start_step: int | None = None
    checkpoints: tuple[Checkpoint, ...] = ()
    message: str = ""
    fetched_bytes: int = 0
    seal_s: float | None = None
    goodput_bps: float | None = None
    load_s: float | None = None
    transferred_bytes: int | None = None
    highest_epoch: int = 0
    """The highest seen in any order about the job."""
    pid: int | None = None
    held_until: datetime | None = None
    """Until when the plan holds it back or slows it, unless that is renewed; None: it does not."""
    hold_sequence: int = 0
    """The highest of a pause, slowing or resume of the plan that was accepted."""
    slowed_to_w: float | None = None
    """What the plan has it draw at most, until then; None: it does not slow it."""
    checkpoints_unknown: bool = False
    """The store cannot be read, so nobody knows which checkpoints are here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRequest:
    """The site's own means do not suffice: it asks for a job to be moved away."""

    job_id: str
    epoch: int
    reason: str
