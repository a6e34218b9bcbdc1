"""Tensors of a safetensors file: eight bytes of length, a JSON header, then the data."""

import json
import struct
from collections.abc import Iterator
from typing import BinaryIO

from agent.jobs.codec.tensors import NotThisFormatError, Tensor, checked_shape

_MAX_HEADER_BYTES = 100_000_000
_LENGTH = struct.Struct("<Q")


def read(file: BinaryIO, size_bytes: int) -> list[Tensor]:
    """List the tensors.

    Raises
    ------
    NotThisFormatError
        It is something else.
    """
    head = file.read(_LENGTH.size + 1)
    if len(head) <= _LENGTH.size or head[-1:] != b"{":
        raise NotThisFormatError("no safetensors header")
    (header_bytes,) = _LENGTH.unpack(head[:-1])
    if header_bytes > min(_MAX_HEADER_BYTES, size_bytes - _LENGTH.size):
        raise NotThisFormatError("the header is longer than the file")
    try:
        header = json.loads(head[-1:] + file.read(header_bytes - 1))
        return list(_tensors(header, _LENGTH.size + header_bytes))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NotThisFormatError("the header is not one of safetensors") from error


def _tensors(header: dict[str, dict[str, object]], data_offset: int) -> Iterator[Tensor]:
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = _wholes(entry["data_offsets"])
        if not 0 <= begin <= end:
            raise ValueError("data_offsets are not in order")
        dtype = str(entry["dtype"])
        yield Tensor(
            name=name,
            dtype=dtype,
            shape=checked_shape(_wholes(entry["shape"]), dtype, end - begin),
            offset_bytes=data_offset + begin,
            size_bytes=end - begin,
        )


def _wholes(value: object) -> list[int]:
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise TypeError("expected whole numbers")
    return value
