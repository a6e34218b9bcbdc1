"""Stretches of a file, read and written as if they were one. Buffers belong to the caller."""

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import blake3

from sterna.errors import CorruptError

BLOCK_BYTES = 4 * 1024 * 1024
"""Unit of coding and most that is held of a stretch at once; a multiple of every element's width."""

Extents = tuple[tuple[int, int], ...]
"""(offset, length) pairs in bytes, ascending, disjoint, none empty."""


def complement(extents: Iterable[tuple[int, int]], size_bytes: int) -> Extents:
    """Find what `extents` leave of a file."""
    edges = [0, *(edge for offset, length in extents for edge in (offset, offset + length)), size_bytes]
    return tuple((start, end - start) for start, end in list(pairwise(edges))[::2] if end > start)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some extents of an open file, addressed by one position from 0 to `size_bytes`."""

    fd: int
    extents: Extents
    what: str
    """File and tensor, for messages."""
    _starts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        starts = tuple(accumulate((length for _, length in self.extents), initial=0))
        object.__setattr__(self, "_starts", starts)

    @property
    def size_bytes(self) -> int:
        """Bytes of all extents."""
        return self._starts[-1]

    def blocks(self, size_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, int]]:
        """Cut it into (position, length) pairs of at most `size_bytes`."""
        for position in range(0, self.size_bytes, size_bytes):
            yield position, min(size_bytes, self.size_bytes - position)

    def read(self, position: int, buffer: memoryview) -> None:
        """Fill a buffer.

        Raises
        ------
        CorruptError
            The file is shorter than it was.
        """
        for offset, part in self._parts(position, buffer):
            done = 0
            while done < len(part):
                count = os.preadv(self.fd, [part[done:]], offset + done)
                if count == 0:
                    raise CorruptError(f"{self.what}: the file ends early")
                done += count

    def write(self, position: int, buffer: memoryview) -> None:
        """Write a buffer, all of it."""
        for offset, part in self._parts(position, buffer):
            done = 0
            while done < len(part):
                done += os.pwrite(self.fd, part[done:], offset + done)

    def digest(self, scratch: memoryview) -> bytes:
        """BLAKE3 of all bytes, read through a buffer."""
        hasher = blake3.blake3()
        for position, length in self.blocks(len(scratch)):
            self.read(position, scratch[:length])
            hasher.update(scratch[:length])
        return hasher.digest()

    def _parts(self, position: int, buffer: memoryview) -> Iterator[tuple[int, memoryview]]:
        index = bisect_right(self._starts, position) - 1
        while buffer:
            offset, length = self.extents[index]
            skipped = position - self._starts[index]
            part = buffer[: length - skipped]
            yield offset + skipped, part
            buffer = buffer[len(part) :]
            position += len(part)
            index += 1
