"""Lightning's Trainer: saves and ends on a stop, reports its steps, resumes from what Sterna brought.

Lightning saves no random numbers. They are saved here, in our callback's state, and set again where
training goes on; a run without this callback ignores them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from sterna import job
from sterna.trainers.session import Leave, Session, is_known

LOWEST = (2, 2)
BELOW = (3,)


def patch(module: ModuleType) -> None:
    """Have the first ``Trainer.fit()`` of the process stopped and resumed.

    Parameters
    ----------
    module : module
        ``lightning.pytorch.trainer.trainer`` or ``pytorch_lightning.trainer.trainer``.
    """
    package = module.__name__.removesuffix(".trainer.trainer")
    if not is_known(package.split(".")[0].replace("_", "-"), LOWEST, BELOW):
        return
    session = Session(job.Job(os.environ))
    base = importlib.import_module(f"{package}.callbacks.callback").Callback
    callback_class = type("SternaCallback", (Watch, base), {})
    fit, save = module.Trainer.fit, module.Trainer.save_checkpoint
    signature = inspect.signature(fit)

    @functools.wraps(fit)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.fast_dev_run or not session.begin():
            return fit(self, *args, **kwargs)
        call = signature.bind(self, *args, **kwargs)
        call.arguments["ckpt_path"] = _resume(session, call.arguments.get("ckpt_path"))
        watch = callback_class(session)
        self.callbacks.append(watch)
        try:
            outcome = fit(*call.args, **call.kwargs)
        except (Leave, SystemExit):
            if watch.saved_step is None:
                raise
            raise session.stop(watch.saved_step) from None
        self.callbacks.remove(watch)
        session.finish(self.global_step)
        return outcome

    @functools.wraps(save)
    def save_checkpoint(
        self: Any, filepath: Any, weights_only: Any = False, *args: Any, **kwargs: Any
    ) -> Any:
        outcome = save(self, filepath, weights_only, *args, **kwargs)
        if not weights_only and any(isinstance(callback, callback_class) for callback in self.callbacks):
            session.saved(str(filepath), self.global_step)
        return outcome

    module.Trainer.fit, module.Trainer.save_checkpoint = wrapper, save_checkpoint


class Watch:
    """The callback; made one of the library's by `patch`.

    Parameters
    ----------
    session : Session
        Whose training this is.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._random: dict[str, Any] | None = None
        self.saved_step: int | None = None
        """Optimizer steps in the checkpoint that was saved on the way out."""

    def on_train_start(self, trainer: Any, _module: Any) -> None:
        """Tell where the training begins; take back the signal, on which Lightning ends without saving."""
        self._session.catch_signal()
        self._session.started(trainer.global_step)
        loop = trainer.fit_loop
        if self._random is not None and loop.epoch_loop.batch_progress.is_last_batch:
            # Left between two epochs: the next one's order is drawn now, from the numbers as they were.
            set_random(self._random)
            self._random = None
            iter(loop._data_fetcher)

    def on_train_batch_start(self, _trainer: Any, _module: Any, _batch: Any, _index: int) -> None:
        """Set the random numbers before the first new batch is trained on."""
        if self._random is not None:
            set_random(self._random)
            self._random = None

    def on_train_batch_end(self, trainer: Any, _module: Any, _outputs: Any, _batch: Any, _index: int) -> None:
        """Report the step; on a stop leave, but never with gradients half gathered."""
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return
        self._session.report(trainer.global_step, lambda: _figures(trainer.callback_metrics))
        self._leave_on_stop()

    def on_validation_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        """Leave an evaluation on a stop: they take minutes."""
        if not trainer.sanity_checking:
            self._leave_on_stop()

    def on_exception(self, trainer: Any, _module: Any, exception: BaseException) -> None:
        """Save, on the way out; Lightning finishes what it writes in the background before it ends."""
        # SystemExit: Lightning's own way to end on SIGTERM, where a script's handler kept us from ours.
        if isinstance(exception, Leave) or (isinstance(exception, SystemExit) and self._session.is_asked()):
            step = trainer.global_step
            folder = self._session.checkpoint_dir() or Path(trainer.default_root_dir)
            trainer.save_checkpoint(folder / f"sterna-step={step}.ckpt")
            self.saved_step = step

    def state_dict(self) -> dict[str, Any]:
        """Return the random numbers of this process."""
        return get_random()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep them until the first batch."""
        self._random = state

    def _leave_on_stop(self) -> None:
        if self._session.should_stop():
            raise Leave


def _resume(session: Session, asked: Any) -> Any:
    """Return what to resume from: what the script names, else what Sterna brought."""
    ours = session.resume_from()
    return ours if ours is not None and asked in (None, "last", "hpc") else asked


def _figures(metrics: Any) -> dict[str, object]:
    """Return what was logged as plain numbers; reading them waits for the device."""
    return {
        name: value.item() for name, value in metrics.items() if getattr(value, "numel", lambda: 0)() == 1
    }


def get_random() -> dict[str, Any]:
    """Return the state of Python's, numpy's and torch's random numbers, in types that a safe load takes."""
    torch = sys.modules["torch"]
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        kind, keys, position, has_gauss, gauss = numpy.random.get_state()
        state["numpy"] = (kind, keys.tolist(), position, has_gauss, gauss)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random(state: dict[str, Any]) -> None:
    """Set what `get_random` returned."""
    torch = sys.modules["torch"]
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(state["torch"].cpu())
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy" in state:
        numpy.random.set_state(tuple(state["numpy"]))
    if "cuda" in state and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])
