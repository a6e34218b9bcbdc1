"""Job files: a TOML table with the fields of JobSpec, durations in seconds."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

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
    engine: Literal["", "podman", "docker", "nerdctl"] = ""
    mounts: dict[str, str] = {}
    devices: tuple[str, ...] = ()
    network: str = ""
    arguments: tuple[str, ...] = ()

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
    speed_frac: float

    def to_proto(self) -> job_pb2.SlowRange:
        """Return the message to submit."""
        return job_pb2.SlowRange(power_frac=self.power_frac, speed_frac=self.speed_frac)


class JobFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``sterna job submit`` reads; see proto/sterna/v1/job.proto for the meaning of each key."""

    name: str
    argv: tuple[str, ...]
    resume_argv: tuple[str, ...] = ()
    env: dict[str, str] = {}
    working_dir: str = ""
    checkpoint_glob: str = ""
    stop_signal: str = "TERM"
    stop_grace_s: float = 30.0
    power_w: float
    checkpoint_bytes: int
    on_partition: Literal["keep_running", "stop"] = "keep_running"
    may_migrate: bool = True
    min_residence_s: float | None = None
    home_site: str = ""
    load_s: float | None = None
    declared_work_s: float | None = None
    flexibility: Literal["flex_0", "flex_1", "flex_2", "flex_3"] = "flex_3"
    container: ContainerTable | None = None
    slow: SlowTable | None = None

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
            )
            if not 0 <= value <= most
        ]
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
        )
        spec.stop_grace.FromTimedelta(timedelta(seconds=self.stop_grace_s))
        for field, value in (
            (spec.min_residence, self.min_residence_s),
            (spec.load_time, self.load_s),
            (spec.declared_work, self.declared_work_s),
        ):
            if value is not None:
                field.FromTimedelta(timedelta(seconds=value))
        return spec


def read_job_file(path: Path) -> job_pb2.JobSpec:
    """Read a job file.

    Raises
    ------
    ConfigError
        Naming the file and every key at fault.
    """
    return load(path, JobFile).to_proto()
