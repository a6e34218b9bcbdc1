"""The manifest of a checkpoint: what makes it valid, its one canonical form, its identity, its chunks.

The canonical form is JSON in ASCII with sorted keys and no spaces, whole numbers only, hashes in lower-case
hex, the time in UTC with six decimals. It is chosen over serialised protobuf because that is not canonical
across versions and languages; this form can be read, and ``b3sum manifest.json`` prints the identity. Files
are ordered by path (code points, which is the order of their UTF-8 bytes). Chunks cut the concatenation of
the files in that order. The first part of a path is the name that the trainer gave to a folder or a file.

What it refuses to know: where files lie and how they are read.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise

from agent.model.jobs import CheckpointFile, Manifest
from sterna.errors import CorruptError

FORMAT = "sterna.manifest/1"
HASH_BYTES = 32
MAX_CHUNK_BYTES = 16 * 1024 * 1024
MAX_FILES = 1_000_000
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
_MAX_INT = 2**63
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CHECKPOINT_ID = re.compile(r"[0-9a-f]{64}")
_SEALED_AT = "%Y-%m-%dT%H:%M:%S.%fZ"


def is_checkpoint_id(text: str) -> bool:
    """Tell whether `text` has the form of a checkpoint's identity (64 lower-case hex digits)."""
    return _CHECKPOINT_ID.fullmatch(text) is not None


def is_job_id(text: str) -> bool:
    """Tell whether `text` may name a job; such a name is safe as the name of a folder."""
    return _JOB_ID.fullmatch(text) is not None


