"""Room on the disk that is set aside for the day when there is none: given up once, taken back later."""

import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

BALLAST_BYTES = 2 * 2**20


class Ballast:
    """A file of blocks that nobody else can fill.

    Parameters
    ----------
    path : pathlib.Path
        Beside what it is room for.
    size_bytes : int
        How much, > 0.
    """

    def __init__(self, path: Path, size_bytes: int = BALLAST_BYTES) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self.held = False

    def take(self) -> bool:
        """Set the room aside; return whether it is."""
        if not self.held:
            self.held = self._taken()
        return self.held

    def release(self) -> bool:
        """Give the room up; return whether there was any."""
        was_held, self.held = self.held or self._path.exists(), False
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        if was_held:
            log.error("the disk is full: the room set aside is used", extra={"path": str(self._path)})
        return was_held

    def _taken(self) -> bool:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(fd, 0, self._size_bytes)
        except OSError:
            # What was got is somebody else's need.
            with contextlib.suppress(OSError):
                self._path.unlink()
            return False
        finally:
            os.close(fd)
        return True
