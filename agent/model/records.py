"""What a site remembers of a job: one record, written before anything is done about it."""

from dataclasses import dataclass
from datetime import datetime

from agent.model.jobs import JobPhase, JobSpec
from agent.model.orders import Fetch, Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to run until `expires_s` on CLOCK_BOOTTIME of boot `boot_id`. `ttl_s` None: without end."""

    ttl_s: float | None
    expires_s: float | None
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A pause of the plan until `until_s` on CLOCK_BOOTTIME of boot `boot_id`, `until_at` on the calendar.

    `power_w`: no pause, but the job is to draw so much at most.
    """

    until_s: float
    until_at: datetime
    boot_id: str
    reason: str = ""
    power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderKey:
    """What makes an order the same as one before it."""

    migration_id: str
    kind: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingStart:
    """A grant that came while the job was stopping: it takes effect once it has stopped."""

    epoch: int
    start: Start
    lease: Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job at this site.

    `epoch` is the one under which it runs or last ran here, 0 when it never did; `highest_epoch` the highest
    seen in any order. `run_id` is "" when no process was ever asked for. Times `…_s` are CLOCK_BOOTTIME of
    boot `boot_id`.
    """

    job_id: str
    phase: JobPhase = JobPhase.RELEASED
    spec: JobSpec | None = None
    epoch: int = 0
    highest_epoch: int = 0
    migration_id: str = ""
    boot_id: str = ""
    run_id: str = ""
    restarts: int = 0
    """Times the process was started again under the same epoch, after its shim was lost."""
    resume_id: str | None = None
    """Checkpoint that the run starts from; None: fresh."""
    lease: Lease | None = None
    reserved_until_s: float | None = None
    reserved_bytes: int = 0
    fetch: Fetch | None = None
    stop_reason: str = ""
    stop_ordered_s: float | None = None
    stop_cancel: bool = False
    pending: PendingStart | None = None
    step: int | None = None
    start_step: int | None = None
    seal_s: float | None = None
    load_s: float | None = None
    goodput_bps: float | None = None
    transferred_bytes: int | None = None
    """What the last fetch received, if it was seen from its begin to its end."""
    message: str = ""
    applied: tuple[OrderKey, ...] = ()
    hold: Hold | None = None
    """The plan holds it back; what else pauses it is the site's own."""
    hold_sequence: int = 0
    """The highest of a pause, slowing or resume of the plan; one that comes late has a lower one."""
