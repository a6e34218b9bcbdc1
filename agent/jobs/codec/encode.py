"""A checkpoint into a container, as the cheapest differences to one that the destination has.

First every stretch of both checkpoints is hashed and, where it is not known there, sampled; that is the
plan, and what it expects to send. Then the stretches are encoded block by block, each block decoded again
at once, and the hash of what came out compared with the stretch's: a container that exists is known to
decode.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import blake3
import numpy as np

from agent.core.codec_plan import OCTET_BYTES, REFERENCE, Choice, Codec, width_of
from agent.jobs.codec import container
from agent.jobs.codec.container import ALONE, Base, Entry, FileEntries
from agent.jobs.codec.extents import BLOCK_BYTES, Extents, Stretch, complement
from agent.jobs.codec.layouts import layout_of
from agent.jobs.codec.packing import Packer, Piece
from sterna.errors import CorruptError, PermanentError

Progress = Callable[[int], None]
"""Told of bytes of checkpoint that were worked on, each time some more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What became of a checkpoint of `size_bytes`; `codec_bytes` maps a codec to (bytes in, bytes sent)."""

    size_bytes: int
    sent_bytes: int
    codec_bytes: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Region:
    """A stretch of a file on disk; the name of a rest is empty, its offset None."""

    path: str
    name: str
    offset_bytes: int | None
    width_bytes: int
    stretch: Stretch


def files_of(root: Path) -> dict[str, Path]:
    """List the files of a checkpoint, a file or a folder, by path below it.

    Raises
    ------
    PermanentError
        There is none.
    """
    if root.is_file():
        return {ALONE: root}
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    if not found:
        raise PermanentError(f"{root.name}: no checkpoint there")
    return dict(sorted(found.items()))


class Encoder:
    """One checkpoint, beside an earlier one or alone.

    Parameters
    ----------
    new : Path
        The checkpoint, a file or a folder, which does not change any more.
    old : Path or None
        An earlier one, which the destination has with the very same bytes.
    progress : callable
        Told of bytes worked on: those of both checkpoints by `plan`, those of the new one by `write`.
    """

    def __init__(self, new: Path, old: Path | None, progress: Progress = lambda _: None) -> None:
        self._roots = (new, old)
        self._progress = progress
        self._packer = Packer()
        self._buffer = np.empty(BLOCK_BYTES, np.uint8)
        self._base_buffer = np.empty(BLOCK_BYTES, np.uint8)
        self._proof = np.empty(BLOCK_BYTES, np.uint8)

    def plan(self) -> tuple[FileEntries, ...]:
        """Decide how each stretch is sent.

        Raises
        ------
        PermanentError
            There is no checkpoint.
        """
        new, old = self._roots
        known = _Known(self._digested(self._regions(old))) if old is not None else _Known(())
        files: dict[str, list[Entry]] = {path: [] for path in files_of(new)}
        sizes = {path: file.stat().st_size for path, file in files_of(new).items()}
        for region, digest in self._digested(self._regions(new)):
            files[region.path].append(self._entry(region, digest, known))
        return tuple(
            FileEntries(path=path, size_bytes=sizes[path], entries=tuple(entries))
            for path, entries in files.items()
        )

    def write(self, plan: Sequence[FileEntries], target: BinaryIO) -> Summary:
        """Write the container.

        Raises
        ------
        CorruptError
            A stretch changed since the plan was made, or does not come out as it went in.
        """
        counts: dict[str, tuple[int, int]] = {}
        sent_bytes = target.write(container.dump(plan))
        for file in plan:
            for entry in file.entries:
                payload_bytes = self._payload(file, entry, target)
                _count(counts, entry, payload_bytes)
                sent_bytes += payload_bytes
        size_bytes = sum(file.size_bytes for file in plan)
        return Summary(size_bytes=size_bytes, sent_bytes=sent_bytes, codec_bytes=counts)

    def _regions(self, root: Path) -> Iterator[_Region]:
        for path, file in files_of(root).items():
            layout = layout_of(file)
            with file.open("rb") as handle:
                fd = handle.fileno()
                places: list[tuple[str, int | None, int, Extents]] = [
                    (
                        tensor.name,
                        tensor.offset_bytes,
                        width_of(tensor.dtype, tensor.size_bytes),
                        ((tensor.offset_bytes, tensor.size_bytes),),
                    )
                    for tensor in layout.tensors
                ]
                rest = complement([place[3][0] for place in places], layout.size_bytes)
                if rest:
                    places.append(("", None, OCTET_BYTES, rest))
                for name, offset, width_bytes, extents in places:
                    yield _Region(path, name, offset, width_bytes, Stretch(fd, extents, f"{path}: {name!r}"))

    def _digested(self, regions: Iterator[_Region]) -> Iterator[tuple[_Region, bytes]]:
        for region in regions:
            digest = region.stretch.digest(self._buffer.data)
            self._progress(region.stretch.size_bytes)
            yield region, digest

    def _entry(self, region: _Region, digest: bytes, known: "_Known") -> Entry:
        base = known.same(region, digest)
        choice: Choice = REFERENCE
        if base is None:
            base, choice = self._choice(region, known)
        return Entry(
            name=region.name,
            offset_bytes=region.offset_bytes,
            size_bytes=region.stretch.size_bytes,
            digest=digest,
            choice=choice,
            base=base,
        )

    def _choice(self, region: _Region, known: "_Known") -> tuple[Base | None, Choice]:
        base = known.earlier(region)
        with ExitStack() as stack:
            old = self._base_stretch(stack, base, region.stretch.extents) if base else None
            choice = self._packer.choose(region.width_bytes, region.stretch, old)
        return (base if choice.way.codec is Codec.DELTA else None), choice

    def _base_stretch(self, stack: ExitStack, base: Base, extents: Extents) -> Stretch:
        root = self._roots[1]
        if root is None:
            raise CorruptError(f"{base.path}: a base without an earlier checkpoint")
        return open_base(stack, root, base, extents)

    def _payload(self, file: FileEntries, entry: Entry, target: BinaryIO) -> int:
        """Write one entry and prove it; return its bytes."""
        what = container.what(file.path, entry)
        if entry.choice.way.codec is Codec.REFERENCE:
            self._progress(entry.size_bytes)
            return 0
        hasher, written = blake3.blake3(), 0
        with ExitStack() as stack:
            handle = stack.enter_context(_below(self._roots[0], file.path).open("rb"))
            new = Stretch(handle.fileno(), file.extents(entry), what)
            old = self._base_stretch(stack, entry.base, new.extents) if entry.base else None
            for position, length in new.blocks():
                for piece in self._block(new, old, position, length, entry.choice):
                    written += target.write(piece)
                hasher.update(self._proof[:length].data)
                self._progress(length)
        if hasher.digest() != entry.digest:
            raise CorruptError(f"{what}: what was encoded does not decode to what was hashed")
        return written

    def _block(
        self, new: Stretch, old: Stretch | None, position: int, length: int, choice: Choice
    ) -> list[Piece]:
        """Encode a block; what it decodes to is then in the proof buffer."""
        data = self._buffer[:length]
        new.read(position, data.data)
        if choice.way.codec is Codec.RAW:
            self._proof[:length] = data
            return [data.data]
        base = None
        if old is not None:
            base = self._base_buffer[:length]
            old.read(position, base.data)
        pieces = self._packer.pack(data, base, choice)
        again = iter(pieces)
        self._packer.unpack(lambda _: next(again), base, choice.way.width_bytes, self._proof[:length])
        return pieces


class _Known:
    """What the destination has: every stretch by hash, and by what it is."""

    def __init__(self, digested: "Sequence[tuple[_Region, bytes]] | Iterator[tuple[_Region, bytes]]") -> None:
        self._by_digest: dict[tuple[bytes, int], Base] = {}
        self._by_place: dict[tuple[str, str], tuple[int, Extents, Base]] = {}
        for region, digest in digested:
            base = Base(path=region.path, offset_bytes=region.offset_bytes, digest=digest)
            extents = region.stretch.extents
            if region.offset_bytes is not None:
                self._by_digest.setdefault((digest, region.stretch.size_bytes), base)
            self._by_place[region.path, region.name if region.offset_bytes is not None else "\0"] = (
                region.width_bytes,
                extents,
                base,
            )

    def same(self, region: _Region, digest: bytes) -> Base | None:
        """Find equal bytes: of any tensor for a tensor, of the same file for a rest."""
        if region.offset_bytes is not None:
            return self._by_digest.get((digest, region.stretch.size_bytes))
        base = self.earlier(region)
        return base if base is not None and base.digest == digest else None

    def earlier(self, region: _Region) -> Base | None:
        """Find an earlier version; a rest has one only if it lies in the same places."""
        key = region.name if region.offset_bytes is not None else "\0"
        found = self._by_place.get((region.path, key))
        if found is None:
            return None
        width_bytes, extents, base = found
        if region.offset_bytes is None:
            return base if extents == region.stretch.extents else None
        same = width_bytes == region.width_bytes and extents[0][1] == region.stretch.size_bytes
        return base if same else None


def open_base(stack: ExitStack, root: Path, base: Base, extents: Extents) -> Stretch:
    """Open the earlier bytes that correspond to `extents` of the new file.

    Raises
    ------
    CorruptError
        They are not there.
    """
    path = _below(root, base.path)
    try:
        handle = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise CorruptError(f"{base.path}: the earlier file is not there") from error
    size_bytes = sum(length for _, length in extents)
    places = extents if base.offset_bytes is None else ((base.offset_bytes, size_bytes),)
    return Stretch(handle.fileno(), places, f"{base.path} (earlier)")


def _below(root: Path, path: str) -> Path:
    return root if path == ALONE else root / path


def _count(counts: dict[str, tuple[int, int]], entry: Entry, sent_bytes: int) -> None:
    given, sent = counts.get(entry.choice.way.codec.value, (0, 0))
    counts[entry.choice.way.codec.value] = (given + entry.size_bytes, sent + sent_bytes)


def expected_bytes(plan: Sequence[FileEntries]) -> int:
    """Estimate what a plan sends, from its samples and the size of its header."""
    entries = [entry for file in plan for entry in file.entries]
    payload = sum(entry.size_bytes * entry.choice.expected_frac for entry in entries)
    return round(payload) + len(container.dump(plan))


def partial_of(target: Path) -> Path:
    """Name what is being made until it is complete."""
    return target.with_name(target.name + ".partial")


def encode(new: Path, target: Path, old: Path | None = None, progress: Progress = lambda _: None) -> Summary:
    """Make a container, durable and proven, at `target`; nothing is there before it is complete.

    Raises
    ------
    CorruptError
        The checkpoint changed meanwhile.
    PermanentError
        There is no checkpoint.
    OSError
        The disk is full or failed.
    """
    partial = partial_of(target)
    partial.unlink(missing_ok=True)
    try:
        encoder = Encoder(new, old, progress)
        with partial.open("xb") as file:
            summary = encoder.write(encoder.plan(), file)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return summary


def estimate(new: Path, old: Path | None = None, progress: Progress = lambda _: None) -> Summary:
    """Tell what `encode` would send, at the speed of hashing. Raises as `encode` does."""
    plan = Encoder(new, old, progress).plan()
    counts: dict[str, tuple[int, int]] = {}
    for entry in (entry for file in plan for entry in file.entries):
        _count(counts, entry, round(entry.size_bytes * entry.choice.expected_frac))
    return Summary(
        size_bytes=sum(file.size_bytes for file in plan),
        sent_bytes=expected_bytes(plan),
        codec_bytes=counts,
    )
