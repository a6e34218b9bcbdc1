"""Storages of a file that `torch.save` wrote: a zip whose members ``…/data/KEY`` are uncompressed.

Names, types and shapes come from ``…/data.pkl``, which is read without being executed (see `pickled`).
Where it cannot be read, the storages are known by their key alone, as bytes of unknown type.
"""

from typing import BinaryIO

from agent.jobs.codec.pickled import Storage, UnreadableError, storages
from agent.jobs.codec.tensors import NotThisFormatError, Tensor, checked_shape, stored_members

_MAX_PICKLE_BYTES = 32 * 1024 * 1024

DTYPES = {
    "Double": "F64",
    "Float": "F32",
    "Half": "F16",
    "BFloat16": "BF16",
    "Long": "I64",
    "Int": "I32",
    "Short": "I16",
    "Char": "I8",
    "Byte": "U8",
    "Bool": "BOOL",
    "ComplexFloat": "C64",
    "ComplexDouble": "C128",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
}
"""Words of torch for element types (``FloatStorage``, ``torch.uint16``) in those of safetensors."""


def read(file: BinaryIO, size_bytes: int) -> list[Tensor]:
    """List the storages.

    Raises
    ------
    NotThisFormatError
        It is something else.
    """
    members = stored_members(file)
    pickle = next((item for item in members if item[0].filename.endswith("/data.pkl")), None)
    if pickle is None:
        raise NotThisFormatError("no data.pkl in it")
    folder = pickle[0].filename.removesuffix("data.pkl") + "data/"
    file.seek(pickle[1])
    known: dict[str, Storage] = {}
    if pickle[0].file_size <= _MAX_PICKLE_BYTES:
        try:
            known = storages(file.read(pickle[0].file_size))
        except UnreadableError:
            known = {}
    found = []
    for member, offset in members:
        key = member.filename.removeprefix(folder)
        if key == member.filename:
            continue
        found.append(_tensor(key, known.get(key), offset, member.file_size))
    return found


def _tensor(key: str, storage: Storage | None, offset_bytes: int, size_bytes: int) -> Tensor:
    name, dtype = f"data/{key}", ""
    shape: tuple[int, ...] = ()
    if storage is not None:
        name, dtype = storage.name, DTYPES.get(storage.dtype, "")
        shape = checked_shape(storage.shape, dtype, size_bytes)
    return Tensor(name=name, dtype=dtype, shape=shape, offset_bytes=offset_bytes, size_bytes=size_bytes)
