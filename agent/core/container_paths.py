"""Paths in a container of ours, the same at every site, and paths of the host that one can have. Pure."""

import posixpath

RUN = "/sterna/run"
"""The shared folder of the run directory, in the container."""
PYTHON = "/sterna/python"
"""The folder that holds the package `sterna`, in the container."""
HOOKS = f"{PYTHON}/sterna/trainers/path"
"""First on a job's PYTHONPATH there; see `sterna.trainers`."""

_UNQUOTABLE = frozenset(',"\n\0')


def can_mount(path: str) -> bool:
    """Tell whether a path, of the host or in a container, can be written down as one end of a mount."""
    return posixpath.isabs(path) and not _UNQUOTABLE & set(path)


def within_run(path: str) -> str | None:
    """Return a path that a program names, relative to what it shares with us; None: it is not in there."""
    inside = posixpath.normpath(path)
    return inside.removeprefix(f"{RUN}/") if inside.startswith(f"{RUN}/") else None
