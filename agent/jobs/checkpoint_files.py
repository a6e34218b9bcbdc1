"""What is done to files, blocking: listed, written, made durable, removed. It refuses to know checkpoints.

Everything here runs in a thread; what takes long looks at `stop` in between, so that a cancelled caller does
not leave a thread that writes on.
"""

import asyncio
import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent.core import staying
from sterna.errors import CorruptError, PermanentError, TransientError
from sterna.trainers import complete

T = TypeVar("T")
_NS_PER_S = 1_000_000_000
_LOST = frozenset({errno.EIO, errno.ENODATA, errno.EBADMSG, errno.EUCLEAN})
"""What Linux says of bytes that a disk does not give back, or gives back otherwise than they were written."""


class UnreadableError(OSError):
    """A disk did not give back what it holds, twice: it is lost."""


class Abandoned(Exception):  # noqa: N818 - not an error
    """The caller was cancelled; the thread ends here."""


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """Run blocking work in a thread; when cancelled, tell it to stop and wait until it has.

    Raises
    ------
    CorruptError
        The disk did not give back what it held: no better than wrong bytes.
    TransientError
        The disk is full or failed.
    """
    stop = threading.Event()
    task = asyncio.get_running_loop().run_in_executor(None, work, stop)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller hears of
        raise
    except UnreadableError as error:
        raise CorruptError(f"checkpoint store: {error}") from error
    except OSError as error:
        raise TransientError(f"checkpoint store: {error}") from error


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the trainer as it was seen: name in the checkpoint, where it lies, and what would change."""

    name: str
    path: Path
    size_bytes: int
    stamps: tuple[int, int, int, int]
    """Device, inode, mtime and ctime in nanoseconds."""

    @property
    def written_s(self) -> float:
        """Calendar seconds of its last modification."""
        return self.stamps[2] / _NS_PER_S


def scan(source: Path, files: Sequence[str] | None, stays: Sequence[str] = ()) -> tuple[Found, ...]:
    """List what a checkpoint consists of, in order of name, each name beginning with the source's own.

    Parameters
    ----------
    source : Path
        A file, or a folder.
    files : sequence of str or None
        Relative to a source folder; None: everything below it.
    stays : sequence of str
        Those of a folder that stay where they are; see `agent.core.staying`.

    Raises
    ------
    TransientError
        Something vanished, or the trainer says that it is not complete.
    PermanentError
        Something is neither file nor folder, or leads out of the source.
    """
    source = source.resolve()
    try:
        if not source.is_dir():
            return (_found(source, source.parent, source.parent),)
        names = sorted(files) if files is not None else sorted(_below(source))
        marker = next((name for name in names if Path(name).name in complete.MARKERS), None)
        names = [name for name in names if not staying.stays(name, stays)]
        found = tuple(_found(source / name, source.parent, source) for name in names)
    except FileNotFoundError as error:
        raise TransientError(
            f"checkpoint {source.name}: {error.filename} vanished", retry_after_s=1.0
        ) from error
    if marker:
        raise TransientError(
            f"checkpoint {source.name}: {marker} says that it is incomplete", retry_after_s=1.0
        )
    return tuple(sorted(found, key=lambda item: item.name))


def _below(folder: Path) -> Iterator[str]:
    for where, folders, names in os.walk(folder):
        for name in folders:
            if (Path(where) / name).is_symlink():
                raise PermanentError(f"checkpoint {folder.name}: {name} is a link to a folder")
        yield from (os.path.relpath(Path(where) / name, folder) for name in names)


def _found(path: Path, base: Path, inside: Path) -> Found:
    real = path.resolve(strict=True)
    if not real.is_relative_to(inside):
        raise PermanentError(f"checkpoint: {path.name} leads out of {inside.name}")
    status = real.stat()
    if not stat.S_ISREG(status.st_mode):
        raise PermanentError(f"checkpoint: {path.name} is not a file")
    return Found(
        name=path.relative_to(base).as_posix(),
        path=real,
        size_bytes=status.st_size,
        stamps=(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns),
    )


def reading(path: Path, read: Callable[[], T]) -> T:
    """Read from a file; once more where the disk fails, for that may pass.

    Parameters
    ----------
    path : Path
        The file, for the message.
    read : callable
        What reads; called again after a failure.

    Raises
    ------
    UnreadableError
        The disk has failed twice.
    OSError
        It cannot be read for another reason.
    """
    try:
        return read()
    except OSError as error:
        if error.errno not in _LOST:
            raise
    try:
        return read()
    except OSError as error:
        if error.errno not in _LOST:
            raise
        raise UnreadableError(error.errno, error.strerror, str(path)) from error


def write_at(fd: int, data: memoryview, offset_bytes: int) -> None:
    """Write every byte at a position."""
    while data:
        written = os.pwrite(fd, data, offset_bytes)
        data = data[written:]
        offset_bytes += written


def write_durable(path: Path, data: bytes) -> None:
    """Replace a file so that after a crash it holds either the old bytes or the new."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folders(folder: Path) -> None:
    """Make names durable in a folder and all below it."""
    for where, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(where))


def remove(path: Path) -> None:
    """Remove a file or a whole folder; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
