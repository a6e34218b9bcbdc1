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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to take, from where; see `CheckpointStore.seal`."""

    job_id: str
    epoch: int
    step: int
    source: Path
    files: Sequence[str] | None
    left_in: Path | None


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

    def __call__(self, wanted: Wanted, target: Path, stop: threading.Event) -> Manifest:
        """Bring the files below `target`, which must not exist, and describe them.

        Raises
        ------
        TransientError
            They change all the time, or are not complete.
        PermanentError
            They cannot be a checkpoint.
        """
        for _ in range(TRIES):
            disk.remove(target)
            found = disk.scan(wanted.source, wanted.files)
            linked = False
            if wanted.left_in is not None:
                linked = copies.link_out(found, target, wanted.left_in)
                found = disk.scan(wanted.source, wanted.files)  # a second name is a change to a file, too
            draft = self._draft(wanted, found)
            try:
                digests = _hashed(draft, found, target, stop, linked=linked, gently=wanted.left_in is None)
            except CorruptError:
                continue  # it has become shorter
            if disk.scan(wanted.source, wanted.files) == found:
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
    draft: Manifest,
    found: Sequence[disk.Found],
    target: Path,
    stop: threading.Event,
    *,
    linked: bool,
    gently: bool,
) -> tuple[bytes, ...]:
    """Have the files below `target`, durable, and return the hash of each chunk.

    `gently`: in one thread, since the trainer wants the processor too.
    """
    layout, threads = Layout.of(draft), 1 if gently else threads_at_rest()
    if linked:
        return copies.hash_linked(layout, target, stop, threads)
    paths = {item.name: item.path for item in found}
    digests = copies.copy(layout, paths.__getitem__, target, stop, threads=threads)
    copies.sync(draft.files, target, stop)
    return digests
