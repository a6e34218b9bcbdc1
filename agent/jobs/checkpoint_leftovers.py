"""What a former life left in a store's folder: what it was making goes, what it sealed is read."""

from pathlib import Path

from agent.core import manifest as manifests
from agent.jobs import checkpoint_files as disk
from agent.model.jobs import Checkpoint
from sterna.errors import CorruptError

FOLDERS = ("sealed", "staging", "quarantine", "trash")
TWIN = "twin-"
"""Begins the name of a copy that is made beside a fetch; see `agent.jobs.twins`."""


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
