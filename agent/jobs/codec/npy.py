"""Arrays of numpy's npy files, and of those that a npz archive stores uncompressed.

Arrays of objects are pickles and stay plain bytes; nothing is loaded.
"""

import math
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from agent.jobs.codec.tensors import NotThisFormatError, Tensor, stored_members

_MAGIC = b"\x93NUMPY"
_LETTERS = {"f": "F", "i": "I", "u": "U", "b": "BOOL", "c": "C"}


def read(file: BinaryIO, size_bytes: int) -> list[Tensor]:
    """Find the one array of a npy file.

    Raises
    ------
    NotThisFormatError
        It is something else.
    """
    tensor = _array(file, "array", file.tell(), size_bytes)
    if tensor is None:
        raise NotThisFormatError("its array is not one of numbers")
    return [tensor]


def read_archive(file: BinaryIO, size_bytes: int) -> list[Tensor]:
    """List the arrays of a npz file; those compressed or of objects are left out.

    Raises
    ------
    NotThisFormatError
        It is no zip, or holds no array.
    """
    found = []
    for member, offset in stored_members(file):
        if member.filename.endswith(".npy"):
            file.seek(offset)
            tensor = _array(file, member.filename.removesuffix(".npy"), offset, member.file_size)
            found += [tensor] if tensor else []
    if not found:
        raise NotThisFormatError("no array in it")
    return found


def _array(file: BinaryIO, name: str, start: int, size_bytes: int) -> Tensor | None:
    """Read the header at the present position; None for what is no array of numbers in our byte order."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise NotThisFormatError("no npy header")
    file.seek(start)
    try:
        version = npy_format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = npy_format.read_array_header_1_0(file)
        else:
            shape, _, dtype = npy_format.read_array_header_2_0(file)
    except Exception as error:  # numpy's reader lets errors of tokenize and ast through
        raise NotThisFormatError("the npy header is damaged") from error
    return _tensor(name, shape, dtype, file.tell(), size_bytes - (file.tell() - start))


def _tensor(
    name: str, shape: tuple[int, ...], dtype: "np.dtype[np.generic]", offset: int, left_bytes: int
) -> Tensor | None:
    letter = _LETTERS.get(dtype.kind)
    size_bytes = math.prod(shape) * dtype.itemsize
    if letter is None or not dtype.isnative or not 0 <= size_bytes <= left_bytes:
        return None
    kind = letter if letter == "BOOL" else f"{letter}{dtype.itemsize * 8}"
    return Tensor(name=name, dtype=kind, shape=shape, offset_bytes=offset, size_bytes=size_bytes)
