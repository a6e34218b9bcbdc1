"""What is done to the files of a checkpoint, blocking: copy, hash, verify, make durable, remove.

Everything here runs in a thread, reads and writes at most 1 MiB at a time, and looks at `stop` in between, so
that a cancelled caller does not leave a thread that writes on. It refuses to know what checkpoints there are.
"""

import asyncio
import errno
import fcntl
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import blake3

from agent.core.manifest import Layout
from agent.model.jobs import CheckpointFile
from sterna.errors import CorruptError, PermanentError, TransientError
from sterna.trainers import complete

BUFFER_BYTES = 1024 * 1024
_FICLONE = 0x40049409
_NO_REFLINK = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM}
)


T = TypeVar("T")


class Abandoned(Exception):  # noqa: N818 - not an error
    """The caller was cancelled; the thread ends here."""


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """Run blocking work in a thread; when cancelled, tell it to stop and wait until it has.

    Raises
    ------
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


def scan(source: Path, files: Sequence[str] | None) -> tuple[Found, ...]:
    """List what a checkpoint consists of, in order of name, each name beginning with the source's own.

    Parameters
    ----------
    source : Path
        A file, or a folder.
    files : sequence of str or None
        Relative to a source folder; None: everything below it.

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
        found = tuple(_found(source / name, source.parent, source) for name in names)
    except FileNotFoundError as error:
        raise TransientError(
            f"checkpoint {source.name}: {error.filename} vanished", retry_after_s=1.0
        ) from error
    marker = next((item.name for item in found if item.path.name in complete.MARKERS), None)
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


class ChunkHasher:
    """BLAKE3 of each chunk of what is fed in, in order."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._hash = blake3.blake3()
        self._filled_bytes = 0
        self.digests: list[bytes] = []

    def update(self, data: memoryview) -> None:
        """Feed the next bytes."""
        while data:
            taken = data[: self._chunk_bytes - self._filled_bytes]
            self._hash.update(taken)
            self._filled_bytes += len(taken)
            data = data[len(taken) :]
            if self._filled_bytes == self._chunk_bytes:
                self._close()

    def finish(self) -> None:
        """Close the last, shorter chunk."""
        if self._filled_bytes:
            self._close()

    def _close(self) -> None:
        self.digests.append(self._hash.digest())
        self._hash = blake3.blake3()
        self._filled_bytes = 0
        self.check()

    def check(self) -> None:
        """Look at the digest that was just added."""


class ChunkVerifier(ChunkHasher):
    """A hasher that raises CorruptError, naming chunk and files, at the first digest that differs."""

    def __init__(self, layout: Layout, name: str) -> None:
        super().__init__(layout.manifest.chunk_bytes)
        self._layout = layout
        self._name = name

    def check(self) -> None:
        """Compare the newest digest with the manifest."""
        index = len(self.digests) - 1
        if self.digests[index] != self._layout.manifest.chunk_hashes[index]:
            paths = ", ".join(extent.path for extent in self._layout.extents(index))
            raise CorruptError(f"checkpoint {self._name}: chunk {index} differs, in {paths}")


def copy_out(found: Sequence[Found], target: Path, hasher: ChunkHasher, stop: threading.Event) -> None:
    """Copy the trainer's files below `target`, durable, out of its reach, hashed on the way."""
    for item in found:
        _copy_file(item.path, target / item.name, hasher, stop, durable=True)
    hasher.finish()
    sync_folders(target)


def copy_verified(
    files: Sequence[CheckpointFile],
    source: Path,
    target: Path,
    verifier: ChunkVerifier,
    stop: threading.Event,
) -> None:
    """Copy stored files below `target` and verify what was copied.

    Raises
    ------
    CorruptError
        A file is missing, has another size, or a chunk differs.
    """
    for file in files:
        try:
            size_bytes = (source / file.path).stat().st_size
        except FileNotFoundError as error:
            raise CorruptError(f"checkpoint file {file.path} is missing") from error
        if size_bytes != file.size_bytes:
            raise CorruptError(f"checkpoint file {file.path} has {size_bytes} bytes, not {file.size_bytes}")
        _copy_file(source / file.path, target / file.path, verifier, stop, durable=False)
    verifier.finish()


def _copy_file(
    source: Path, target: Path, hasher: ChunkHasher, stop: threading.Event, *, durable: bool
) -> None:
    """Reflink where the file system can, else copy. A hard link would not protect: see DESIGN 5."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb", buffering=0) as reader, target.open("xb+", buffering=0) as writer:
        cloned = _clone(reader.fileno(), writer.fileno())
        buffer = memoryview(bytearray(BUFFER_BYTES))
        origin = writer if cloned else reader
        while length := origin.readinto(buffer):
            if stop.is_set():
                raise Abandoned
            hasher.update(buffer[:length])
            if not cloned:
                write_all(writer.fileno(), buffer[:length])
        if durable:
            os.fsync(writer.fileno())


def _clone(source_fd: int, target_fd: int) -> bool:
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError as error:
        if error.errno in _NO_REFLINK:
            return False
        raise
    return True


def write_all(fd: int, data: memoryview) -> None:
    """Write every byte at the current position; a short write is no success."""
    while data:
        data = data[os.write(fd, data) :]


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
