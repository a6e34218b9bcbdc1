"""Which chunks are here: one bit each, chunk 0 in the lowest bit of the first byte."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive chunks; `count` is at least 1."""

    first: int
    count: int


class Bitmap:
    """A fixed number of bits.

    Parameters
    ----------
    size : int
        Number of bits, 0 or more.
    data : bytes
        What `to_bytes` gave; missing bytes count as zero, bits beyond `size` are ignored.
    """

    __slots__ = ("_bits", "_size")

    def __init__(self, size: int, data: bytes = b"") -> None:
        self._size = size
        length = (size + 7) // 8
        self._bits = bytearray(data[:length].ljust(length, b"\0"))
        if size % 8:
            self._bits[-1] &= (1 << size % 8) - 1

    def __len__(self) -> int:
        return self._size

    def __contains__(self, index: int) -> bool:
        return 0 <= index < self._size and bool(self._bits[index // 8] >> (index % 8) & 1)

    def __iter__(self) -> Iterator[int]:
        return (index for index in range(self._size) if index in self)

    def add(self, index: int) -> None:
        """Set a bit."""
        self._check(index)
        self._bits[index // 8] |= 1 << (index % 8)

    def discard(self, index: int) -> None:
        """Clear a bit."""
        self._check(index)
        self._bits[index // 8] &= ~(1 << (index % 8)) & 0xFF

    @property
    def count(self) -> int:
        """Bits that are set."""
        return int.from_bytes(self._bits, "little").bit_count()

    @property
    def full(self) -> bool:
        """Every bit is set."""
        return self.count == self._size

    def to_bytes(self) -> bytes:
        """Return the bits, for a file."""
        return bytes(self._bits)

    def byte_of(self, index: int) -> tuple[int, bytes]:
        """Position and value of the byte that holds a bit, for writing it alone."""
        self._check(index)
        return index // 8, bytes((self._bits[index // 8],))

    def missing_runs(self, longest: int) -> tuple[Run, ...]:
        """Consecutive clear bits, in order, in runs of at most `longest` (1 or more)."""
        runs: list[Run] = []
        first: int | None = None
        for index in range(self._size + 1):
            absent = index < self._size and index not in self
            if first is not None and (not absent or index - first == longest):
                runs.append(Run(first=first, count=index - first))
                first = None
            if absent and first is None:
                first = index
        return tuple(runs)

    def _check(self, index: int) -> None:
        if not 0 <= index < self._size:
            raise IndexError(f"bit {index} of {self._size}")
