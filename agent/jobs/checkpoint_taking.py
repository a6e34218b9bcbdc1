"""Taking what a trainer wrote as a checkpoint: stable, complete, hashed, durable. Blocking.

What it refuses to know: where checkpoints are kept, and which there are.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.core import manifest as manifests
from agent.core.manifest import Layout
from agent.jobs import checkpoint_copies as copies
from agent.jobs import checkpoint_files as disk
from agent.jobs.checkpoint_pass import threads_at_rest
from agent.model.jobs import CheckpointFile, Manifest
from sterna.clock import Clock
from sterna.errors import CorruptError, PermanentError, TransientError
from sterna.trainers import complete

TRIES = 3
TICK_S = 0.05
"""Longer than the clock that dates files stands still: within it a write may leave no trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to take, from where; see `CheckpointStore.seal`."""

    job_id: str
    epoch: int
    step: int
    source: Path
    files: Sequence[str] | None = None
    left_in: Path | None = None
    stays: Sequence[str] = ()

    def scan(self) -> tuple[disk.Found, ...]:
        """List what is to be taken, as it lies there now."""
        return disk.scan(self.source, self.files, self.stays)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Files as they were, and the hashes of their chunks as far as there was time."""

    found: tuple[disk.Found, ...]
    digests: list[bytes]


class Taking:
    """Takes checkpoints.

    Parameters
    ----------
    chunk_bytes : int
        Size of the chunks of the manifests, in bytes.
    clock : Clock
        Dates them.
    """

    def __init__(self, *, chunk_bytes: int, clock: Clock) -> None:
        self._chunk_bytes = chunk_bytes
        self._clock = clock
        self._ahead: dict[str, _Ahead] = {}

    def look_ahead(self, wanted: Wanted, stop: threading.Event) -> None:
        """Hash what is soon to be taken, and make it durable, while its trainer ends.

        It counts for what is linked afterwards, unless the files have changed by then. Nothing is done while
        somebody has one open for writing, or had it a moment ago.

        Raises
        ------
        TransientError, PermanentError, CorruptError
            They are no checkpoint now.
        """
        stop.wait(TICK_S)
        settled_s = self._clock.now().timestamp() - TICK_S
        found = wanted.scan()
        if not all(item.written_s < settled_s and copies.without_writers(item.path) for item in found):
            return
        layout = Layout.of(self._draft(wanted, found))
        self._ahead[wanted.job_id] = ahead = _Ahead(found, [b""] * layout.chunks)
        # In one thread, since the trainer wants the processor too.
        copies.hash_in_place(layout, _locate(found), stop, 1, ahead.digests)

    def __call__(self, wanted: Wanted, target: Path, stop: threading.Event) -> Manifest:
        """Bring the files below `target`, which must not exist, and describe them.

        Raises
        ------
        TransientError
            They change all the time, or are not complete.
        PermanentError
            They cannot be a checkpoint.
        """
        ahead = self._ahead.pop(wanted.job_id, None)
        for _ in range(TRIES):
            disk.remove(target)
            found = wanted.scan()
            known = ahead.digests if ahead is not None and ahead.found == found else None
            linked = False
            if wanted.left_in is not None:
                linked = copies.link_out(found, target, wanted.left_in)
                found = wanted.scan()  # a second name is a change to a file, too
            draft = self._draft(wanted, found)
            threads = 1 if wanted.left_in is None else threads_at_rest()  # the trainer wants some, too
            try:
                if linked:
                    digests = _hashed(draft, target, stop, threads, known)
                else:
                    digests = _copied(draft, found, target, stop, threads)
            except CorruptError:
                continue  # it has become shorter
            if wanted.scan() == found:
                break
        else:
            raise TransientError(
                f"job {wanted.job_id}: its checkpoint changes while it is copied", retry_after_s=1.0
            )
        # Judged by the copy: what the trainer has may have changed since somebody looked at it.
        fault = complete.fault(target / found[0].name.split("/")[0]) if found else None
        if fault:
            raise TransientError(
                f"checkpoint {wanted.source.name} is not complete: {fault}", retry_after_s=1.0
            )
        manifest = replace(draft, chunk_hashes=digests, sealed_at=self._clock.now())
        faults = manifests.faults(manifest)
        if faults:
            raise PermanentError(f"job {wanted.job_id}: not a checkpoint: " + "; ".join(faults))
        return manifest

    def _draft(self, wanted: Wanted, found: Sequence[disk.Found]) -> Manifest:
        """Return a manifest without its hashes: what they are made by."""
        files = tuple(CheckpointFile(path=item.name, size_bytes=item.size_bytes) for item in found)
        size_bytes = sum(file.size_bytes for file in files)
        return Manifest(
            job_id=wanted.job_id,
            epoch=wanted.epoch,
            step=wanted.step,
            files=files,
            chunk_bytes=self._chunk_bytes,
            chunk_hashes=(b"",) * manifests.chunk_count(size_bytes, self._chunk_bytes),
            sealed_at=self._clock.now(),
        )


def _hashed(
    draft: Manifest, target: Path, stop: threading.Event, threads: int, known: list[bytes] | None
) -> tuple[bytes, ...]:
    """Have the files linked below `target` durable; return the hash of each chunk, `known` or found now."""
    layout = Layout.of(draft)
    digests = [b""] * layout.chunks if known is None else known
    copies.hash_in_place(layout, target.joinpath, stop, threads, digests)
    disk.sync_folders(target)
    return tuple(digests)


def _copied(
    draft: Manifest, found: Sequence[disk.Found], target: Path, stop: threading.Event, threads: int
) -> tuple[bytes, ...]:
    """Copy the files below `target`, durably; return the hash of each chunk."""
    digests = copies.copy(Layout.of(draft), _locate(found), target, stop, threads=threads)
    copies.sync(draft.files, target.joinpath, stop)
    disk.sync_folders(target)
    return digests


def _locate(found: Sequence[disk.Found]) -> copies.Locate:
    """Return from a name in the checkpoint to where the trainer has the file."""
    return {item.name: item.path for item in found}.__getitem__
