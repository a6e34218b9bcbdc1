"""The head of a container: what files it makes, tensor by tensor, and in which way each was sent.

Magic, sizes of the header packed and unpacked, BLAKE3 of the header, the header packed; then the payload of
each entry in order, nothing behind it. The header is JSON with sorted keys. It says everything that
decoding needs: the receiver parses no checkpoint of any format. It is read as if forged: an entry that
leads anywhere but into its own file, or an earlier file that is not a plain relative path, is refused
before a byte is written.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import BinaryIO

import blake3

from agent.core.codec_plan import RAW, REFERENCE, WIDTHS_BYTES, Choice, Codec, Way
from agent.jobs.codec.extents import Extents, complement
from agent.jobs.codec.packing import deflate_text, inflate_text
from sterna.errors import CorruptError

MAGIC = b"STERNAD1"
FORMAT = "sterna.delta/1"
ALONE = "."
"""Path of a checkpoint that is a single file."""
MAX_HEADER_BYTES = 256 * 1024 * 1024
_HEAD = struct.Struct("<8sII32s")
_HASH_CHARS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Where the destination finds the earlier bytes; `offset_bytes` is None for the rest of a file."""

    path: str
    offset_bytes: int | None
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A tensor, or with `offset_bytes` None the rest of its file; `digest` is BLAKE3 of its bytes."""

    name: str
    offset_bytes: int | None
    size_bytes: int
    digest: bytes
    choice: Choice
    base: Base | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntries:
    """One file: its tensors ascending, then its rest, if there is any."""

    path: str
    size_bytes: int
    entries: tuple[Entry, ...]

    @property
    def rest(self) -> Extents:
        """What the tensors leave of the file."""
        return rest_of(self.entries, self.size_bytes)

    def extents(self, entry: Entry) -> Extents:
        """Where an entry of this file lies in it."""
        return self.rest if entry.offset_bytes is None else ((entry.offset_bytes, entry.size_bytes),)


def rest_of(entries: Sequence[Entry], size_bytes: int) -> Extents:
    """Find what the tensors among `entries` leave of a file."""
    taken = [(e.offset_bytes, e.size_bytes) for e in entries if e.offset_bytes is not None]
    return complement(taken, size_bytes)


def what(path: str, entry: Entry) -> str:
    """Name an entry in a message."""
    file = "the file" if path == ALONE else path
    return f"{file}: {entry.name!r}" if entry.offset_bytes is not None else f"{file}: what is not tensors"


def dump(files: Sequence[FileEntries]) -> bytes:
    """Return the head of a container."""
    value = {"files": [_file_out(file) for file in files], "format": FORMAT}
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
    packed = deflate_text(text)
    return _HEAD.pack(MAGIC, len(packed), len(text), blake3.blake3(text).digest()) + packed


def load(file: BinaryIO) -> tuple[FileEntries, ...]:
    """Read the head of a container, strictly.

    Raises
    ------
    CorruptError
        It is no container, damaged, or asks for what none may.
    """
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(MAGIC):
        raise CorruptError("container: not one of this format")
    _, packed_bytes, text_bytes, digest = _HEAD.unpack(head)
    if max(packed_bytes, text_bytes) > MAX_HEADER_BYTES:
        raise CorruptError("container: its header is too large")
    packed = file.read(packed_bytes)
    if len(packed) < packed_bytes:
        raise CorruptError("container: its header ends early")
    try:
        text = inflate_text(packed, text_bytes)
    except CorruptError as error:
        raise CorruptError(f"container: header: {error}") from error
    if blake3.blake3(text).digest() != digest:
        raise CorruptError("container: its header differs from its hash")
    return _files_in(text)


def _file_out(file: FileEntries) -> dict[str, object]:
    return {
        "entries": [_entry_out(entry) for entry in file.entries],
        "path": file.path,
        "size_bytes": file.size_bytes,
    }


def _entry_out(entry: Entry) -> dict[str, object]:
    base, way = entry.base, entry.choice.way
    return {
        "base": base and {"digest": base.digest.hex(), "offset_bytes": base.offset_bytes, "path": base.path},
        "codec": way.codec.value,
        "digest": entry.digest.hex(),
        "name": entry.name,
        "offset_bytes": entry.offset_bytes,
        "packed": [int(packed) for packed in entry.choice.packed],
        "size_bytes": entry.size_bytes,
        "width_bytes": way.width_bytes,
    }


def _files_in(text: bytes) -> tuple[FileEntries, ...]:
    try:
        value = json.loads(text)
        if set(value) != {"files", "format"} or value["format"] != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        files = tuple(_file_in(item) for item in value["files"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptError(f"container: header: {error}") from error
    fault = next(_faults(files), None)
    if fault:
        raise CorruptError(f"container: header: {fault}")
    return files


def _file_in(item: dict[str, object]) -> FileEntries:
    _fields(item, {"entries", "path", "size_bytes"})
    entries = item["entries"]
    if not isinstance(entries, list):
        raise TypeError("entries: expected a list")
    return FileEntries(
        path=_text(item["path"]),
        size_bytes=_whole(item["size_bytes"]),
        entries=tuple(_entry_in(entry) for entry in entries),
    )


_ENTRY = {"base", "codec", "digest", "name", "offset_bytes", "packed", "size_bytes", "width_bytes"}


def _entry_in(item: dict[str, object]) -> Entry:
    _fields(item, _ENTRY)
    packed = item["packed"]
    if not isinstance(packed, list) or any(flag not in (0, 1) for flag in packed):
        raise TypeError("packed: expected zeros and ones")
    way = Way(codec=Codec(item["codec"]), width_bytes=_whole(item["width_bytes"]))
    return Entry(
        name=_text(item["name"]),
        offset_bytes=_whole_or_none(item["offset_bytes"]),
        size_bytes=_whole(item["size_bytes"]),
        digest=_digest(item["digest"]),
        choice=Choice(way=way, packed=tuple(map(bool, packed)), expected_frac=1.0),
        base=_base_in(item["base"]),
    )


def _base_in(value: object) -> Base | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError("base: expected an object")
    _fields(value, {"digest", "offset_bytes", "path"})
    return Base(
        path=_text(value["path"]),
        offset_bytes=_whole_or_none(value["offset_bytes"]),
        digest=_digest(value["digest"]),
    )


def _faults(files: Sequence[FileEntries]) -> Iterator[str]:
    paths = [file.path for file in files]
    if not files:
        yield "no files"
    if any(earlier >= later for earlier, later in pairwise(paths)):
        yield "files are not in order of path"
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents} - {ALONE}
    if folders & set(paths) or (ALONE in paths and len(paths) > 1):
        yield "a path is both a file and a folder"
    for file in files:
        if not _is_plain(file.path):
            yield f"path {file.path!r} is not in plain relative form"
        yield from _file_faults(file)


def _file_faults(file: FileEntries) -> Iterator[str]:
    position = 0
    for index, entry in enumerate(file.entries):
        where = what(file.path, entry)
        if entry.offset_bytes is None:
            if index != len(file.entries) - 1:
                yield f"{where}: does not come last"
        else:
            if entry.offset_bytes < position:
                yield f"{where}: overlaps"
            position = entry.offset_bytes + entry.size_bytes
        if entry.size_bytes == 0:
            yield f"{where}: is empty"
        yield from _entry_faults(entry, where)
    if position > file.size_bytes:
        yield f"{file.path}: a tensor lies outside of the file"
        return
    left_bytes = sum(length for _, length in file.rest)
    stated_bytes = sum(entry.size_bytes for entry in file.entries if entry.offset_bytes is None)
    if left_bytes != stated_bytes:
        yield f"{file.path}: its entries do not cover it"


def _entry_faults(entry: Entry, where: str) -> Iterator[str]:
    way, base = entry.choice.way, entry.base
    if way.width_bytes not in WIDTHS_BYTES or entry.size_bytes % way.width_bytes:
        yield f"{where}: {entry.size_bytes} bytes are no elements of {way.width_bytes}"
    planes = 0 if way.codec in (RAW.way.codec, REFERENCE.way.codec) else way.width_bytes
    if len(entry.choice.packed) != planes:
        yield f"{where}: {len(entry.choice.packed)} planes, expected {planes}"
    if (base is not None) != (way.codec in (Codec.DELTA, Codec.REFERENCE)):
        yield f"{where}: a base that its codec does not use, or none where it does"
    if base is not None:
        if not _is_plain(base.path):
            yield f"{where}: base {base.path!r} is not in plain relative form"
        if base.offset_bytes is None and entry.offset_bytes is not None:
            yield f"{where}: a tensor has a base that is none"


def _is_plain(path: str) -> bool:
    parts = path.split("/")
    sound = "\\" not in path and all(32 <= ord(char) != 127 for char in path)
    return path == ALONE or (sound and all(part not in ("", ".", "..") for part in parts))


def _fields(item: object, wanted: set[str]) -> None:
    if not isinstance(item, dict) or set(item) != wanted:
        raise ValueError(f"expected the fields {sorted(wanted)}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    value.encode()  # a lone surrogate is no name of a file
    return value


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise TypeError("expected a whole number")
    return value


def _whole_or_none(value: object) -> int | None:
    return None if value is None else _whole(value)


def _digest(value: object) -> bytes:
    text = _text(value)
    if len(text) != _HASH_CHARS:
        raise ValueError("a digest has another length")
    return bytes.fromhex(text)
