"""What a former life left in a store's folder: what it was making goes, what it sealed is read."""

import logging
from collections.abc import Callable
from pathlib import Path

from agent.core import manifest as manifests
from agent.jobs import checkpoint_files as disk
from agent.model.jobs import Checkpoint
from sterna.errors import CorruptError

log = logging.getLogger(__name__)

FOLDERS = ("sealed", "staging", "quarantine", "trash")
TWIN = "twin-"
"""Begins the name of a copy that is made beside a fetch; see `agent.jobs.twins`."""


def recover(root: Path, move_aside: Callable[[Path], None]) -> dict[str, Checkpoint]:
    """Clear away what a dead process left, and read what it sealed.

    Parameters
    ----------
    root : Path
        Of the store.
    move_aside : callable
        Puts the folder of a checkpoint into quarantine that is not what it should be, or is lost.

    Raises
    ------
    OSError
        A folder cannot be read, or a file for a reason that may pass: nobody knows what is here.
    """
    clear(root)
    known = {}
    for job in _folders(root / "sealed"):
        for folder in _folders(job):
            try:
                known[folder.name] = load(folder)
            except (CorruptError, disk.UnreadableError, FileNotFoundError, NotADirectoryError) as error:
                log.error(
                    "stored checkpoint is not usable, quarantined",
                    extra={"checkpoint_id": folder.name, "reason": str(error)},
                )
                move_aside(folder)
    return known


def _folders(folder: Path) -> list[Path]:
    """List the folders in one; `Path.glob` would take one that may not be read for an empty one."""
    return [path for path in folder.iterdir() if path.is_dir()]


def clear(root: Path) -> None:
    """Make a store's folders where they are missing; remove what a dead process was making or removing.

    A fetch goes on from what it has gathered, so that stays.
    """
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    staging = root / "staging"
    for left in (*(root / "trash").iterdir(), *staging.glob("*/seal-*"), *staging.glob(f"*/{TWIN}*")):
        disk.remove(left)
    for bitmap in staging.glob("*/fetch-*.received"):
        if not bitmap.with_suffix("").exists():
            disk.remove(bitmap)


def load(folder: Path) -> Checkpoint:
    """Read a sealed checkpoint's manifest, and compare the sizes of its files.

    Raises
    ------
    CorruptError, OSError
        It is not usable.
    """
    path = folder / "manifest.json"
    manifest = manifests.decode(disk.reading(path, path.read_bytes))
    if manifests.checkpoint_id(manifest) != folder.name or manifest.job_id != folder.parent.name:
        raise CorruptError("its manifest is not the one that names it")
    for file in manifest.files:
        path = folder / "files" / file.path
        if disk.reading(path, path.stat).st_size != file.size_bytes:
            raise CorruptError(f"{file.path} has another size")
    return Checkpoint(checkpoint_id=folder.name, manifest=manifest)
