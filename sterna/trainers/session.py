"""What the hooks of all libraries share: one training per process, one voice, one decision to stop."""

from __future__ import annotations

import atexit
import signal
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from sterna import job
from sterna.trainers import complete
from sterna.trainers.voice import say


class Leave(BaseException):
    """Ends the training loop from inside a callback; no library catches it as a failure of its own."""


class Session:
    """The one training of a process that is stopped and resumed.

    Parameters
    ----------
    run : Job
        What Sterna is told through.
    """

    def __init__(self, run: job.Job) -> None:
        self._run = run
        self._resume_from = run.resume_from()
        self._begun = False
        self._catches = False
        self._failed = False
        self._figures: dict[str, float] = {}
        self.saved_step: int | None = None

    def begin(self) -> bool:
        """Tell whether this training is the job's; only the first of a process is.

        Which of several trainings a checkpoint belongs to is nowhere written, so a later one is left
        alone: it is not resumed, and starts anew after a stop.
        """
        if self._begun:
            say(
                "only the first training of a process is stopped with a checkpoint and resumed;"
                " this one is not"
            )
            return False
        self._begun = True
        # A script that catches the signal itself goes on hearing it; the stop file tells us.
        self._catches = signal.getsignal(self._run.stop_signum) in (
            signal.SIG_DFL,
            signal.default_int_handler,
        )
        self.catch_signal()
        return True

    def catch_signal(self) -> None:
        """Take the stop signal, also from a library that would end without a checkpoint."""
        if self._catches:
            self._run.catch_signal()

    def checkpoint_dir(self) -> Path | None:
        """Return where checkpoints belong."""
        return self._run.checkpoint_dir()

    def resume_from(self) -> str | None:
        """Return the checkpoint to go on from; None for a fresh start."""
        return None if self._resume_from is None else str(self._resume_from)

    def started(self, step: int) -> None:
        """Tell the step that the training begins after."""
        if is_first_rank():
            self._run.started(step)

    def report(self, step: int, metrics: Callable[[], Mapping[str, object]]) -> None:
        """Tell that a step is done, with the numbers among its metrics; these are asked for now and then."""
        if not is_first_rank():
            return
        if self._run.report_is_due():
            numbers = {name: value for name, value in metrics().items() if isinstance(value, (int, float))}
            self._figures = {n: float(v) for n, v in numbers.items() if n not in ("self", "step")}
        self._run.report(step, **self._figures)

    def should_stop(self) -> bool:
        """Tell whether to stop now; the same in every rank. Must be asked by all of them at the same step."""
        return agreed(self._run.should_stop())

    def is_asked(self) -> bool:
        """Tell whether this process was asked to stop, whatever the other ranks were."""
        return self._run.should_stop()

    def saved(self, path: str, step: int) -> None:
        """Tell that the library has saved a checkpoint that training can go on from."""
        self.saved_step = step
        if is_first_rank():
            self._run.checkpoint_saved(path, step)

    def stop(self, step: int) -> SystemExit:
        """Record that the run stopped; return what ends the program before the code that follows."""
        barrier()  # a launcher ends the other ranks when one has left
        code = self._run.stopped(step) if is_first_rank() else job.STOPPED_EXIT_CODE
        say(f"stopped at step {step}")
        return SystemExit(code)

    def finish(self, step: int) -> None:
        """Have the end of the training recorded once the code that follows has ended well too."""
        if not is_first_rank():
            return
        hook = sys.excepthook

        def failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            self._failed = True
            hook(kind, error, trace)

        def completed() -> None:
            if not self._failed:
                self._run.completed(step)

        sys.excepthook = failed
        atexit.register(completed)


def is_known(name: str, lowest: tuple[int, ...], below: tuple[int, ...]) -> bool:
    """Tell whether a library's version is one that the hooks were written for; say so when it is not.

    Parameters
    ----------
    name : str
        As its distribution is called.
    lowest, below : tuple of int
        The first version that is known, and the first that is not.
    """
    text = metadata.version(name)
    version = tuple(int(part) for part in text.split("+")[0].split(".")[:2] if part.isdigit())
    if lowest <= version < below:
        return True
    first, last = ".".join(map(str, lowest)), ".".join(map(str, below))
    say(
        f"{name} {text} is not known to these hooks ({first} up to, not including, {last} is); the script"
        " runs as it is and is not stopped with a checkpoint."
        " Save periodically and give the job a checkpoint_glob"
    )
    return False


def agreed(stop: bool) -> bool:
    """Tell whether any rank was asked to stop; a collective where there are several."""
    distributed = _distributed()
    if distributed is None:
        return stop
    torch = sys.modules["torch"]
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    flag = torch.tensor([int(stop)], device=device)
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return bool(flag.item())


def barrier() -> None:
    """Wait for all ranks, where there are several."""
    distributed = _distributed()
    if distributed is not None:
        distributed.barrier()


def is_first_rank() -> bool:
    """Tell whether this process speaks for the job."""
    distributed = _distributed()
    return distributed is None or distributed.get_rank() == 0


def _distributed() -> Any:
    """Return torch.distributed where several ranks have met, else None."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed if distributed.get_world_size() > 1 else None


def set_aside_incomplete(folder: Path, is_checkpoint: Callable[[str], bool]) -> list[Path]:
    """Rename checkpoints that are not complete, so that no library resumes from one.

    Parameters
    ----------
    folder : Path
        Where a trainer keeps its checkpoints; need not exist.
    is_checkpoint : callable
        Tells by name.

    Returns
    -------
    list of Path
        Where they are now.
    """
    moved = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        fault = complete.fault(path) if is_checkpoint(path.name) else None
        if fault is None:
            continue
        target = path.with_name(f"incomplete-{path.name}")
        number = 1
        while target.exists():
            number += 1
            target = path.with_name(f"incomplete-{path.name}.{number}")
        try:
            path.rename(target)
        except FileNotFoundError:  # another rank was faster
            continue
        say(f"{path} is not complete ({fault}); set aside as {target.name}")
        moved.append(target)
    return moved
