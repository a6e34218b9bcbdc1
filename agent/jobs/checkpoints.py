"""The sealed checkpoints of a site, on disk.

Below the root: ``sealed/JOB/ID/{manifest.json,files/…,shared}``, ``staging/JOB/…`` for what is being made,
``quarantine/JOB/ID`` for what was found corrupt, ``trash`` for what is being removed. A checkpoint appears in
``sealed`` by one rename, after its files and then its manifest are durable, and leaves it by one rename:
nothing half-written is listed, wherever the process dies. Its folder is named by its manifest's BLAKE3.

What it refuses to know: trainers, orders, the network.
"""

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from agent.core import manifest as manifests
from agent.core.manifest import Layout
from agent.jobs import checkpoint_copies as copies
from agent.jobs import checkpoint_files as disk
from agent.jobs import checkpoint_leftovers as leftovers
from agent.jobs.checkpoint_access import Access
from agent.jobs.checkpoint_pass import ChunkPass, threads_at_rest
from agent.jobs.checkpoint_taking import Taking, Wanted
from agent.jobs.checkpoint_trust import Trust
from agent.model.jobs import Checkpoint, Manifest
from sterna.clock import Clock
from sterna.errors import CorruptError, PermanentError, StaleEpochError

log = logging.getLogger(__name__)

DEFAULT_CHUNK_BYTES = 4 * 1024 * 1024
SHARED = "shared"
"""Empty file beside a manifest: another site has this checkpoint too."""
_RANK = attrgetter("rank")

OnLoss = Callable[[str, tuple[Checkpoint, ...]], None]
"""Called with a job of which a checkpoint turned out corrupt, and those that are left, newest first."""


