"""Transformers' Trainer: saves and ends on a stop, reports its steps, resumes from what Sterna brought."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from sterna import job
from sterna.trainers import complete
from sterna.trainers.session import Leave, Session, is_first_rank, is_known, set_aside_incomplete

LOWEST = (4, 46)
BELOW = (6,)

_NUMBERED = re.compile(r"checkpoint-\d+\Z")


def patch_utils(module: ModuleType) -> None:
    """Have scripts that look for the last checkpoint themselves find the one that Sterna brought.

    Parameters
    ----------
    module : module
        ``transformers.trainer_utils``.
    """
    find = module.get_last_checkpoint

    @functools.wraps(find)
    def get_last_checkpoint(folder: str) -> Any:
        set_aside_incomplete(Path(folder), is_checkpoint)
        resume = job.Job(os.environ).resume_from()
        # What lies in the folder beside it is of an earlier stay, or was never sealed.
        return str(resume) if resume is not None and _is_ours(resume) else find(folder)

    module.get_last_checkpoint = get_last_checkpoint  # type: ignore[attr-defined]


def patch_trainer(module: ModuleType) -> None:
    """Have the first ``Trainer.train()`` of the process stopped and resumed.

    Parameters
    ----------
    module : module
        ``transformers.trainer``.
    """
    if not is_known("transformers", LOWEST, BELOW):
        return
    session = Session(job.Job(os.environ))
    callback_class = type("SternaCallback", (Watch, module.TrainerCallback), {})
    train = module.Trainer.train

    @functools.wraps(train)
    def wrapper(self: Any, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        is_trial = bool(kwargs.get("trial") or (args and args[0]))
        if is_trial or not session.begin():
            return train(self, resume_from_checkpoint, *args, **kwargs)
        resume = _resume(session, self.args.output_dir, resume_from_checkpoint)
        watch = callback_class(session)
        self.add_callback(watch)
        return _train(session, self, watch, lambda: train(self, resume, *args, **kwargs))

    module.Trainer.train = wrapper


def _train(session: Session, trainer: Any, watch: Any, train: Callable[[], Any]) -> Any:
    """Run the training to its end or to a stop."""
    try:
        outcome = train()
    except Leave:
        pass
    else:
        if not watch.is_stopping():
            session.finish(trainer.state.global_step)
            trainer.remove_callback(watch)
            return outcome
    step = trainer.state.global_step
    if session.saved_step != step:  # stopped while evaluating, or by the library's own signal handler
        path = _folder(trainer.args, step)
        if not path.is_dir() or complete.fault(path) is not None:
            trainer.args.save_only_model = False
            trainer._save_checkpoint(trainer.model, trial=None)
        session.saved(str(path), step)
    raise session.stop(step) from None


class Watch:
    """The callbacks; made one of the library's by `patch_trainer`.

    Parameters
    ----------
    session : Session
        Whose training this is.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._metrics: dict[str, object] = {}
        self._stopping = False

    def is_stopping(self) -> bool:
        """Tell whether the training was ended before its time."""
        self._stopping = self._stopping or self._session.should_stop()
        return self._stopping

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Tell where the training begins."""
        self._session.started(state.global_step)

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        """Keep the figures for the next report."""
        self._metrics = dict(logs or {})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Report the step; on a stop have it saved, with all that a resume needs, and nothing else done."""
        self._session.report(state.global_step, lambda: self._metrics)
        if self.is_stopping():
            args.save_only_model = False
            control.should_save = True
            control.should_evaluate = False
        return control

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Tell of the checkpoint; on a stop it was the last thing to do."""
        if not args.save_only_model:
            self._session.saved(str(_folder(args, state.global_step)), state.global_step)
        if self._stopping:
            raise Leave

    def on_prediction_step(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Leave an evaluation on a stop: they take minutes."""
        if self.is_stopping():
            raise Leave


def is_checkpoint(name: str) -> bool:
    """Tell whether the library takes a folder of this name for a checkpoint."""
    return _NUMBERED.match(name) is not None


def _folder(args: Any, step: int) -> Path:
    return Path(args.output_dir).absolute() / f"checkpoint-{step}"


def _resume(session: Session, output_dir: str, asked: Any) -> Any:
    """Return what to resume from: what the script names, else what Sterna brought."""
    if is_first_rank():
        set_aside_incomplete(Path(output_dir), is_checkpoint)
    ours = session.resume_from()
    if ours is None or not _is_ours(Path(ours)):
        return asked
    is_named = isinstance(asked, str) and Path(asked).is_dir()
    return asked if is_named else ours


def _is_ours(resume: Path) -> bool:
    """Tell whether the checkpoint that Sterna brought is one of this library."""
    return (resume / complete.TRAINER_STATE).is_file()
