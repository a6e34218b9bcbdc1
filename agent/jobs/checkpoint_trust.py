"""Which stored checkpoints were verified a moment ago and are, by their stamps, as they were then.

What was verified in this process within `TRUST_S`, and was not touched since, need not be hashed again before
a start: its bytes would come from the same page cache. Everything else is hashed in full. Nothing of this is
stored: after a restart of the agent, or of the machine, nothing is trusted.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.model.jobs import CheckpointFile
from sterna.clock import Clock

TRUST_S = 600.0
_NS_PER_S = 1_000_000_000

Stamp = tuple[int, int, int, int, int, int]
"""Device, inode, names, size in bytes, mtime and ctime in nanoseconds."""


@dataclass(frozen=True, slots=True)
class _Seen:
    stamps: tuple[Stamp | None, ...]
    at_s: float


class Trust:
    """What was verified lately.

    Parameters
    ----------
    clock : Clock
        Its duration clock is used.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def note(self, checkpoint_id: str, folder: Path, files: Sequence[CheckpointFile]) -> None:
        """Remember that every byte below `folder` has just been found to be right. Blocks briefly.

        A clock of the file system that ticks every few milliseconds would not tell a write that comes right
        after this; so the files get a time of modification that no such write can have. Where
        that cannot be done, the checkpoint is not trusted.
        """
        self.forget(checkpoint_id)
        with suppress(OSError):
            stamps = tuple(_set_apart(folder / file.path) for file in files)
            if None not in stamps:
                self._seen[checkpoint_id] = _Seen(stamps, self._clock.boottime_s())

    def holds(self, checkpoint_id: str, folder: Path, files: Sequence[CheckpointFile]) -> bool:
        """Tell whether a checkpoint need not be hashed again. Blocks briefly."""
        seen = self._seen.get(checkpoint_id)
        if seen is None or self._clock.boottime_s() - seen.at_s > TRUST_S:
            return False
        try:
            return seen.stamps == tuple(_stamp((folder / file.path).stat()) for file in files)
        except FileNotFoundError:
            return False

    def forget(self, checkpoint_id: str) -> None:
        """Trust it no longer."""
        self._seen.pop(checkpoint_id, None)


def _set_apart(path: Path) -> Stamp | None:
    """Give a file its time; None when somebody else has a name for it."""
    status = path.stat()
    if status.st_nlink != 1:
        return None
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - _NS_PER_S))
    return _stamp(path.stat())


def _stamp(status: os.stat_result) -> Stamp:
    return (
        status.st_dev,
        status.st_ino,
        status.st_nlink,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
