"""Jobs, their checkpoints, and what agents report of them; the messages of sterna.v1 as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class Flexibility(Enum):
    """The tier of a job: how much of its throughput its owner gives up when the grid or the sun asks."""

    FLEX_0 = "FLEX_0"
    FLEX_1 = "FLEX_1"
    FLEX_2 = "FLEX_2"
    FLEX_3 = "FLEX_3"


class OnPartition(Enum):
    """What becomes of a job when its site loses the coordinator."""

    KEEP_RUNNING = "keep_running"
    STOP = "stop"


class JobPhase(Enum):
    """Where a job stands at one site, in the agent's words (sterna.v1.JobPhase)."""

    RESERVED = "RESERVED"
    FETCHING = "FETCHING"
    HELD = "HELD"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPING = "STOPPING"
    SEALED = "SEALED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RELEASED = "RELEASED"


ALIVE_PHASES = frozenset({JobPhase.STARTING, JobPhase.RUNNING, JobPhase.PAUSED, JobPhase.STOPPING})
"""Phases in which a process may exist at the site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What a job runs in; the fields of sterna.v1.ContainerSpec. `engine` "": any that the site has."""

    image: str
    engine: str = ""
    mounts: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    network: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowRange:
    """How far a job may be slowed, by its owner's word: at `power_frac` of its draw it keeps `speed_frac`.

    Both are shares of full power and speed, 0 < power_frac < 1 and power_frac <= speed_frac <= 1; between the
    two points speed is taken to be a straight line.
    """

    power_frac: float
    speed_frac: float

    def faults(self) -> list[tuple[str, str]]:
        """Return what is wrong with the figures, as pairs of the field and what was expected."""
        if not 0.0 < self.power_frac < 1.0:
            return [("power_frac", f"expected above 0, below 1, got {self.power_frac:g}")]
        if not self.power_frac <= self.speed_frac <= 1.0:
            allowed = f"expected {self.power_frac:g} (power_frac) to 1: else each step would take more energy"
            return [("speed_frac", f"{allowed}; got {self.speed_frac:g}")]
        return []

    def speed_at(self, power_frac: float) -> float:
        """Return the share of full speed at a share of full power; below the range it is that of its end."""
        above_frac = max(0.0, min(1.0, power_frac) - self.power_frac) / (1.0 - self.power_frac)
        return self.speed_frac + above_frac * (1.0 - self.speed_frac)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What to run; the fields of sterna.v1.JobSpec, durations in seconds.

    ``""`` and None stand for the defaults that the proto states. `container` None: a process of the site.
    `slow` None: the plan never slows it.
    """

    name: str
    argv: tuple[str, ...]
    resume_argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    checkpoint_glob: str = ""
    stop_signal: str = "TERM"
    stop_grace_s: float = 30.0
    power_w: float = 0.0
    checkpoint_bytes: int = 0
    on_partition: OnPartition = OnPartition.KEEP_RUNNING
    may_migrate: bool = True
    min_residence_s: float | None = None
    home_site: str = ""
    load_s: float | None = None
    declared_work_s: float | None = None
    flexibility: Flexibility = Flexibility.FLEX_3
    container: ContainerSpec | None = None
    slow: SlowRange | None = None
    deadline_at: datetime | None = None
    """When it is to have ended; None: see `deadline_after_s`."""
    deadline_after_s: float | None = None
    """The same, counted from its submission; None, as `deadline_at`: it has no deadline."""
    stays: tuple[str, ...] = ()
    """Globs of files of a checkpoint that are never sealed, and so never moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A sealed, verified checkpoint; its id is the hex BLAKE3 of the canonical manifest."""

    checkpoint_id: str
    step: int
    epoch: int
    size_bytes: int
    sealed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """The whole of what a site knows of one job; the newest replaces all before it.

    `epoch` 0: it never ran there. `checkpoints` are those at the site, newest first.
    """

    job_id: str
    epoch: int
    phase: JobPhase
    migration_id: str = ""
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
    """The highest that the site has seen in any order; it refuses lower ones. 0: it did not say."""
    reported_at: datetime | None = None
    held_until: datetime | None = None
    """Until when the plan holds it back or slows it there; None: it does not."""
    hold_sequence: int = 0
    """The highest of a pause, slowing or resume of the plan that the site has accepted."""
    slowed_to_w: float | None = None
    """What the plan has it draw at most, until then; None: it does not slow it."""
    checkpoints_unknown: bool = False
    """The site cannot read its store: what was known of its checkpoints stands."""

    def holds(self, checkpoint_id: str) -> bool:
        """Tell whether the site has this checkpoint, verified."""
        return any(checkpoint.checkpoint_id == checkpoint_id for checkpoint in self.checkpoints)


def newest(checkpoints: tuple[Checkpoint, ...]) -> Checkpoint | None:
    """Return the checkpoint with the most steps, the later seal first among equals; None of none."""
    return max(checkpoints, key=lambda held: (held.step, held.sealed_at), default=None)
