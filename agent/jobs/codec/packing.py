"""Blocks of elements to compressed planes and back, and the sample that says which way is cheapest.

The one module that imports zstandard. A block is written plane by plane: four bytes of length, then that
many bytes; a plane whose length is the number of elements is stored. Every frame must state its size before
it is unpacked, so that a forged one cannot ask for memory.
"""

import struct
from collections.abc import Callable, Iterator

import numpy as np
import zstandard

from agent.core.codec_plan import OCTET_BYTES, Choice, Codec, Trial, Way, choose, ways
from agent.jobs.codec.extents import BLOCK_BYTES, Stretch
from agent.jobs.codec.planes import Bytes, join, split
from sterna.errors import CorruptError

Piece = bytes | memoryview
Take = Callable[[int], Piece]
"""Gives that many bytes, exactly, or raises CorruptError."""

_LENGTH = struct.Struct("<I")
_TILE_BYTES = 128 * 1024
_MIN_TILE_BYTES = 16 * 1024
_TILES = 4
_SAMPLE_FRAC = 0.125
_HEADER_LEVEL = 9


def _entropy_compressor() -> zstandard.ZstdCompressor:
    """Compress by letter frequencies and long runs alone.

    Planes of floats have no repetitions worth a search; without one they take a third of the time and
    come out no larger. Runs of equal bytes, as unchanged weights give, are found all the same.
    """
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(
            window_log=20,
            hash_log=6,
            chain_log=6,
            search_log=1,
            min_match=7,
            target_length=0,
            strategy=zstandard.STRATEGY_FAST,
            write_content_size=True,
        )
    )


class Packer:
    """Buffers and compressors of one thread."""

    def __init__(self) -> None:
        self._floats = _entropy_compressor()
        self._octets = zstandard.ZstdCompressor(level=3)
        self._expand = zstandard.ZstdDecompressor()
        self._planes = np.empty(BLOCK_BYTES, np.uint8)
        self._unpacked = np.empty(BLOCK_BYTES, np.uint8)

    def trial(self, way: Way, tiles: list[tuple[Bytes, Bytes | None]]) -> Trial:
        """Compress sampled tiles, plane by plane."""
        sizes = np.zeros(way.width_bytes)
        elements = 0
        for data, base in tiles:
            planes = self._split(data, base if way.codec is Codec.DELTA else None, way.width_bytes)
            sizes += [len(self._compressor(way.width_bytes).compress(plane)) for plane in planes]
            elements += planes.shape[1]
        return Trial(way=way, plane_fracs=tuple((sizes / max(elements, 1)).tolist()))

    def choose(self, width_bytes: int, new: Stretch, old: Stretch | None) -> Choice:
        """Find the cheapest way for a stretch by a sample spread over it."""
        tiles = list(_sample(new, old))
        candidates = ways(width_bytes, new.size_bytes, has_base=old is not None)
        return choose(self.trial(way, tiles) for way in candidates)

    def pack(self, data: Bytes, base: Bytes | None, choice: Choice) -> list[Piece]:
        """Encode one block; the result is valid until the next call."""
        parts: list[Piece] = []
        compressor = self._compressor(choice.way.width_bytes)
        for plane, wanted in zip(self._split(data, base, choice.way.width_bytes), choice.packed, strict=True):
            packed = compressor.compress(plane) if wanted else b""
            body = packed if wanted and len(packed) < len(plane) else plane.data
            parts += [_LENGTH.pack(len(body)), body]
        return parts

    def unpack(self, take: Take, base: Bytes | None, width_bytes: int, out: Bytes) -> None:
        """Decode one block, taken piece by piece, into `out`.

        Raises
        ------
        CorruptError
            What is taken is not a block of this size.
        """
        elements = len(out) // width_bytes
        planes = self._unpacked[: len(out)].reshape(width_bytes, elements)
        for plane in planes:
            (length,) = _LENGTH.unpack(take(_LENGTH.size))
            if length > elements:
                raise CorruptError("a plane is longer than its elements")
            body = take(length)
            if length < elements:
                body = _inflate(self._expand, body, elements)
            plane[:] = np.frombuffer(body, np.uint8)
        join(planes, base, width_bytes, out)

    def _split(self, data: Bytes, base: Bytes | None, width_bytes: int) -> Bytes:
        planes = self._planes[: len(data)].reshape(width_bytes, -1)
        split(data, base, width_bytes, planes)
        return planes

    def _compressor(self, width_bytes: int) -> zstandard.ZstdCompressor:
        return self._octets if width_bytes == OCTET_BYTES else self._floats


def deflate_text(text: bytes) -> bytes:
    """Compress a header."""
    return zstandard.ZstdCompressor(level=_HEADER_LEVEL).compress(text)


def inflate_text(packed: bytes, size_bytes: int) -> bytes:
    """Undo `deflate_text`; the result has `size_bytes` or it is corrupt."""
    return _inflate(zstandard.ZstdDecompressor(), packed, size_bytes)


def _inflate(expand: zstandard.ZstdDecompressor, body: Piece, size_bytes: int) -> bytes:
    try:
        if zstandard.frame_content_size(body) != size_bytes:
            raise CorruptError("a compressed part has another size")
        return expand.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"a compressed part is damaged ({error})") from error


def _sample(new: Stretch, old: Stretch | None) -> Iterator[tuple[Bytes, Bytes | None]]:
    """Read tiles spread over a stretch, all of it where it is short, and the same of its base."""
    size_bytes = new.size_bytes
    tile_bytes = int(size_bytes * _SAMPLE_FRAC / _TILES) // 8 * 8  # keeps every element whole
    tile_bytes = min(max(tile_bytes, _MIN_TILE_BYTES), _TILE_BYTES)
    if size_bytes <= _TILES * tile_bytes:
        places = list(new.blocks(tile_bytes))
    else:
        step = (size_bytes - tile_bytes) // (_TILES - 1) // 8 * 8
        places = [(index * step, tile_bytes) for index in range(_TILES)]
    for position, length in places:
        yield _tile(new, position, length), None if old is None else _tile(old, position, length)


def _tile(stretch: Stretch, position: int, length: int) -> Bytes:
    tile = np.empty(length, np.uint8)
    stretch.read(position, tile.data)
    return tile
