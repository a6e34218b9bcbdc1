"""The node: its GPU and its jobs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from agent.config.calibration import CalibrationTable


class GpuTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[gpu]``: how the node's GPU is read and capped."""

    kind: Literal["auto", "fake", "jetson", "nvml", "jtop", "tegrastats", "none"] = "none"
    """auto: the first of jetson, nvml, jtop and tegrastats that reads power."""
    idle_w: float = 0.0
    """The node's draw with no job; for kinds that cannot measure it."""
    max_w: float = 1000.0
    """The node's draw at most."""
    power_path: Path | None = None
    """fake: file that receives the present draw in watts."""
    fake_rail_frac: float = 1.0
    """fake: part of its draw that it states, as sensors that under-read do."""
    power_socket: Path | None = None
    """jetson: of sterna-power; default: /run/sterna-power.sock where the agent may not cap by itself."""
    root: Path = Path("/")
    """jetson: folder that holds ``sys``; a captured tree for a rehearsal."""
    calibration: CalibrationTable = CalibrationTable()

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.idle_w < 0:
            yield "idle_w", f"expected zero or more, got {self.idle_w}"
        if self.max_w <= self.idle_w:
            yield "max_w", f"expected more than idle_w, got {self.max_w}"
        if self.fake_rail_frac <= 0:
            yield "fake_rail_frac", f"expected more than zero, got {self.fake_rail_frac}"


class JobsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[jobs]``: what may run here."""

    slots: int = 1
    """Jobs that may run at once."""
    checkpoint_interval_s: float = 600.0
    """Shortest time between two sealed checkpoints of a running job."""
    keep_checkpoints: int = 2
    """Sealed checkpoints that are kept of a job; 2 or more."""
    differences: bool = True
    """Send and take checkpoints as differences where that is sooner; needs the extra ``delta``."""
    runner: Literal["auto", "systemd", "subprocess"] = "auto"
    """Who starts a job's shim; auto: systemd where it runs and listens at `runner_socket`."""
    runner_socket: Path = Path("/run/sterna/job.sock")
    """Socket of sterna-job.socket."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.slots < 0:
            yield "slots", f"expected zero or more, got {self.slots}"
        if self.checkpoint_interval_s < 0:
            yield "checkpoint_interval_s", f"expected zero or more, got {self.checkpoint_interval_s}"
        if self.keep_checkpoints < 2:
            yield "keep_checkpoints", f"at least the last two are kept, got {self.keep_checkpoints}"
