"""Whether a checkpoint is complete, told from its files alone; nothing in them is executed.

What libraries write has an end that can be checked: safetensors say how long they are, a torch file is a zip
with its directory last, transformers writes `trainer_state.json` after everything else, a distributed
checkpoint of torch gets `.metadata` last. A format that is not known has no fault: for it counts that
nobody has written for a while.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

MARKERS = frozenset({"checkpoint-is-incomplete.txt"})
"""A library that is still writing says so by such a file (transformers, since 5.0)."""
TRAINER_STATE = "trainer_state.json"
DCP_METADATA = ".metadata"

_HEADER_MAX_BYTES = 100_000_000
"""Of a safetensors file; the format's own limit."""
_PARSED_MAX_BYTES = 256 * 1024
"""Larger JSON files are only looked at from both ends: parsed, some are larger than the agent."""
_TORCH = frozenset({".pt", ".pth", ".ckpt", ".bin"})
_WEIGHTS = re.compile(r".*\.(safetensors|bin|pt|pth|distcp|msgpack|h5)\Z")
_NO_WEIGHTS = re.compile(r"(optimizer|scheduler|scaler|training_args|rng_state).*")
_OBJECT = re.compile(rb'\s*\{\s*"')
_OFFSETS = re.compile(rb'"data_offsets"\s*:\s*\[\s*\d+\s*,\s*(\d+)\s*\]')
_NUMBER = re.compile(r"(?:(step|iter|iteration)|(checkpoint|ckpt)|(epoch))[-_=]?(\d+)", re.IGNORECASE)


def fault(path: Path, skip: Callable[[Path], bool] = lambda _: False) -> str | None:
    """Say what is missing in a checkpoint.

    Parameters
    ----------
    path : Path
        A file, or a folder with all below it.
    skip : callable
        Tells of what is below it whether it counts as not there.

    Returns
    -------
    str or None
        None: nothing that could be told.
    """
    try:
        if not path.is_dir():
            return _file_fault(path)
        return next(_folder_faults(path, skip), None)
    except FileNotFoundError as error:
        return f"{error.filename} vanished"
    except OSError as error:
        return f"cannot be read: {error}"


def step_of(name: str) -> int | None:
    """Return the step that a file's or folder's name tells: ``checkpoint-20``, ``epoch=1-step=40.ckpt``.

    Parameters
    ----------
    name : str
        Without folders. A number counts after the words step, iter, checkpoint, ckpt, epoch, in this order.
    """
    found: dict[int, int] = {}
    for match in _NUMBER.finditer(name):
        rank = next(i for i in (1, 2, 3) if match.group(i))
        found[rank] = int(match.group(4))
    return found[min(found)] if found else None


def _folder_faults(folder: Path, skip: Callable[[Path], bool]) -> Iterator[str]:
    names = set()
    for path in sorted(folder.rglob("*")):
        if path.name in MARKERS:
            yield f"{path.name} is there"
        if path.is_dir():
            yield from _distributed_faults(path)
            continue
        if skip(path):
            continue
        names.add(path.name)
        reason = _file_fault(path)
        if reason:
            yield reason
    yield from _distributed_faults(folder)
    if re.fullmatch(r"checkpoint-\d+", folder.name) or TRAINER_STATE in names:
        yield from _transformers_faults(names)


def _distributed_faults(folder: Path) -> Iterator[str]:
    """Check a checkpoint of torch.distributed: the ranks write their files, then one writes `.metadata`."""
    if next(folder.glob("*.distcp"), None) is not None:
        metadata = folder / DCP_METADATA
        if not metadata.is_file() or metadata.stat().st_size == 0:
            yield f"{folder.name}/{DCP_METADATA} is missing"


def _transformers_faults(names: set[str]) -> Iterator[str]:
    """Check one of transformers: weights, optimizer, random numbers come first, then the state."""
    if TRAINER_STATE not in names:
        yield f"{TRAINER_STATE} is missing"
    if not any(_WEIGHTS.match(name) and not _NO_WEIGHTS.match(name) for name in names):
        yield "the weights are missing"


def _file_fault(path: Path) -> str | None:
    if path.suffix == ".safetensors":
        return _safetensors_fault(path)
    if path.name.endswith(".index.json"):
        return _index_fault(path)
    if path.suffix == ".json":
        return _json_fault(path)
    with path.open("rb") as file:
        head = file.read(4)
    if path.suffix in _TORCH and (not head or head == b"\0\0\0\0"):
        return f"{path.name} is empty"
    return _zip_fault(path) if head == b"PK\x03\x04" else None


def _safetensors_fault(path: Path) -> str | None:
    """Eight bytes with the header's length, a JSON header, then as many bytes as it says."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            return f"{path.name} is cut off"
        header_bytes = int.from_bytes(start, "little")
        if header_bytes > min(_HEADER_MAX_BYTES, size_bytes - 8):
            return f"{path.name} is cut off"
        header = file.read(header_bytes).strip()
    if not (header.startswith(b"{") and header.endswith(b"}")):
        return f"{path.name} has no readable header"
    needed_bytes = 8 + header_bytes + max((int(end) for end in _OFFSETS.findall(header)), default=0)
    return None if size_bytes == needed_bytes else f"{path.name} has {size_bytes} bytes, not {needed_bytes}"


def _zip_fault(path: Path) -> str | None:
    """Look for the directory at the end of a zip; a file that is still written, or was cut off, has none."""
    import zipfile  # the agent imports this module, and many jobs have no such file

    size_bytes = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            last_bytes = max(
                (item.header_offset + item.compress_size for item in archive.infolist()), default=0
            )
    except (zipfile.BadZipFile, ValueError):
        return f"{path.name} is cut off"
    return f"{path.name} is cut off" if last_bytes > size_bytes else None


def _index_fault(path: Path) -> str | None:
    """Look for the files that the table of contents of weights in several files names."""
    try:
        files = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{path.name} is not readable"
    missing = sorted(str(name) for name in files if not (path.parent / str(name)).is_file())
    return f"{missing[0]} is missing" if missing else None


def _json_fault(path: Path) -> str | None:
    """Check that what begins as a JSON object ends as one; other contents are the program's own."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        if path.name != TRAINER_STATE and not _OBJECT.match(file.read(64)):
            return None
        if size_bytes > _PARSED_MAX_BYTES:
            file.seek(-64, 2)
            return None if file.read().rstrip().endswith(b"}") else f"{path.name} is cut off"
        file.seek(0)
        text = file.read()
    try:
        json.loads(text)
    except json.JSONDecodeError as error:  # several objects one after another are no fault
        return None if error.msg == "Extra data" else f"{path.name} is cut off"
    except ValueError:
        return f"{path.name} is not text"
    return None
