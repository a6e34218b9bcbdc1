"""One run of a job, seen from the agent: a handle on its run directory.

Finds the shim by identity (lock, then pid with start time and boot id), never by guess; reads what shim and
trainer wrote; writes what they are to do. Holds no state of its own: two handles on one directory agree.
Every method is a short, blocking file operation; callers with a loop to keep use a thread.
"""

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.container_paths import within_run
from agent.core.outcome import EndCause, Exit, Result
from agent.model.jobs import JobPhase
from agent.model.records import JobRecord, Lease
from agent.shim import files
from sterna.errors import TransientError

if TYPE_CHECKING:
    from agent.shim.engine import Engine

SHARED = "shared"
"""Folder of the run directory that a container sees."""
SETTLE_S = 0.02
"""Pause between two looks at something that takes milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the shim and its child are, as the shim recorded it."""

    pid: int
    start_ticks: int
    child_pid: int
    child_started_s: float
    boot_id: str
    epoch: int
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint that the trainer says is complete."""

    path: Path
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the trainer reported last; None is what it did not say."""

    step: int | None = None
    start_step: int | None = None
    first_step_s: float | None = None
    """CLOCK_BOOTTIME of its first new step."""
    saved: Saved | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look at a run."""

    alive: bool
    """The shim lives: it holds the lock."""
    identity: Identity | None
    progress: Progress
    result: Result | None
    exit: Exit | None


class Run:
    """A run directory.

    Parameters
    ----------
    directory : Path
        ``…/JOB/runs/RUN_ID``.
    contained : bool
        Whether its program runs in a container, which sees a folder of it alone: what the shim is told, and
        what the agent reads again to act on, is out of its reach.
    """

    def __init__(self, directory: Path, *, contained: bool = False) -> None:
        self.directory = directory
        self.run_id = directory.name
        self.contained = contained
        self.shared = directory / SHARED if contained else directory
        """What the program and we write to each other."""
        self.checkpoint_dir = self.shared / "checkpoints"
        self.resume_dir = self.shared / "resume"

    def look(self) -> Snapshot:
        """Read everything at once. `alive` is read first: a dead shim's records are then complete."""
        alive = self.is_alive()
        return Snapshot(
            alive=alive,
            identity=self.identity(),
            progress=self._progress(),
            result=self._result(),
            exit=self._exit(),
        )

    def is_alive(self) -> bool:
        """Tell whether a shim owns the directory."""
        try:
            fd = os.open(self.directory / files.LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def try_lock(self) -> int | None:
        """Take the lock of the directory, to be handed to a shim; None while another holds it."""
        fd = os.open(self.directory / files.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def identity(self) -> Identity | None:
        """Return who runs here or ran here; None before the child was started."""
        record = files.read_record(str(self.directory), files.SHIM)
        if record is None or record.get("run_id") != self.run_id:
            return None
        return Identity(
            pid=_int(record, "pid"),
            start_ticks=_int(record, "start_ticks"),
            child_pid=_int(record, "child_pid"),
            child_started_s=_float(record, "child_started_s") or 0.0,
            boot_id=str(record.get("boot_id")),
            epoch=_int(record, "epoch"),
            paused=bool(record.get("paused")),
        )

    def write_control(self, *, epoch: int, lease: Lease, paused: bool) -> None:
        """Tell the shim under which grant it runs; no more than a comparison when nothing has changed."""
        control: files.Record = {
            "epoch": epoch,
            "boot_id": lease.boot_id,
            "expires_s": lease.expires_s,
            "paused": paused,
        }
        if files.read_record(str(self.directory), files.CONTROL) == control:
            return
        try:
            # Not fsynced: after a power cut the boot has changed, and nothing runs under it anyway.
            files.write_record(str(self.directory), files.CONTROL, control, durable=False)
        except OSError as error:
            raise TransientError(f"run {self.run_id}: its shim cannot be told: {error}") from error
        self.nudge()

    def instruct(self, record: JobRecord) -> None:
        """Have the shim know what a record says; a no-op when it does."""
        if record.lease is not None:
            paused = record.phase is JobPhase.PAUSED
            self.write_control(epoch=record.epoch, lease=record.lease, paused=paused)
        if record.phase is JobPhase.STOPPING and record.spec is not None:
            self.request_stop(record.stop_reason, record.spec.stop_grace_s)

    def request_stop(self, reason: str, grace_s: float) -> None:
        """Ask for the end, by stop file; the shim adds the signal and, after the grace, SIGKILL."""
        if (self.shared / files.STOP).exists():
            return
        try:
            files.write_record(str(self.shared), files.STOP, files.stop_request(reason, grace_s))
        except OSError:  # a full disk must not keep a job running: the shim's own signal says "stop" too
            self.nudge(signal.SIGTERM)
        else:
            self.nudge()

    def stop_requested_s(self) -> float | None:
        """Return the calendar seconds of the request to stop, whoever made it; None when there is none."""
        try:
            return (self.shared / files.STOP).stat().st_mtime
        except FileNotFoundError:
            return None

    def nudge(self, signum: int = signal.SIGHUP) -> bool:
        """Signal the shim, found by identity; False when it is not there."""
        who = self.identity()
        if who is None or who.boot_id != files.boot_id():
            return False
        return files.signal_process(who.pid, who.start_ticks, signum)

    def kill_leftovers(self, grace_s: float) -> int:
        """End what a killed shim left behind; blocks for at most the grace and a little.

        The kernel has already sent the parent-death signal; what has not ended after `grace_s` is killed.

        Returns
        -------
        int
            Processes that had to be killed.

        Raises
        ------
        TransientError
            Its container may still be there.
        """
        engine = self._engine()
        if engine is not None:
            engine.wait_gone(grace_s)
            grace_s = 0.0
        deadline_s = files.boottime_s() + grace_s
        while (left := files.processes_of_run(self.run_id)) and files.boottime_s() < deadline_s:
            time.sleep(SETTLE_S)
        killed = len(left)
        while left:
            for pid, start_ticks in left:
                files.signal_process(pid, start_ticks, signal.SIGKILL)
            time.sleep(SETTLE_S)
            left = files.processes_of_run(self.run_id)
        if engine is not None and not engine.remove(self.run_id):
            raise TransientError(f"run {self.run_id}: its engine does not say that its container is gone")
        return killed

    def _engine(self) -> "Engine | None":
        """Return the engine of its container; None where it is a process."""
        record = files.read_record(str(self.directory), files.RUN)
        if record is None or "engine" not in record:
            return None
        from agent.shim.engine import engine_of  # a site without containers does not pay for it

        return engine_of(record)

    def has_processes(self) -> bool:
        """Tell whether a process of the run is left, however it got away from the shim."""
        return bool(files.processes_of_run(self.run_id))

    def remove_bulk(self) -> None:
        """Drop the trainer's own checkpoints and its resume copy; records and log stay."""
        for folder in (self.checkpoint_dir, self.resume_dir):
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self) -> None:
        """Drop the directory of a run that has ended."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _progress(self) -> Progress:
        record = files.read_record(str(self.shared), files.PROGRESS) or {}
        return Progress(
            step=_opt_int(record, "step"),
            start_step=_opt_int(record, "start_step"),
            first_step_s=_float(record, "first_step_s"),
            saved=self._saved(record.get("checkpoint")),
        )

    def _saved(self, value: object) -> Saved | None:
        if not isinstance(value, Mapping):
            return None
        step, path = value.get("step"), value.get("path")
        if not isinstance(step, int) or not isinstance(path, str):
            return None
        here = self._on_host(path)
        return Saved(path=here, step=step) if here is not None else None

    def _on_host(self, path: str) -> Path | None:
        """Return what a path means that the trainer named; None: one that its container does not share."""
        if not self.contained:
            return Path(path)
        within = within_run(path)
        here = (self.shared / within).resolve() if within is not None else None
        return here if here is not None and here.is_relative_to(self.shared.resolve()) else None

    def _result(self) -> Result | None:
        record = files.read_record(str(self.shared), files.RESULT)
        step = _opt_int(record or {}, "step")
        if record is None or step is None or record.get("outcome") not in ("completed", "stopped"):
            return None
        return Result(completed=record["outcome"] == "completed", step=step)

    def _exit(self) -> Exit | None:
        record = files.read_record(str(self.directory), files.EXIT)
        if record is None or record.get("run_id") != self.run_id:
            return None
        return Exit(
            cause=EndCause(str(record.get("cause"))),
            code=_opt_int(record, "code"),
            signal=_opt_int(record, "signal"),
            killed=bool(record.get("killed")),
            error=str(record.get("error", "")),
        )


def run_of(root: Path, record: JobRecord) -> Run:
    """Return the handle on a record's run.

    Parameters
    ----------
    root : Path
        The keeper's root.
    record : JobRecord
        Whose.
    """
    contained = record.spec is not None and record.spec.container is not None
    return Run(root / record.job_id / "runs" / record.run_id, contained=contained)


def _opt_int(record: Mapping[str, object], key: str) -> int | None:
    value = record.get(key)
    return value if isinstance(value, int) else None


def _int(record: Mapping[str, object], key: str) -> int:
    return _opt_int(record, key) or 0


def _float(record: Mapping[str, object], key: str) -> float | None:
    value = record.get(key)
    return float(value) if isinstance(value, (int, float)) else None
