"""One pass over the chunks of a checkpoint, in several threads: read, write elsewhere, hash, compare.

Chunks are hashed each by itself, so they need not be taken in order, and neither reading, writing nor hashing
holds the interpreter. Blocking; a thread holds one piece in memory, and looks at `stop` before the next.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from agent.core.manifest import Extent, Layout
from agent.jobs import checkpoint_files as disk
from sterna.errors import CorruptError

PIECE_BYTES = 256 * 1024
"""Small enough to be hashed and written while a core's cache still has it."""
THREADS_MAX = 4
_NO_KERNEL_COPY = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EIO}
)
"""EIO: a copy by way of a buffer tells which of the two files the disk failed with."""


def threads_at_rest() -> int:
    """Return the threads of a pass that a job waits for, so that nothing else needs the processor more."""
    return min(THREADS_MAX, len(os.sched_getaffinity(0)))


class ChunkPass:
    """A pass; see `run`.

    Parameters
    ----------
    layout : Layout
        Which chunks; of its manifest's hashes only `verified_as` makes use.
    locate : callable
        From a file's path in the manifest to where it is read.
    target : Path or None
        Folder below which the files are written, new; None: they are only read.
    hashing : bool
        Whether chunks are hashed.
    verified_as : str
        Name of the checkpoint: every hash is compared with the manifest's. Empty: none is.
    indices : sequence of int or None
        The chunks that are taken, into files that are there; None: all of them, into new files.
    digests : list of bytes or None
        The hash of each chunk, empty where it is to be found; filled as the pass goes. None: all empty.
    """

    def __init__(
        self,
        layout: Layout,
        locate: Callable[[str], Path],
        *,
        target: Path | None = None,
        hashing: bool = True,
        verified_as: str = "",
        indices: Sequence[int] | None = None,
        digests: list[bytes] | None = None,
    ) -> None:
        self._layout = layout
        self._locate = locate
        self._target = target
        self._hashing = hashing
        self._verified_as = verified_as
        self._makes = target is not None and indices is None
        self._indices = range(layout.chunks) if indices is None else indices
        self._digests = [b""] * layout.chunks if digests is None else digests
        self._failed = threading.Event()

    def run(self, stop: threading.Event, threads: int = 1) -> tuple[bytes, ...]:
        """Make the pass.

        Parameters
        ----------
        stop : threading.Event
            Set it to have the pass abandoned.
        threads : int
            At least 1.

        Returns
        -------
        tuple of bytes
            The BLAKE3 of every chunk; empty ones where nothing was hashed.

        Raises
        ------
        CorruptError
            A file is shorter than its manifest says, or a chunk differs from it.
        Abandoned
            `stop` was set.
        UnreadableError
            The disk does not give back what is read.
        OSError
            The disk is full or failed.
        """
        if self._target is not None and self._makes:
            make_files(self._layout, self._target)
        threads = max(1, min(threads, len(self._indices)))
        if threads == 1:
            self._take(0, 1, stop)
        else:
            with ThreadPoolExecutor(threads, thread_name_prefix="pass") as pool:
                parts = [pool.submit(self._take, first, threads, stop) for first in range(threads)]
            faults = [fault for part in parts if (fault := part.exception()) is not None]
            if faults:  # the others gave up because of the first: theirs says nothing
                raise min(faults, key=lambda fault: isinstance(fault, disk.Abandoned))
        return tuple(self._digests)

    def _take(self, first: int, every: int, stop: threading.Event) -> None:
        buffer = memoryview(bytearray(PIECE_BYTES))
        try:
            for index in self._indices[first::every]:
                if not self._digests[index]:
                    self._chunk(index, buffer, stop)
        except BaseException:
            self._failed.set()
            raise

    def _chunk(self, index: int, buffer: memoryview, stop: threading.Event) -> None:
        import blake3  # 0.6 MB, which an agent without a checkpoint does not need

        digest = blake3.blake3()
        extents = self._layout.extents(index)
        for extent in extents:
            if stop.is_set() or self._failed.is_set():
                raise disk.Abandoned
            with _Files(self._locate(extent.path), self._target and self._target / extent.path) as files:
                if not self._hashing and files.copy(extent):
                    continue
                for piece in files.pieces(extent, buffer):
                    if stop.is_set() or self._failed.is_set():
                        raise disk.Abandoned
                    if self._hashing:
                        digest.update(piece)
        if self._hashing:
            self._digests[index] = digest.digest()
        if self._verified_as and self._digests[index] != self._layout.manifest.chunk_hashes[index]:
            paths = ", ".join(extent.path for extent in extents)
            raise CorruptError(f"checkpoint {self._verified_as}: chunk {index} differs, in {paths}")


class _Files:
    """A file that is read, and its copy, if one is made."""

    def __init__(self, source: Path, target: Path | None) -> None:
        self._source = source
        self._reader = disk.reading(source, lambda: os.open(source, os.O_RDONLY | os.O_CLOEXEC))
        self._writer: int | None = None
        if target is not None:
            try:
                self._writer = os.open(target, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except BaseException:
                os.close(self._reader)
                raise

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._reader)
        if self._writer is not None:
            os.close(self._writer)

    def copy(self, extent: Extent) -> bool:
        """Have the kernel copy a stretch, half as dear as by way of a buffer; False where it cannot."""
        if self._writer is None:
            return False
        at_bytes, left_bytes = extent.offset_bytes, extent.length_bytes
        while left_bytes:
            try:
                done = os.copy_file_range(self._reader, self._writer, left_bytes, at_bytes, at_bytes)
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY:
                    raise
                return False
            if done == 0:
                raise CorruptError(f"checkpoint file {extent.path} is too short")
            at_bytes, left_bytes = at_bytes + done, left_bytes - done
        return True

    def pieces(self, extent: Extent, buffer: memoryview) -> Iterator[memoryview]:
        """Read a stretch, piece by piece; each is written to the copy before it is given."""
        done_bytes = 0
        while done_bytes < extent.length_bytes:
            offset_bytes = extent.offset_bytes + done_bytes
            wanted = buffer[: extent.length_bytes - done_bytes]
            length = disk.reading(self._source, partial(os.preadv, self._reader, [wanted], offset_bytes))
            if length == 0:
                raise CorruptError(f"checkpoint file {extent.path} is too short")
            piece = wanted[:length]
            if self._writer is not None:
                disk.write_at(self._writer, piece, offset_bytes)
            yield piece
            done_bytes += length


def make_files(layout: Layout, target: Path) -> None:
    """Make the files of a checkpoint below a folder, empty but of their full size."""
    for file in layout.manifest.files:
        path = target / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as made:
            made.truncate(file.size_bytes)