def chunk_count(size_bytes: int, chunk_bytes: int) -> int:
    """Chunks of a concatenation of `size_bytes`; 0 for nothing."""
    return -(-size_bytes // chunk_bytes)


def faults(manifest: Manifest) -> tuple[str, ...]:
    """Everything that is wrong with a manifest, each fault naming its field; empty when it is valid."""
    found = [*_scalar_faults(manifest), *_file_faults(manifest.files)]
    found += [
        f"chunk_hashes[{index}]: {len(digest)} bytes, expected {HASH_BYTES}"
        for index, digest in enumerate(manifest.chunk_hashes)
        if len(digest) != HASH_BYTES
    ]
    if not found:
        expected = chunk_count(manifest.size_bytes, manifest.chunk_bytes)
        if len(manifest.chunk_hashes) != expected:
            found.append(
                f"chunk_hashes: {len(manifest.chunk_hashes)} chunks, expected {expected} for "
                f"{manifest.size_bytes} bytes in chunks of {manifest.chunk_bytes}"
            )
    return tuple(found)


def _scalar_faults(manifest: Manifest) -> list[str]:
    found = []
    if not is_job_id(manifest.job_id):
        found.append(f"job_id: {manifest.job_id!r} is not a plain name")
    for name, value in (("epoch", manifest.epoch), ("step", manifest.step)):
        if not 0 <= value < _MAX_INT:
            found.append(f"{name}: {value} is out of range")
    if not 1 <= manifest.chunk_bytes <= MAX_CHUNK_BYTES:
        found.append(f"chunk_bytes: {manifest.chunk_bytes} is not within 1 to {MAX_CHUNK_BYTES}")
    if manifest.sealed_at.utcoffset() != timedelta(0):
        found.append("sealed_at: not in UTC")
    return found


def _file_faults(files: tuple[CheckpointFile, ...]) -> list[str]:
    if not files:
        return ["files: there are none"]
    if len(files) > MAX_FILES:
        return [f"files: {len(files)} are too many, at most {MAX_FILES}"]
    found = []
    for index, file in enumerate(files):
        fault = _path_fault(file.path)
        if fault:
            found.append(f"files[{index}].path: {file.path!r} {fault}")
        if not 0 <= file.size_bytes < _MAX_INT:
            found.append(f"files[{index}].size_bytes: {file.size_bytes} is out of range")
    names = {file.path for file in files}
    if len(names) != len(files):
        found.append("files: a path occurs twice")
    elif any(earlier.path > later.path for earlier, later in pairwise(files)):
        found.append("files: not in order of path")
    found += [f"files: {folder!r} is both a file and a folder" for folder in sorted(_folders(names) & names)]
    tops = {path.partition("/")[0] for path in names}
    if len(tops) > 1:
        found.append(f"files: below {len(tops)} names, expected one file or one folder")
    return found


def _folders(paths: set[str]) -> set[str]:
    folders = set()
    for path in paths:
        head = path.rpartition("/")[0]
        while head and head not in folders:
            folders.add(head)
            head = head.rpartition("/")[0]
    return folders


def _path_fault(path: str) -> str | None:
    """Why a path may not be written below a folder of ours; None when it may."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    parts = path.split("/")
    if not path:
        fault = "is empty"
    elif path.startswith("/"):
        fault = "is absolute"
    elif any(part in ("", ".", "..") for part in parts):
        fault = "is not in plain relative form"
    elif "\\" in path or any(ord(char) < 32 or ord(char) == 127 for char in path):
        fault = "contains a backslash or a control character"
    elif len(encoded) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        fault = "is too long"
    else:
        return None
    return fault


def to_dict(manifest: Manifest) -> dict[str, object]:
    """Return the manifest as plain JSON values."""
    return {
        "chunk_bytes": manifest.chunk_bytes,
        "chunk_hashes": [digest.hex() for digest in manifest.chunk_hashes],
        "epoch": manifest.epoch,
        "files": [{"path": file.path, "size_bytes": file.size_bytes} for file in manifest.files],
        "format": FORMAT,
        "job_id": manifest.job_id,
        "sealed_at": manifest.sealed_at.astimezone(UTC).strftime(_SEALED_AT),
        "step": manifest.step,
    }


def from_dict(data: Mapping[str, object]) -> Manifest:
    """Read a manifest from plain JSON values, strictly.

    Raises
    ------
    CorruptError
        A field is missing, unknown or of the wrong type, or the manifest has faults; all are named.
    """
    fields = {"chunk_bytes", "chunk_hashes", "epoch", "files", "format", "job_id", "sealed_at", "step"}
    if set(data) != fields:
        raise CorruptError(f"manifest: fields differ: {sorted(set(data) ^ fields)}")
    if data["format"] != FORMAT:
        raise CorruptError(f"manifest: format is {data['format']!r}, expected {FORMAT!r}")
    try:
        manifest = Manifest(
            job_id=_text(data["job_id"]),
            epoch=_whole(data["epoch"]),
            step=_whole(data["step"]),
            files=tuple(_file(item) for item in _list(data["files"])),
            chunk_bytes=_whole(data["chunk_bytes"]),
            chunk_hashes=tuple(bytes.fromhex(_text(item)) for item in _list(data["chunk_hashes"])),
            sealed_at=datetime.strptime(_text(data["sealed_at"]), _SEALED_AT).replace(tzinfo=UTC),
        )
    except (TypeError, ValueError, KeyError) as error:
        raise CorruptError(f"manifest: {error}") from error
    found = faults(manifest)
    if found:
        raise CorruptError("manifest: " + "; ".join(found))
    return manifest


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {type(value).__name__}")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, got {type(value).__name__}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return value


def _file(value: object) -> CheckpointFile:
    if not isinstance(value, dict) or set(value) != {"path", "size_bytes"}:
        raise TypeError("files: expected path and size_bytes")
    return CheckpointFile(path=_text(value["path"]), size_bytes=_whole(value["size_bytes"]))


def encode(manifest: Manifest) -> bytes:
    """Return the canonical form of a valid manifest."""
    return json.dumps(to_dict(manifest), sort_keys=True, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> Manifest:
    """Read the canonical form.

    Raises
    ------
    CorruptError
        It is not a manifest, or not in canonical form.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptError("manifest: not JSON") from error
    if not isinstance(value, dict):
        raise CorruptError("manifest: not an object")
    manifest = from_dict(value)
    if encode(manifest) != data:
        raise CorruptError("manifest: not in canonical form")
    return manifest


def checkpoint_id(manifest: Manifest) -> str:
    """Lower-case hex BLAKE3 of the canonical form: the identity of the checkpoint."""
    import blake3  # 0.6 MB, which an agent without a checkpoint does not need

    return str(blake3.blake3(encode(manifest)).hexdigest())


def top_name(manifest: Manifest) -> str:
    """Name the one file or folder that holds everything: what a trainer resumes from."""
    return manifest.files[0].path.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """A stretch of one file: where a part of a chunk lies. `length_bytes` is at least 1."""

    path: str
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where chunks lie in files. Build it with `Layout.of`; the manifest must be valid."""

    manifest: Manifest
    starts: tuple[int, ...]
    """Offset of each file in the concatenation, then its end."""

    @classmethod
    def of(cls, manifest: Manifest) -> "Layout":
        """Lay out the files of a manifest."""
        sizes = (file.size_bytes for file in manifest.files)
        return cls(manifest=manifest, starts=tuple(accumulate(sizes, initial=0)))

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return len(self.manifest.chunk_hashes)

    def chunk_size_bytes(self, index: int) -> int:
        """Bytes of chunk `index`; all but the last are `chunk_bytes` long."""
        start = index * self.manifest.chunk_bytes
        return min(self.manifest.chunk_bytes, self.starts[-1] - start)

    def extents(self, index: int) -> tuple[Extent, ...]:
        """Find the stretches of files that make chunk `index`, in order.

        Raises
        ------
        IndexError
            There is no such chunk.
        """
        if not 0 <= index < self.chunks:
            raise IndexError(f"chunk {index} of {self.chunks}")
        position = index * self.manifest.chunk_bytes
        end = position + self.chunk_size_bytes(index)
        number = bisect_right(self.starts, position) - 1
        found = []
        while position < end:
            stop = min(end, self.starts[number + 1])
            if stop > position:
                file = self.manifest.files[number]
                offset_bytes = position - self.starts[number]
                found.append(Extent(path=file.path, offset_bytes=offset_bytes, length_bytes=stop - position))
            position = stop
            number += 1
        return tuple(found)
