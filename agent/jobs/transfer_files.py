"""The two ends of a transfer on disk, blocking: chunks read from the store, chunks gathered in staging.

A staging folder is ``manifest.json`` and ``files/``, with ``NAME.received``, the bitmap, beside it. A bit is
set once its chunk was verified and written; bitmap and bytes outlive the process. After a power cut they may
disagree, so whoever opens a staging folder hashes what the bitmap claims and believes only that.
"""

import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from agent.core import manifest as manifests
from agent.core.bitmap import Bitmap, Run
from agent.core.manifest import Extent, Layout
from agent.jobs import checkpoint_files as disk
from agent.jobs.checkpoints import CheckpointStore
from agent.model.jobs import Checkpoint, Manifest
from sterna.errors import CorruptError, TransientError
from sterna.trainers import complete

MESSAGE_BYTES = 1024 * 1024


class ChunkReader:
    """Reads chunks of a checkpoint.

    Parameters
    ----------
    folder : Path
        What the manifest's paths are relative to.
    layout : Layout
        Of its manifest.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self.layout = layout

    def read(self, index: int, buffer: bytearray) -> memoryview:
        """Read one chunk into `buffer`, which holds at least a chunk; return the part that was filled.

        Buffers are the caller's to use again: a new megabyte per message costs more in page faults than the
        copy that it saves.

        Raises
        ------
        CorruptError
            The files are not there or too short, or the disk does not give them back.
        TransientError
            They cannot be read now.
        """
        view = memoryview(buffer)
        filled_bytes = 0
        for extent in self.layout.extents(index):
            path, part = self._folder / extent.path, view[filled_bytes : filled_bytes + extent.length_bytes]
            try:
                disk.reading(path, partial(_read_fully, path, part, extent))
            except (FileNotFoundError, disk.UnreadableError) as error:
                raise CorruptError(f"checkpoint file {extent.path} cannot be read: {error}") from error
            except OSError as error:
                raise TransientError(f"checkpoint file {extent.path} cannot be read now: {error}") from error
            filled_bytes += extent.length_bytes
        return view[:filled_bytes]


def _read_fully(path: Path, part: memoryview, extent: Extent) -> None:
    done = 0
    with path.open("rb", buffering=0) as file:
        while done < len(part):
            length = os.preadv(file.fileno(), [part[done:]], extent.offset_bytes + done)
            if length == 0:
                raise CorruptError(f"checkpoint file {extent.path} is too short")
            done += length


def _write_from(pieces: deque[memoryview], fd: int, extent: Extent) -> None:
    """Fill an extent from the left of `pieces`, which lose what was written."""
    done_bytes = 0
    while done_bytes < extent.length_bytes:
        piece = pieces.popleft()
        part = piece[: extent.length_bytes - done_bytes]
        disk.write_at(fd, part, extent.offset_bytes + done_bytes)
        done_bytes += len(part)
        if len(part) < len(piece):
            pieces.appendleft(piece[len(part) :])


class Staging:
    """A checkpoint on its way in. `store` may be called from several threads.

    Parameters
    ----------
    folder : Path
        From `CheckpointStore.fetch_staging`.
    manifest : Manifest
        Valid, and the one that was ordered.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.layout = Layout.of(manifest)
        self.files = folder / "files"
        self._bitmap_path = folder.with_name(folder.name + ".received")
        self._bitmap = Bitmap(self.layout.chunks)
        # There while something else than `store` writes to the files: then the bitmap says too little.
        self._distrusted_path = folder.with_name(folder.name + ".difference")
        self._lock = threading.Lock()
        self._bitmap_fd: int | None = None

    def open(self, stop: threading.Event) -> None:
        """Make the files, or go on with what a former process gathered, after a look at every byte of it."""
        wanted = manifests.encode(self.manifest)
        manifest_path = self.folder / "manifest.json"
        if manifest_path.exists() and manifest_path.read_bytes() == wanted and self._bitmap_path.exists():
            self._bitmap = Bitmap(self.layout.chunks, self._bitmap_path.read_bytes())
            distrusted = self._distrusted_path.exists()
            self._look_at(range(self.layout.chunks) if distrusted else tuple(self._bitmap), stop)
        else:
            disk.remove(self.files)
            disk.remove(self._bitmap_path)
            for file in self.manifest.files:
                path = self.files / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as made:
                    made.truncate(file.size_bytes)
            disk.write_durable(manifest_path, wanted)
        disk.write_durable(self._bitmap_path, self._bitmap.to_bytes())
        disk.remove(self._distrusted_path)
        self._bitmap_fd = os.open(self._bitmap_path, os.O_WRONLY | os.O_CLOEXEC)

    def distrust(self) -> None:
        """Say, durably, that the files are about to be filled past `store`: nothing of them is believed."""
        disk.write_durable(self._distrusted_path, b"")
        self._bitmap = Bitmap(self.layout.chunks)
        self._write_bitmap()

    def believe_bytes(self, stop: threading.Event, first: int = 0, beyond: int | None = None) -> None:
        """Look at chunks that are not believed yet, and have those that are as the manifest says.

        Parameters
        ----------
        stop : threading.Event
            Set it to have it abandoned.
        first : int
            Chunk to begin with.
        beyond : int or None
            Chunk to stop before; None: all the rest, and whoever filled the files has ended.
        """
        ends = self.layout.chunks if beyond is None else beyond
        self._look_at([index for index in range(first, ends) if index not in self._bitmap], stop)
        self._write_bitmap()
        if beyond is None:
            disk.remove(self._distrusted_path)

    def _write_bitmap(self) -> None:
        with self._lock:
            if self._bitmap_fd is None:
                raise disk.Abandoned
            os.pwrite(self._bitmap_fd, self._bitmap.to_bytes(), 0)

    def _look_at(self, indices: Iterable[int], stop: threading.Event) -> None:
        reader = ChunkReader(self.files, self.layout)
        buffer = bytearray(self.manifest.chunk_bytes)
        for index in indices:
            if stop.is_set():
                raise disk.Abandoned
            try:
                intact = self._matches(index, [reader.read(index, buffer)])
            except CorruptError:
                intact = False
            (self._bitmap.add if intact else self._bitmap.discard)(index)

    def close(self) -> None:
        """Let go of the bitmap's descriptor; what was gathered stays."""
        with self._lock:
            if self._bitmap_fd is not None:
                os.close(self._bitmap_fd)
                self._bitmap_fd = None

    def missing(self, longest: int) -> tuple[Run, ...]:
        """List what is still to come, in runs of at most `longest` chunks."""
        return self._bitmap.missing_runs(longest)

    @property
    def missing_bytes(self) -> int:
        """Bytes still to come."""
        runs = self._bitmap.missing_runs(self.layout.chunks + 1)
        return sum(
            self.layout.chunk_size_bytes(index)
            for run in runs
            for index in range(run.first, run.first + run.count)
        )

    def store(self, index: int, pieces: Sequence[memoryview]) -> bool:
        """Verify a chunk, which came in pieces, and write it.

        Returns
        -------
        bool
            False when it is not the chunk that the manifest names: nothing was written.
        """
        if not self._matches(index, pieces):
            return False
        left = deque(pieces)
        for extent in self.layout.extents(index):
            fd = os.open(self.files / extent.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                _write_from(left, fd, extent)
            finally:
                os.close(fd)
        with self._lock:
            if self._bitmap_fd is None:
                raise disk.Abandoned
            self._bitmap.add(index)
            position, byte = self._bitmap.byte_of(index)
            os.pwrite(self._bitmap_fd, byte, position)
        return True

    def _matches(self, index: int, pieces: Iterable[memoryview]) -> bool:
        import blake3  # 0.6 MB, which an agent without a checkpoint does not need

        hasher = blake3.blake3()
        for piece in pieces:
            hasher.update(piece)
        return hasher.digest() == self.manifest.chunk_hashes[index]

    def require_space(self, free_bytes: int) -> None:
        """Refuse before the first byte what cannot end well.

        Raises
        ------
        TransientError
            More is to come than is free.
        """
        if self.missing_bytes > free_bytes:
            raise TransientError(f"no space: {self.missing_bytes} bytes are to come, {free_bytes} are free")

    async def publish(self, store: CheckpointStore) -> Checkpoint:
        """Make everything durable and move it into the store.

        Raises
        ------
        CorruptError
            It is what its manifest says, and yet no trainer could load it.
        """
        await disk.in_thread(self._sync)
        fault = await disk.in_thread(lambda _: complete.fault(self.files / manifests.top_name(self.manifest)))
        if fault:
            raise CorruptError(f"the checkpoint cannot be loaded: {fault}")
        checkpoint = await store.publish(self.folder, self.manifest)
        self.close()
        await disk.in_thread(lambda _: disk.remove(self._bitmap_path))
        return checkpoint

    def _sync(self, stop: threading.Event) -> None:
        for file in self.manifest.files:
            if stop.is_set():
                raise disk.Abandoned
            with (self.files / file.path).open("rb") as done:
                os.fsync(done.fileno())
        disk.sync_folders(self.files)
