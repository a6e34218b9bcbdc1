"""Job files: a TOML table with the fields of JobSpec, durations in seconds."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sterna.config import load
from sterna.v1 import job_pb2

_FLEXIBILITY = {
    "flex_0": job_pb2.FLEXIBILITY_FLEX_0,
    "flex_1": job_pb2.FLEXIBILITY_FLEX_1,
    "flex_2": job_pb2.FLEXIBILITY_FLEX_2,
    "flex_3": job_pb2.FLEXIBILITY_FLEX_3,
}
_ON_PARTITION = {
    "keep_running": job_pb2.ON_PARTITION_KEEP_RUNNING,
    "stop": job_pb2.ON_PARTITION_STOP,
}
POWER_W_MAX = 1e9
"""No site has a gigawatt to spare; a typing error has."""
CHECKPOINT_BYTES_MAX = 2**63 - 1
DURATION_S_MAX = 315_576_000_000
"""The range that google.protobuf.Duration states: 10,000 years."""


class ContainerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[container]``: what the program runs in; absent, it is a process of the site."""

    image: str
    """As the engine takes it."""
    engine: Literal["", "podman", "docker", "nerdctl"] = ""
    """Empty: the site's first."""
    mounts: dict[str, str] = {}
    """Where in the container each named folder of the site is seen."""
    devices: tuple[str, ...] = ()
    """By the names that `--device` takes, e.g. "nvidia.com/gpu=0"; the site says which it gives."""
    network: str = ""
    """What `--network` takes; empty: the engine's default."""
    arguments: tuple[str, ...] = ()
    """More words for the engine's run; only sites that take any have the job."""

    def to_proto(self) -> job_pb2.ContainerSpec:
        """Return the message to submit."""
        return job_pb2.ContainerSpec(
            image=self.image,
            engine=self.engine,
            mounts=self.mounts,
            devices=self.devices,
            network=self.network,
            arguments=self.arguments,
        )


class SlowTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[slow]``: how far the plan may slow the job; absent, not at all."""

    power_frac: float
    """Share of power_w that it draws at the least, above 0, below 1."""
    speed_frac: float
    """Share of its full speed that it keeps there, power_frac to 1."""

    def to_proto(self) -> job_pb2.SlowRange:
        """Return the message to submit."""
        return job_pb2.SlowRange(power_frac=self.power_frac, speed_frac=self.speed_frac)


class JobFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``sterna job submit`` reads; the fields of sterna.v1.JobSpec."""

    name: str
    """For people; need not be unique."""
    argv: tuple[str, ...]
    """Program and arguments of a fresh start; {job_id}, {checkpoint_dir} and {resume_from} are replaced."""
    resume_argv: tuple[str, ...] = ()
    """The same for a resume; empty: argv, with STERNA_RESUME_FROM set."""
    env: dict[str, str] = {}
    """Added to the job's environment."""
    working_dir: str = ""
    """Absolute; empty: the job's own folder at the site."""
    checkpoint_glob: str = ""
    """Files that make a checkpoint, below the checkpoint folder; empty: the trainer names each."""
    stop_signal: str = "TERM"
    """Sent together with the stop file."""
    stop_grace_s: float = 30.0
    """From the stop signal to SIGKILL."""
    power_w: float
    """At full speed, above the node's idle draw."""
    checkpoint_bytes: int
    """As declared, until one is sealed."""
    on_partition: Literal["keep_running", "stop"] = "keep_running"
    """stop: it ends with its lease when the coordinator is silent, so that it may start elsewhere."""
    may_migrate: bool = True
    """False: it stays where it started."""
    min_residence_s: float | None = None
    """Shortest stay before a voluntary move; absent: the fleet's."""
    home_site: str = ""
    """Where it starts if it can; empty: anywhere."""
    load_s: float | None = None
    """Process start to first step; absent: the fleet's, until measured."""
    declared_work_s: float | None = None
    """Running time that it needs in all."""
    flexibility: Literal["flex_0", "flex_1", "flex_2", "flex_3"] = "flex_3"
    """How much of its speed it gives up: flex_0 nothing, flex_3 half (docs/obeying.md)."""
    container: ContainerTable | None = None
    slow: SlowTable | None = None
    deadline_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """By when it is to have ended, with its offset from UTC; only with declared_work_s (docs/planning.md)."""
    deadline_after_s: float | None = None
    """The same, counted from its submission."""
    stays: tuple[str, ...] = ()
    """Files of its checkpoints that are not sealed and not moved (docs/trainers.md)."""

    def faults(self) -> list[tuple[str, str]]:
        """Return (key, message) of what is wrong beyond types; the coordinator checks the rest."""
        found = []
        if not self.argv:
            found.append(("argv", "expected a program, got an empty list"))
        found += [
            (key, f"expected zero to {most}, got {value:g}")
            for key, value, most in (
                ("power_w", self.power_w, POWER_W_MAX),
                ("checkpoint_bytes", self.checkpoint_bytes, CHECKPOINT_BYTES_MAX),
                ("stop_grace_s", self.stop_grace_s, DURATION_S_MAX),
                ("min_residence_s", self.min_residence_s or 0, DURATION_S_MAX),
                ("load_s", self.load_s or 0, DURATION_S_MAX),
                ("declared_work_s", self.declared_work_s or 0, DURATION_S_MAX),
                ("deadline_after_s", self.deadline_after_s or 0, DURATION_S_MAX),
            )
            if not 0 <= value <= most
        ]
        if self.deadline_at is not None and self.deadline_after_s is not None:
            found.append(("deadline_after_s", "expected one deadline, got deadline_at too"))
        return found

    def to_proto(self) -> job_pb2.JobSpec:
        """Return the message to submit."""
        spec = job_pb2.JobSpec(
            name=self.name,
            argv=self.argv,
            resume_argv=self.resume_argv,
            env=self.env,
            working_dir=self.working_dir,
            checkpoint_glob=self.checkpoint_glob,
            stop_signal=self.stop_signal,
            power_w=self.power_w,
            checkpoint_bytes=self.checkpoint_bytes,
            on_partition=_ON_PARTITION[self.on_partition],
            may_migrate=self.may_migrate,
            home_site=self.home_site,
            flexibility=_FLEXIBILITY[self.flexibility],
            container=self.container.to_proto() if self.container is not None else None,
            slow=self.slow.to_proto() if self.slow is not None else None,
            stays=self.stays,
        )
        spec.stop_grace.FromTimedelta(timedelta(seconds=self.stop_grace_s))
        for field, value in (
            (spec.min_residence, self.min_residence_s),
            (spec.load_time, self.load_s),
            (spec.declared_work, self.declared_work_s),
            (spec.deadline_after, self.deadline_after_s),
        ):
            if value is not None:
                field.FromTimedelta(timedelta(seconds=value))
        if self.deadline_at is not None:
            spec.deadline_at.FromDatetime(self.deadline_at)
        return spec


def read_job_file(path: Path) -> job_pb2.JobSpec:
    """Read a job file.

    Raises
    ------
    ConfigError
        Naming the file and every key at fault.
    """
    return load(path, JobFile).to_proto()
