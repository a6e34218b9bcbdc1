"""Jobs as a site knows them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class OnPartition(Enum):
    """What becomes of a job when the coordinator falls silent."""

    KEEP_RUNNING = "keep_running"
    STOP = "stop"


class Flexibility(Enum):
    """The tier of a job: how much of its throughput its owner gives up when the grid or the sun asks.

    None, 10, 25 or 50 %, averaged over three hours.
    """

    FLEX_0 = "flex_0"
    FLEX_1 = "flex_1"
    FLEX_2 = "flex_2"
    FLEX_3 = "flex_3"


class JobPhase(Enum):
    """Where a job stands at this site; the words of sterna.v1.JobPhase."""

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
class JobSpec:
    """What to run; the fields of sterna.v1.JobSpec, durations in seconds. None: the declared default.

    `container` None: a process of the site.
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
    stays: tuple[str, ...] = ()
    """See `agent.core.staying`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFile:
    """One file of a checkpoint; `path` is relative, with forward slashes, without ``..``."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A sealed checkpoint's table of contents; the fields of sterna.v1.CheckpointManifest."""

    job_id: str
    epoch: int
    step: int
    files: tuple[CheckpointFile, ...]
    chunk_bytes: int
    chunk_hashes: tuple[bytes, ...]
    sealed_at: datetime

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint in this site's store; its id is the hex BLAKE3 of the canonical manifest."""

    checkpoint_id: str
    manifest: Manifest

    @property
    def rank(self) -> tuple[int, int, float]:
        """Order of a job's checkpoints, higher for the newer: epoch, then step, then time."""
        return self.manifest.epoch, self.manifest.step, self.manifest.sealed_at.timestamp()
