"""A tensor in a file, and the zip members that hold some of them."""

import math
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from agent.core.codec_plan import width_of

_LOCAL_HEADER = struct.Struct("<4s22sHH")
_LOCAL_MAGIC = b"PK\x03\x04"
MAX_MEMBERS = 1_000_000


class NotThisFormatError(Exception):
    """The file is of another format, or broken; lives only between readers and `layout_of`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Where a tensor lies; `dtype` in safetensors' words, ``""`` when not known; shape () likewise."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int


def checked_shape(shape: Sequence[int], dtype: str, size_bytes: int) -> tuple[int, ...]:
    """Return a shape if it fits the bytes, else ()."""
    width = width_of(dtype, size_bytes)
    return tuple(shape) if all(n >= 0 for n in shape) and math.prod(shape) * width == size_bytes else ()


def stored_members(file: BinaryIO) -> list[tuple[zipfile.ZipInfo, int]]:
    """List the uncompressed members of a zip, each with the offset of its data.

    Raises
    ------
    NotThisFormatError
        It is not a sound zip.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, EOFError) as error:
        raise NotThisFormatError("not a zip") from error
    if len(members) > MAX_MEMBERS:
        raise NotThisFormatError("too many members")
    stored = [member for member in members if member.compress_type == zipfile.ZIP_STORED]
    return [(member, _data_offset(file, member)) for member in stored]


def _data_offset(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or member.compress_size != member.file_size:
        raise NotThisFormatError("a member's header is not there")
    magic, _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    if magic != _LOCAL_MAGIC:
        raise NotThisFormatError("a member's header is damaged")
    return member.header_offset + _LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)
