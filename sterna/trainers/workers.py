"""Data-loading processes of torch stay while the trainer saves.

The stop signal goes to the job's whole process group. A loading process would die of it, and torch then
raises in the trainer, before its next step and its checkpoint. The trainer ends its loaders itself, and they
end when it is gone.
"""

from __future__ import annotations

import functools
import os
import signal
from types import ModuleType
from typing import Any


def patch(module: ModuleType) -> None:
    """Have each loading process hold back the stop signal.

    Parameters
    ----------
    module : module
        ``torch.utils.data._utils.worker``.
    """
    loop = module._worker_loop
    signum = signal.Signals[f"SIG{os.environ.get('STERNA_STOP_SIGNAL') or 'TERM'}"]

    @functools.wraps(loop)
    def shielded(*args: Any, **kwargs: Any) -> Any:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signum})
        return loop(*args, **kwargs)

    module._worker_loop = shielded  # type: ignore[attr-defined]
