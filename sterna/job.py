"""For training code: when to stop, where to resume from, what was done. One file, stdlib only.

A trainer needs four lines::

    from sterna import job
    ...
    job.report(step, loss=loss)             # after each step
    job.checkpoint_saved(path, step)        # after each checkpoint is complete
    if job.should_stop():                   # at each step boundary
        save(...); job.checkpoint_saved(path, step); sys.exit(job.stopped(step))
    ...
    job.completed(step)                     # when the training is done

Outside Sterna (no STERNA_JOB_ID in the environment) every call does nothing, and `should_stop` is False.
Sterna judges how a run ended by the result that this module writes, not by the exit code.
"""

from __future__ import annotations  # it runs in the trainer's Python, which may be older than ours

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

STOPPED_EXIT_CODE = 85
"""ERESTART: stopped with a checkpoint, to be resumed."""

PROGRESS_FILE = "progress.json"
"""Lies beside the result file."""


class Job:
    """A run of a job, as seen from inside the trainer.

    Parameters
    ----------
    environ : mapping
        Where the STERNA_ variables are looked up.
    reports_per_s : float
        Most progress records per second that are written; checkpoints are always written at once.
    """

    def __init__(self, environ: Mapping[str, str], *, reports_per_s: float = 4.0) -> None:
        self.job_id = environ.get("STERNA_JOB_ID") or None
        """None outside Sterna."""
        self.epoch = int(environ.get("STERNA_EPOCH") or 0)
        self._checkpoint_dir = environ.get("STERNA_CHECKPOINT_DIR") or None
        self._resume_from = environ.get("STERNA_RESUME_FROM") or None
        self._stop_file = environ.get("STERNA_STOP_FILE") or None
        result = environ.get("STERNA_RESULT_FILE")
        self._result = Path(result) if self.job_id and result else None
        self.stop_signum = signal.Signals[f"SIG{environ.get('STERNA_STOP_SIGNAL') or 'TERM'}"]
        """What announces a stop."""
        self._signalled = threading.Event()
        self._period_s = 1.0 / reports_per_s
        self._written_s = float("-inf")
        self._progress: dict[str, object] = {"pid": os.getpid()}

    def catch_signal(self) -> None:
        """Turn the stop signal into `should_stop`. Only the main thread can; elsewhere the file is enough."""
        if self.job_id and threading.current_thread() is threading.main_thread():
            signal.signal(self.stop_signum, lambda *_: self._signalled.set())

    def should_stop(self) -> bool:
        """Tell whether to stop at the next step boundary, with a checkpoint. Costs a stat."""
        if self._signalled.is_set():
            return True
        return self._stop_file is not None and os.path.exists(self._stop_file)  # noqa: PTH110 - once a step

    def stop_reason(self) -> str | None:
        """Return why; None while there is no request."""
        reason = self._stop_request().get("reason")
        return str(reason) if reason is not None else None

    def stop_deadline_s(self) -> float | None:
        """Return seconds left until the run is killed, >= 0; None while there is no request."""
        deadline = self._stop_request().get("deadline_boottime_s")
        return max(0.0, float(deadline) - _boottime_s()) if isinstance(deadline, (int, float)) else None

    def checkpoint_dir(self) -> Path | None:
        """Return where checkpoints belong; None outside Sterna."""
        return Path(self._checkpoint_dir) if self._checkpoint_dir else None

    def resume_from(self) -> Path | None:
        """Return the checkpoint to resume from, as a private copy; None for a fresh start."""
        return Path(self._resume_from) if self._resume_from else None

    def started(self, step: int) -> None:
        """Tell the step that was resumed from (0 when fresh), before the first new one."""
        self._progress.update(start_step=step, step=step)
        self._write_progress()

    def report(self, step: int, **metrics: float) -> None:
        """Tell that `step` is done, with figures for people. Cheap: most calls write nothing."""
        first = "first_step_s" not in self._progress
        if first:
            self._progress.setdefault("start_step", step - 1)
            self._progress["first_step_s"] = _boottime_s()
        self._progress.update(step=step, metrics=metrics)
        if first or self.report_is_due():
            self._write_progress()

    def report_is_due(self) -> bool:
        """Tell whether the next `report` is written; figures that cost something need only be made then."""
        return _boottime_s() - self._written_s >= self._period_s

    def checkpoint_saved(self, path: str | os.PathLike[str], step: int) -> None:
        """Tell that the checkpoint of `step` is complete at `path`, a file or a directory."""
        self._progress["checkpoint"] = {"path": str(Path(path).absolute()), "step": step}
        self._write_progress()

    def stopped(self, step: int) -> int:
        """Record, durably, that the run stopped at `step` with its last `checkpoint_saved`.

        Returns
        -------
        int
            What to exit with.
        """
        self._end("stopped", step)
        return STOPPED_EXIT_CODE

    def completed(self, step: int) -> None:
        """Record, durably, that the training is done."""
        self._end("completed", step)

    def _end(self, outcome: str, step: int) -> None:
        self._progress["step"] = step
        self._write_progress()
        if self._result is not None:
            checkpoint = self._progress.get("checkpoint")
            _replace(self._result, {"outcome": outcome, "step": step, "checkpoint": checkpoint}, durable=True)

    def _write_progress(self) -> None:
        if self._result is not None:
            self._written_s = _boottime_s()
            _replace(self._result.with_name(PROGRESS_FILE), self._progress, durable=False)

    def _stop_request(self) -> dict[str, object]:
        if self._stop_file is None:
            return {}
        try:
            request = json.loads(Path(self._stop_file).read_text())
        except (OSError, ValueError):
            return {}
        return request if isinstance(request, dict) else {}


def _replace(path: Path, record: Mapping[str, object], *, durable: bool) -> None:
    """Write a JSON file and rename it into place, so that a reader never sees half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        json.dump(record, file)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@lru_cache(maxsize=1)
def current() -> Job:
    """Return this process's run; the first call also catches the stop signal."""
    job = Job(os.environ)
    job.catch_signal()
    return job


def should_stop() -> bool:
    """See `Job.should_stop`."""
    return current().should_stop()


def stop_reason() -> str | None:
    """See `Job.stop_reason`."""
    return current().stop_reason()


def stop_deadline_s() -> float | None:
    """See `Job.stop_deadline_s`."""
    return current().stop_deadline_s()


def checkpoint_dir() -> Path | None:
    """See `Job.checkpoint_dir`."""
    return current().checkpoint_dir()


def resume_from() -> Path | None:
    """See `Job.resume_from`."""
    return current().resume_from()


def started(step: int) -> None:
    """See `Job.started`."""
    current().started(step)


def report(step: int, **metrics: float) -> None:
    """See `Job.report`."""
    current().report(step, **metrics)


def checkpoint_saved(path: str | os.PathLike[str], step: int) -> None:
    """See `Job.checkpoint_saved`."""
    current().checkpoint_saved(path, step)


def stopped(step: int) -> int:
    """See `Job.stopped`."""
    return current().stopped(step)


def completed(step: int) -> None:
    """See `Job.completed`."""
    current().completed(step)
