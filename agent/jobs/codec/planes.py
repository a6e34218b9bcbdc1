"""Elements to byte planes and back, alone or as differences to earlier elements. Lossless for all bits.

A difference is taken between the bits of two elements, read as integers, modulo their width: exact for
every float there is. It is stored zig-zag (0, -1, 1, -2, … as 0, 1, 2, 3, …), so that the high bytes of a
small one are 0 whatever its sign. Tiles of some 100 kB keep the intermediate results in the processor's
cache.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_Words = NDArray[Any]
_TILE = 32 * 1024


def split(data: Bytes, base: Bytes | None, width_bytes: int, out: Bytes) -> None:
    """Split elements into planes, lowest byte first.

    Parameters
    ----------
    data : array of uint8
        n elements, little-endian as checkpoints store them.
    base : array of uint8 or None
        n earlier elements; None: no difference is taken.
    width_bytes : int
        Of an element: 1, 2, 4 or 8.
    out : array of uint8
        Shape (width, n); overwritten.
    """
    words = _words(data, width_bytes)
    earlier = None if base is None else _words(base, width_bytes)
    scratch = _Scratch(words.dtype)
    for start in range(0, len(words), _TILE):
        tile = words[start : start + _TILE]
        if earlier is not None:
            tile = scratch.difference(tile, earlier[start : start + _TILE])
        octets = tile.view(np.uint8).reshape(-1, width_bytes)
        for plane in range(width_bytes):
            out[plane, start : start + len(tile)] = octets[:, plane]


def join(planes: Bytes, base: Bytes | None, width_bytes: int, out: Bytes) -> None:
    """Undo `split`: `out` gets the n elements; `base` must be the same earlier elements."""
    words = _words(out, width_bytes)
    earlier = None if base is None else _words(base, width_bytes)
    scratch = _Scratch(words.dtype)
    for start in range(0, len(words), _TILE):
        tile = words[start : start + _TILE]
        octets = tile.view(np.uint8).reshape(-1, width_bytes)
        for plane in range(width_bytes):
            octets[:, plane] = planes[plane, start : start + len(tile)]
        if earlier is not None:
            scratch.apply(tile, earlier[start : start + _TILE])


def _words(data: Bytes, width_bytes: int) -> _Words:
    return data.view(f"<u{width_bytes}")


class _Scratch:
    """Two tiles of intermediate results, for one thread."""

    def __init__(self, dtype: "np.dtype[Any]") -> None:
        self._one = np.empty(_TILE, dtype)
        self._two = np.empty(_TILE, dtype)
        self._signed = np.dtype(f"<i{dtype.itemsize}")
        self._sign_bit = dtype.itemsize * 8 - 1

    def difference(self, new: _Words, old: _Words) -> _Words:
        """Return the zig-zag of new - old, in a tile of its own."""
        one, two = self._one[: len(new)], self._two[: len(new)]
        np.subtract(new, old, out=one)
        # The signed shift fills with the sign: all ones below 0, else none.
        np.right_shift(one.view(self._signed), self._sign_bit, out=two.view(self._signed))
        np.left_shift(one, 1, out=one)
        np.bitwise_xor(one, two, out=one)
        return one

    def apply(self, tile: _Words, old: _Words) -> None:
        """Undo `difference` in place."""
        one = self._one[: len(tile)]
        np.bitwise_and(tile, 1, out=one)
        np.negative(one.view(self._signed), out=one.view(self._signed))
        np.right_shift(tile, 1, out=tile)
        np.bitwise_xor(tile, one, out=tile)
        np.add(tile, old, out=tile)
