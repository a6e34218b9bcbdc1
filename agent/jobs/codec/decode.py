"""A container, and the earlier checkpoint that it was made beside, back into files: the same bits or none.

The receiver's side. Everything read here may be forged: sizes are held to a bound, paths to the target,
every stretch to its hash, and nothing lies at the target before all is.
"""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import blake3
import numpy as np

from agent.core.codec_plan import Codec
from agent.jobs.codec import container
from agent.jobs.codec.container import ALONE, Entry, FileEntries
from agent.jobs.codec.encode import Progress, open_base, partial_of
from agent.jobs.codec.extents import BLOCK_BYTES, Stretch
from agent.jobs.codec.packing import Packer
from sterna.errors import CorruptError


def decode(
    source: Path,
    target: Path,
    old: Path | None = None,
    *,
    max_bytes: int,
    progress: Progress = lambda _: None,
) -> int:
    """Make the files of a container at `target`, which must not exist, durable; return their bytes.

    Parameters
    ----------
    source : Path
        The container.
    target : Path
        A folder or, for a checkpoint of a single file, a file.
    old : Path or None
        The earlier checkpoint, of the same bytes as at the encoder.
    max_bytes : int
        Most that may be written, as a manifest that is trusted has it.
    progress : callable
        Told of bytes written, each time some more.

    Raises
    ------
    CorruptError
        The container, or the earlier checkpoint, is not what it should be; the message names file and
        tensor. Nothing is left at the target.
    OSError
        The disk is full or failed.
    """
    partial = partial_of(target)
    _remove(partial)
    try:
        with source.open("rb") as file:
            files, size_bytes = _load(file, max_bytes)
            decoder = _Decoder(file, old, progress)
            for entries in files:
                path = partial if entries.path == ALONE else partial / entries.path
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as made:
                    decoder.fill(entries, made.fileno())
                    os.fsync(made.fileno())
            _expect_end(file)
        partial.rename(target)
    finally:
        _remove(partial)
    return size_bytes


def decode_into(
    source: BinaryIO,
    target: Path,
    old: Path | None = None,
    *,
    max_bytes: int,
    progress: Progress = lambda _: None,
) -> int:
    """Fill the files that are at `target`, of their full size, from a container that is still arriving.

    What was filled before a fault stays, undurable and for the caller to verify. Parameters are those of
    `decode`.

    Raises
    ------
    CorruptError
        As `decode`; or a file is not there or has another size.
    OSError
        The disk is full or failed.
    """
    files, size_bytes = _load(source, max_bytes)
    decoder = _Decoder(source, old, progress)
    for entries in files:
        try:
            handle = (target if entries.path == ALONE else target / entries.path).open("r+b")
        except FileNotFoundError as error:
            raise CorruptError(f"container: {entries.path}: no such file is expected") from error
        with handle:
            expected_bytes = os.fstat(handle.fileno()).st_size
            if entries.size_bytes != expected_bytes:
                raise CorruptError(
                    f"container: {entries.path}: {entries.size_bytes} bytes, {expected_bytes} are expected"
                )
            decoder.fill(entries, handle.fileno())
    _expect_end(source)
    return size_bytes


def _load(source: BinaryIO, max_bytes: int) -> tuple[tuple[FileEntries, ...], int]:
    files = container.load(source)
    size_bytes = sum(entries.size_bytes for entries in files)
    if size_bytes > max_bytes:
        raise CorruptError(f"container: makes {size_bytes} bytes, more than the {max_bytes} expected")
    return files, size_bytes


def _expect_end(source: BinaryIO) -> None:
    if source.read(1):
        raise CorruptError("container: goes on behind its end")


class _Decoder:
    """Buffers, and where the container is being read."""

    def __init__(self, source: BinaryIO, old: Path | None, progress: Progress) -> None:
        self._source = source
        self._old = old
        self._progress = progress
        self._packer = Packer()
        self._buffer = np.empty(BLOCK_BYTES, np.uint8)
        self._base_buffer = np.empty(BLOCK_BYTES, np.uint8)

    def fill(self, file: FileEntries, fd: int) -> None:
        """Write one file, open for writing."""
        for entry in file.entries:
            what = container.what(file.path, entry)
            try:
                self._stretch(entry, Stretch(fd, file.extents(entry), what))
            except CorruptError as error:
                raise CorruptError(f"container: {what}: {error}") from error

    def _stretch(self, entry: Entry, new: Stretch) -> None:
        hasher = blake3.blake3()
        with ExitStack() as stack:
            old = None
            if entry.base is not None:
                if self._old is None:
                    raise CorruptError("needs an earlier checkpoint")
                old = open_base(stack, self._old, entry.base, new.extents)
            for position, length in new.blocks():
                block = self._buffer[:length]
                self._block(entry, old, position, block)
                hasher.update(block.data)
                new.write(position, block.data)
                self._progress(length)
            if hasher.digest() != entry.digest:
                raise CorruptError(self._culprit(entry, old))

    def _block(
        self,
        entry: Entry,
        old: Stretch | None,
        position: int,
        out: "np.ndarray[tuple[int], np.dtype[np.uint8]]",
    ) -> None:
        codec, base = entry.choice.way.codec, None
        if old is not None:
            base = out if codec is Codec.REFERENCE else self._base_buffer[: len(out)]
            old.read(position, base.data)
        if codec is Codec.RAW:
            out[:] = np.frombuffer(self._take(len(out)), np.uint8)
        elif codec is not Codec.REFERENCE:
            self._packer.unpack(self._take, base, entry.choice.way.width_bytes, out)

    def _culprit(self, entry: Entry, old: Stretch | None) -> str:
        """Find out whose fault a wrong hash is."""
        if (
            old is not None
            and entry.base is not None
            and old.digest(self._base_buffer.data) != entry.base.digest
        ):
            return f"the earlier {entry.base.path} has other bytes than at the encoder"
        return "differs from its hash"

    def _take(self, size_bytes: int) -> bytes:
        data = self._source.read(size_bytes)
        if len(data) < size_bytes:
            raise CorruptError("the container ends early")
        return data


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
