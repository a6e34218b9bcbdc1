"""Acts on a library right after the program imports it; imports none itself.

A program that imports none of them pays for one dictionary look-up per import.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from sterna.trainers.voice import say

Patch = Callable[[ModuleType], None]


class PostImport:
    """A meta path finder that finds nothing: it has modules patched once they were executed.

    Parameters
    ----------
    patches : mapping of str to callable
        By full module name; called with the module.
    """

    def __init__(self, patches: Mapping[str, Patch]) -> None:
        self._patches = dict(patches)

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Let the others find it, and stand behind its execution."""
        patch = self._patches.pop(name, None)
        if patch is None:
            return None
        # Taken off first, so that this look-up, which passes here again, reaches the others.
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            apply(patch, module)

        # A source loader serves one module, so this reaches no other.
        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


def apply(patch: Patch, module: ModuleType) -> None:
    """Patch a module; when that fails, say so and leave the program alone."""
    try:
        patch(module)
    except Exception as error:  # whatever it is, the program must run
        say(f"{module.__name__} is not hooked, the script runs as it is: {error!r}")


def install(environ: Mapping[str, str]) -> None:
    """Wait for the libraries that are known; nothing outside a job.

    Parameters
    ----------
    environ : mapping
        The process's environment.
    """
    if not environ.get("STERNA_JOB_ID") or not environ.get("STERNA_RESULT_FILE"):
        return
    sys.meta_path.insert(0, PostImport(_PATCHES))


def _huggingface(module: ModuleType) -> None:
    from sterna.trainers import huggingface

    huggingface.patch_trainer(module)


def _huggingface_utils(module: ModuleType) -> None:
    from sterna.trainers import huggingface

    huggingface.patch_utils(module)


def _lightning(module: ModuleType) -> None:
    from sterna.trainers import lightning

    lightning.patch(module)


def _torch_worker(module: ModuleType) -> None:
    from sterna.trainers import workers

    workers.patch(module)


_PATCHES: Mapping[str, Patch] = {
    "transformers.trainer": _huggingface,
    "transformers.trainer_utils": _huggingface_utils,
    "lightning.pytorch.trainer.trainer": _lightning,
    "pytorch_lightning.trainer.trainer": _lightning,
    "torch.utils.data._utils.worker": _torch_worker,
}
