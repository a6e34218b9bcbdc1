"""Which tensors a checkpoint file holds, and where. What cannot be read so is one stretch of plain bytes.

Formats: safetensors, npy, npz and torch's zip (`torch.save`, Lightning's .ckpt, optimizer.pt), each without
the library that wrote it. A file that breaks the rules of its format is no error: its trainer may know
better, and every byte is sent whatever it means.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from agent.jobs.codec import npy, safetensors, torchzip
from agent.jobs.codec.tensors import NotThisFormatError, Tensor

MIN_TENSOR_BYTES = 1024
"""Smaller ones are not worth an entry; they go with the headers and whatever else lies between tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Tensors of a file, ascending and disjoint; all other bytes are the rest."""

    format: str
    size_bytes: int
    tensors: tuple[Tensor, ...]


_READERS = (
    ("safetensors", safetensors.read),
    ("npy", npy.read),
    ("torch", torchzip.read),
    ("npz", npy.read_archive),
)


def layout_of(path: Path) -> Layout:
    """Look into a file."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        for name, read in _READERS:
            file.seek(0)
            try:
                tensors = _checked(read(file, size_bytes), size_bytes)
            except NotThisFormatError:
                continue
            return Layout(format=name, size_bytes=size_bytes, tensors=tensors)
    return Layout(format="bytes", size_bytes=size_bytes, tensors=())


def _checked(found: Iterable[Tensor], size_bytes: int) -> tuple[Tensor, ...]:
    tensors = sorted(found, key=lambda tensor: tensor.offset_bytes)
    ends = [tensor.offset_bytes + tensor.size_bytes for tensor in tensors]
    if any(later.offset_bytes < end for end, (_, later) in zip(ends, pairwise(tensors), strict=False)):
        raise NotThisFormatError("tensors overlap")
    if ends and (ends[-1] > size_bytes or tensors[0].offset_bytes < 0):
        raise NotThisFormatError("a tensor lies outside of the file")
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise NotThisFormatError("a name occurs twice")
    return tuple(tensor for tensor in tensors if tensor.size_bytes >= MIN_TENSOR_BYTES)