class CheckpointStore:
    """Sealed checkpoints below one folder, on one file system. One store per folder.

    Parameters
    ----------
    root : Path
        Made when missing. Reflinks work where trainers write to the same file system and it can.
    clock : Clock
        Dates the seals.
    chunk_bytes : int
        Size of the chunks of new manifests, in bytes, 1 to 16 MiB.
    """

    def __init__(self, root: Path, clock: Clock, chunk_bytes: int = DEFAULT_CHUNK_BYTES) -> None:
        self._root = root
        self._lock = asyncio.Lock()
        self._known: dict[str, Checkpoint] | None = None
        self._trust = Trust(clock)
        self._take = Taking(chunk_bytes=chunk_bytes, clock=clock)
        self._looking = asyncio.Lock()
        self._access = Access(root, clock)
        self._on_loss: OnLoss = lambda _job_id, _left: None

    async def seal(
        self,
        job_id: str,
        epoch: int,
        step: int,
        source: Path,
        files: Sequence[str] | None = None,
        *,
        left_in: Path | None = None,
        stays: Sequence[str] = (),
    ) -> Checkpoint:
        """Take a checkpoint out of the trainer's reach, complete, hashed, durable.

        Parameters
        ----------
        job_id : str
            A plain name.
        epoch : int
            The grant under which the trainer runs.
        step : int
            The training step that the checkpoint holds.
        source : Path
            A file or a folder.
        files : sequence of str or None
            Relative to the folder `source`; None: all below it.
        left_in : Path or None
            Folder of a run of which no process is left, and which is going to be removed: what lies below it
            need not be copied. None: the trainer lives.
        stays : sequence of str
            Files that stay where they are; see `agent.core.staying`.

        Returns
        -------
        Checkpoint
            The new one, or the one that was sealed before from the same bytes at the same epoch and step.

        Raises
        ------
        StaleEpochError
            A checkpoint of a higher epoch is here.
        TransientError
            The trainer keeps writing, it is incomplete, or the disk is full.
        PermanentError
            What lies there cannot be a checkpoint.
        """
        if not manifests.is_job_id(job_id):
            raise PermanentError(f"job id {job_id!r} is not a plain name")
        newest = await self.checkpoints(job_id)
        if newest and newest[0].manifest.epoch > epoch:
            raise StaleEpochError(f"job {job_id}: a checkpoint of epoch {newest[0].manifest.epoch} is here")
        staging = await disk.in_thread(lambda _: self._new_staging(job_id, "seal-"))
        wanted = Wanted(
            job_id=job_id, epoch=epoch, step=step, source=source, files=files, left_in=left_in, stays=stays
        )
        try:
            manifest = await disk.in_thread(lambda stop: self._take(wanted, staging / "files", stop))
            # A seal may be repeated, as after a crash before it was recorded.
            same = [one for one in newest if replace(one.manifest, sealed_at=manifest.sealed_at) == manifest]
            return same[0] if same else await self.publish(staging, manifest)
        finally:
            await disk.in_thread(lambda _: disk.remove(staging))

    async def look_ahead(
        self, job_id: str, epoch: int, step: int, source: Path, stays: Sequence[str] = ()
    ) -> None:
        """Hash a checkpoint whose trainer is about to end, so that its seal is sooner done; see `Taking`.

        One at a time: it is not to take the threads that somebody waits for. Cancelled, it leaves the rest to
        the seal. Raises as the seal does, where it is no checkpoint now.
        """
        wanted = Wanted(job_id=job_id, epoch=epoch, step=step, source=source, stays=stays)
        async with self._looking:
            await disk.in_thread(lambda stop: self._take.look_ahead(wanted, stop))

    async def publish(self, staging: Path, manifest: Manifest) -> Checkpoint:
        """Move a staging folder, whose ``files`` are complete, verified and durable, into the store.

        Raises
        ------
        TransientError
            The disk failed.
        """
        known = await self._index()
        checkpoint = Checkpoint(checkpoint_id=manifests.checkpoint_id(manifest), manifest=manifest)
        async with self._lock:
            if checkpoint.checkpoint_id not in known:
                await disk.in_thread(lambda _: self._move_in(staging, checkpoint))
                known[checkpoint.checkpoint_id] = checkpoint
        log.info(
            "checkpoint stored",
            extra={
                "job_id": manifest.job_id,
                "checkpoint_id": checkpoint.checkpoint_id,
                "step": manifest.step,
                "checkpoint_bytes": manifest.size_bytes,
            },
        )
        return checkpoint

    def _move_in(self, staging: Path, checkpoint: Checkpoint) -> None:
        disk.write_durable(staging / "manifest.json", manifests.encode(checkpoint.manifest))
        target = self._folder(checkpoint)
        target.parent.mkdir(parents=True, exist_ok=True)
        disk.sync_folder(target.parent.parent)
        staging.rename(target)
        disk.sync_folder(target.parent)
        self._trust.note(checkpoint.checkpoint_id, target / "files", checkpoint.manifest.files)

    async def open(self) -> None:
        """Read what is here, as every other call does that needs it."""
        await self._index()

    async def checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """List the verified checkpoints of a job, newest (epoch, then step, then time) first."""
        known = await self._index()
        mine = [checkpoint for checkpoint in known.values() if checkpoint.manifest.job_id == job_id]
        return tuple(sorted(mine, key=_RANK, reverse=True))

    async def get(self, checkpoint_id: str) -> Checkpoint | None:
        """Look a checkpoint up; None when it is not here."""
        return (await self._index()).get(checkpoint_id)

    async def files_folder(self, checkpoint_id: str) -> Path | None:
        """Find the folder that the manifest's paths are relative to; None when it is not here. Read only."""
        checkpoint = await self.get(checkpoint_id)
        return self._folder(checkpoint) / "files" if checkpoint else None

    async def materialize(self, checkpoint_id: str, target_dir: Path) -> Path:
        """Make a private, verified copy for a trainer to resume from.

        Parameters
        ----------
        checkpoint_id : str
            Which one.
        target_dir : Path
            Made when missing; an earlier copy of the same name in it is replaced.

        Returns
        -------
        Path
            The folder or the single file in `target_dir`, under the name that the trainer had given it.

        Raises
        ------
        CorruptError
            The stored bytes differ from the manifest, or are lost; the checkpoint is now in quarantine.
        PermanentError
            No such checkpoint.
        TransientError
            The disk is full or failed.
        """
        checkpoint = await self.get(checkpoint_id)
        if checkpoint is None:
            raise PermanentError(f"no checkpoint {checkpoint_id} here")
        try:
            return await disk.in_thread(lambda stop: self._copy_back(checkpoint, target_dir, stop))
        except CorruptError as error:
            await self.quarantine(checkpoint_id, str(error))
            raise

    def _copy_back(self, checkpoint: Checkpoint, target_dir: Path, stop: threading.Event) -> Path:
        name = manifests.top_name(checkpoint.manifest)
        target_dir.mkdir(parents=True, exist_ok=True)
        for left in target_dir.glob(".materialize-*"):
            disk.remove(left)
        with tempfile.TemporaryDirectory(prefix=".materialize-", dir=target_dir) as partial:
            self._copy_verified(checkpoint, Path(partial), stop)
            disk.remove(target_dir / name)
            (Path(partial) / name).rename(target_dir / name)
        return target_dir / name

    def _copy_verified(self, checkpoint: Checkpoint, target: Path, stop: threading.Event) -> None:
        """Copy the files; hash what is copied, unless they were verified a moment ago and are untouched."""
        source, files = self._folder(checkpoint) / "files", checkpoint.manifest.files
        copies.require_sizes(files, source)
        trusted = self._trust.holds(checkpoint.checkpoint_id, source, files)
        copies.copy(
            Layout.of(checkpoint.manifest),
            source.joinpath,
            target,
            stop,
            threads=threads_at_rest(),
            hashing=not trusted,
            verified_as="" if trusted else checkpoint.checkpoint_id,
        )
        if not trusted:
            self._trust.note(checkpoint.checkpoint_id, source, files)

    async def recheck(self, checkpoint_id: str, chunks: Sequence[int] | None = None) -> None:
        """Hash a stored checkpoint once more: whoever received it says that it is not what was promised.

        Parameters
        ----------
        checkpoint_id : str
            Which one.
        chunks : sequence of int or None
            Those in doubt; None: all.

        Raises
        ------
        CorruptError
            The stored bytes differ from the manifest, or are lost; the checkpoint is now in quarantine.
        TransientError
            They cannot be read now.
        """
        checkpoint = await self.get(checkpoint_id)
        if checkpoint is None:
            return
        try:
            await disk.in_thread(lambda stop: self._look_at(checkpoint, chunks, stop))
        except CorruptError as error:
            await self.quarantine(checkpoint_id, str(error))
            raise

    def _look_at(self, checkpoint: Checkpoint, chunks: Sequence[int] | None, stop: threading.Event) -> None:
        folder, layout = self._folder(checkpoint) / "files", Layout.of(checkpoint.manifest)
        copies.require_sizes(layout.manifest.files, folder)
        look = ChunkPass(layout, folder.joinpath, indices=chunks, verified_as=checkpoint.checkpoint_id)
        look.run(stop)

    def watch(self, on_loss: OnLoss) -> None:
        """Have somebody told of every quarantine."""
        self._on_loss = on_loss

    async def quarantine(self, checkpoint_id: str, reason: str) -> None:
        """Take a corrupt checkpoint out of the lists; its bytes stay for a look until the job is let go."""
        known = await self._index()
        async with self._lock:
            checkpoint = known.pop(checkpoint_id, None)
            self._trust.forget(checkpoint_id)
            if checkpoint is None:
                return
            await disk.in_thread(lambda _: self._move_aside(self._folder(checkpoint)))
        log.error(
            "checkpoint is corrupt, quarantined",
            extra={"job_id": checkpoint.manifest.job_id, "checkpoint_id": checkpoint_id, "reason": reason},
        )
        self._on_loss(checkpoint.manifest.job_id, await self.checkpoints(checkpoint.manifest.job_id))

    def _move_aside(self, folder: Path) -> None:
        target = self._root / "quarantine" / folder.parent.name / folder.name
        target.parent.mkdir(parents=True, exist_ok=True)
        self._discard(target)
        folder.rename(target)

    async def mark_shared(self, checkpoint_id: str) -> None:
        """Note that another site has this checkpoint too: the next one may travel as a difference to it."""
        folder = await self.files_folder(checkpoint_id)
        if folder is not None:
            await disk.in_thread(lambda _: (folder.parent / SHARED).touch())

    async def keep_newest(self, job_id: str, n: int) -> None:
        """Remove all but the `n` newest checkpoints of a job, and the newest that another site has too.

        With 0, nothing is kept, and its quarantine goes as well.
        """
        known = await self._index()
        async with self._lock:
            dropped = list((await self.checkpoints(job_id))[max(n, 0) :])
            if n > 0:
                dropped = await disk.in_thread(lambda _: self._without_shared(job_id, dropped, known))
            folders = [self._folder(checkpoint) for checkpoint in dropped]
            if n <= 0 and manifests.is_job_id(job_id):
                folders.append(self._root / "quarantine" / job_id)
            for checkpoint in dropped:
                del known[checkpoint.checkpoint_id]
                self._trust.forget(checkpoint.checkpoint_id)
            await disk.in_thread(lambda _: self._discard(*folders))

    def _without_shared(
        self, job_id: str, dropped: list[Checkpoint], known: dict[str, Checkpoint]
    ) -> list[Checkpoint]:
        """Leave out the newest shared checkpoint of a job; nothing when a newer one is shared too."""
        mine = sorted((c for c in known.values() if c.manifest.job_id == job_id), key=_RANK, reverse=True)
        shared = next((c for c in mine if (self._folder(c) / SHARED).exists()), None)
        return [checkpoint for checkpoint in dropped if checkpoint != shared]

    async def drop_staging(self, job_id: str) -> None:
        """Remove what was being fetched or sealed for a job. Nothing may be under way for it."""
        await self._index()
        if manifests.is_job_id(job_id):
            await disk.in_thread(lambda _: self._discard(self._root / "staging" / job_id))

    async def fetch_staging(self, job_id: str, checkpoint_id: str) -> Path:
        """Find or make the folder in which a fetch gathers a checkpoint; it survives a restart."""
        await self._index()
        if not (manifests.is_job_id(job_id) and manifests.is_checkpoint_id(checkpoint_id)):
            raise PermanentError(f"cannot stage {checkpoint_id!r} for job {job_id!r}")
        folder = self._root / "staging" / job_id / f"fetch-{checkpoint_id}"
        await disk.in_thread(lambda _: folder.mkdir(parents=True, exist_ok=True))
        return folder

    @property
    def fault(self) -> str:
        """Why the folder cannot be read now, in words; empty when it can, or nobody has tried."""
        return self._access.fault

    def free_bytes(self) -> int:
        """Bytes that may still be written where the store lies; 0 while it cannot be read."""
        if self.fault:
            return 0
        folder = self._root
        while not folder.exists():
            folder = folder.parent
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize

    def _folder(self, checkpoint: Checkpoint) -> Path:
        return self._root / "sealed" / checkpoint.manifest.job_id / checkpoint.checkpoint_id

    def _new_staging(self, job_id: str, prefix: str) -> Path:
        folder = self._root / "staging" / job_id
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=prefix, dir=folder))

    def _discard(self, *paths: Path) -> None:
        """Remove folders by way of the trash: a half-removed one must not be found in its old place."""
        for path in paths:
            if path.exists():
                trash = Path(tempfile.mkdtemp(dir=self._root / "trash"))
                path.rename(trash / path.name)
                disk.remove(trash)

    async def _index(self) -> dict[str, Checkpoint]:
        if self._known is None:
            async with self._lock:
                if self._known is None:
                    self._known = await self._access.read(
                        lambda _: leftovers.recover(self._root, self._move_aside)
                    )
        return self._known
