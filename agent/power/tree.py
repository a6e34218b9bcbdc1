"""Files below one kernel folder (``/sys`` or a captured copy): the only place that opens them.

Every file is opened without following a link at its end, and only after the kernel has said that what was
opened lies below the root. Links on the way are sysfs's own (``class`` is made of them) and may lead anywhere
below the root, nowhere else.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.power.refusal import Refusal

MOST_BYTES = 64 * 1024


class Tree:
    """One folder that may be read and, where told, written.

    Parameters
    ----------
    root : pathlib.Path
        E.g. ``/sys``; need not exist: everything below it is then missing.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; none when it is missing."""
        try:
            with self._opened(folder, os.O_RDONLY | os.O_DIRECTORY, follow=True) as fd:
                return sorted(os.listdir(fd))  # noqa: PTH208 - of a descriptor
        except OSError:
            return []

    def text(self, file: str) -> str | None:
        """Return a file's content without white space around it; None: it cannot be read now."""
        try:
            with self._opened(file, os.O_RDONLY) as fd:
                return os.read(fd, MOST_BYTES).decode("ascii", "replace").strip()
        except OSError:
            return None

    def integer(self, file: str) -> int | None:
        """Return the number that a file holds; None: it cannot be read or is none."""
        text = self.text(file)
        return int(text) if text is not None and text.isascii() and text.isdigit() else None

    def writable(self, file: str) -> bool:
        """Tell whether a write would be let through: the file is opened for it, and nothing is written."""
        try:
            with self._opened(file, os.O_WRONLY) as fd:
                # Root may open what has no write bit, and the kernel then refuses the write itself.
                return bool(os.fstat(fd).st_mode & 0o222)
        except (OSError, Refusal):
            return False

    def write(self, file: str, value: int) -> None:
        """Write one number in one call.

        Raises
        ------
        Refusal
            ``outside``: the path leads out of the tree. ``io``: the kernel does not take it.
        """
        data = b"%d\n" % value
        try:
            with self._opened(file, os.O_WRONLY) as fd:
                os.write(fd, data)
                # A captured tree has real files: no tail of the old value may stay behind the new one.
                if os.fstat(fd).st_size > len(data):
                    with suppress(OSError):
                        os.ftruncate(fd, len(data))
        except OSError as error:
            raise Refusal("io", f"{file}: not written: {error.strerror}") from error

    @contextmanager
    def _opened(self, name: str, flags: int, *, follow: bool = False) -> Iterator[int]:
        """Open and check where that led; `O_NONBLOCK`, for a pipe put there must not hold us up."""
        flags |= os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        fd = os.open(os.path.join(self._root, name), flags)  # noqa: PTH118 - a hot path, and a str is wanted
        try:
            led_to = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
            if not led_to.startswith(self._root + "/"):
                raise Refusal("outside", f"{name}: leads out of {self._root}")
            if not follow and not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Refusal("outside", f"{name}: is not a plain file")
            yield fd
        finally:
            os.close(fd)
