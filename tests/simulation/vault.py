"""The sealed checkpoints of a site on its simulated disk; it does what `agent.jobs.checkpoints` promises.

Chunks have real content and real BLAKE3 hashes, so that what is corrupt is found by looking, or not at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import blake3

from agent.core import manifest as manifests
from agent.model.jobs import Checkpoint, CheckpointFile, Manifest
from sterna.clock import Clock
from sterna.errors import CorruptError, PermanentError, StaleEpochError
from tests.simulation.disk import Disk

CHUNKS = 3
CHUNK_BYTES = 1000

Commit = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A checkpoint and the bytes that are really there."""

    checkpoint: Checkpoint
    chunks: tuple[bytes, ...]


@cache
def content(job_id: str, step: int) -> tuple[bytes, ...]:
    """Return what a trainer writes at a step; training is deterministic."""
    return tuple(f"{job_id} {step} {index}".encode() for index in range(CHUNKS))


@cache
def digest(chunk: bytes) -> bytes:
    return blake3.blake3(chunk).digest()


def is_intact(sealed: Sealed) -> bool:
    return tuple(map(digest, sealed.chunks)) == sealed.checkpoint.manifest.chunk_hashes


class Vault:
    """One site's checkpoints.

    Parameters
    ----------
    disk, clock
        Of the site.
    commit : callable
        Through which everything durable goes; it may not return.
    on_change : callable
        Told the job whose checkpoints have changed.
    """

    def __init__(self, disk: Disk, clock: Clock, commit: Commit, on_change: Callable[[str], None]) -> None:
        self._disk, self._clock, self._commit, self._on_change = disk, clock, commit, on_change

    def held(self, job_id: str) -> list[Sealed]:
        """Return what is there, newest first."""
        here = self._disk.folder(("sealed", job_id)).values()
        return sorted(here, key=lambda one: one.checkpoint.rank, reverse=True)

    def listed(self, job_id: str) -> tuple[Checkpoint, ...]:
        return tuple(one.checkpoint for one in self.held(job_id))

    def get(self, job_id: str, checkpoint_id: str) -> Sealed | None:
        found: Sealed | None = self._disk.read(("sealed", job_id), checkpoint_id)
        return found

    def seal(self, job_id: str, epoch: int, step: int) -> Checkpoint:
        """Take a trainer's checkpoint of a step into the store."""
        known = self.listed(job_id)
        if known and known[0].manifest.epoch > epoch:
            raise StaleEpochError(f"job {job_id}: a checkpoint of epoch {known[0].manifest.epoch} is here")
        for one in known:
            if (one.manifest.epoch, one.manifest.step) == (epoch, step):
                return one
        chunks = content(job_id, step)
        manifest = Manifest(
            job_id=job_id,
            epoch=epoch,
            step=step,
            files=(CheckpointFile(path="state", size_bytes=CHUNKS * CHUNK_BYTES),),
            chunk_bytes=CHUNK_BYTES,
            chunk_hashes=tuple(map(digest, chunks)),
            sealed_at=self._clock.now(),
        )
        checkpoint = Checkpoint(checkpoint_id=manifests.checkpoint_id(manifest), manifest=manifest)
        self.publish(Sealed(checkpoint, chunks))
        return checkpoint

    def publish(self, sealed: Sealed) -> None:
        """Make a complete checkpoint appear, durably, by one rename."""
        folder = ("sealed", sealed.checkpoint.manifest.job_id)
        name = sealed.checkpoint.checkpoint_id

        def write() -> None:
            self._disk.write(folder, name, sealed, durable=True)
            self._on_change(folder[1])  # whatever the one who wrote it comes to hear of it

        self._commit(write)

    def take_out(self, job_id: str, checkpoint_id: str) -> int:
        """Make a verified copy for a trainer; return its step.

        Raises
        ------
        CorruptError
            Its bytes are not those of its manifest; it is in quarantine now.
        PermanentError
            It is not here.
        """
        sealed = self.get(job_id, checkpoint_id)
        if sealed is None:
            raise PermanentError(f"no checkpoint {checkpoint_id} here")
        if not is_intact(sealed):
            self.quarantine(job_id, checkpoint_id)
            raise CorruptError(f"checkpoint {checkpoint_id} is corrupt")
        return sealed.checkpoint.manifest.step

    def quarantine(self, job_id: str, checkpoint_id: str) -> None:
        self._disk.remove(("sealed", job_id), checkpoint_id, durable=True)
        self._on_change(job_id)

    def keep_newest(self, job_id: str, count: int) -> list[Checkpoint]:
        """Remove all but the newest; return what went."""
        gone = [one.checkpoint for one in self.held(job_id)[count:]]
        for checkpoint in gone:
            self._disk.remove(("sealed", job_id), checkpoint.checkpoint_id)
        if gone:
            self._on_change(job_id)
        return gone

    def flip_a_bit(self, job_id: str, checkpoint_id: str) -> None:
        sealed = self.get(job_id, checkpoint_id)
        if sealed is not None:
            chunks = (sealed.chunks[0] + b"\x01", *sealed.chunks[1:])
            self._disk.write(
                ("sealed", job_id), checkpoint_id, Sealed(sealed.checkpoint, chunks), durable=True
            )
