"""What the coordinator tells a site to do; the orders of sterna.v1 as frozen values.

An order is idempotent by (migration_id, kind, epoch) and is sent again until a report shows its effect.
"""

from dataclasses import dataclass

from coordinator.model.job import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Hold a slot and disk space for a job that will arrive."""

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
    """Pull a checkpoint. `holder_address` "": the holder dials. `max_bps` None: no limit.

    `for_start`: the job has stopped, and goes on there from this checkpoint.
    """

    checkpoint_id: str
    holder_site: str
    holder_address: str
    max_bps: float | None
    for_start: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Dial the receiver and let it pull over that connection."""

    checkpoint_id: str
    receiver_site: str
    receiver_address: str
    max_bps: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Let go of the job: drop reservation and staging, keep the newest `keep_checkpoints`."""

    keep_checkpoints: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Suspend the job where it is; it goes on by itself after `expires_after_s`, unless that is renewed.

    `sequence` is higher than that of every pause and resume of the job that its site has accepted.
    """

    sequence: int
    expires_after_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """Have the job draw `power_w` at most; it has its full power again when that expires, as a pause does."""

    sequence: int
    expires_after_s: float
    power_w: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """End a pause or a slowing of the plan."""

    sequence: int


Action = Prepare | Start | Stop | Fetch | Offer | Release | Pause | Slow | Resume
OrderKey = tuple[str, str, str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order to one site. `migration_id` "" when it belongs to none."""

    site_id: str
    migration_id: str
    job_id: str
    epoch: int
    action: Action

    @property
    def key(self) -> OrderKey:
        """Return what makes it the same order when it is sent again."""
        kind = type(self.action).__name__
        if isinstance(self.action, (Fetch, Offer)):  # one move may bring two checkpoints
            kind += f" {self.action.checkpoint_id}"
        elif isinstance(self.action, (Pause, Slow, Resume)):  # many follow one another under one epoch
            kind += f" {self.action.sequence}"
        return (self.site_id, self.migration_id, self.job_id, kind, self.epoch)
