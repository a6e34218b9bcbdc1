"""The copy that a trainer resumes from, made while its checkpoint arrives: a start then only moves it.

Each chunk that has arrived, and was verified as it did, is copied at once. The copy takes the disk that a
start would take, sooner. Only time depends on it: where it fails, the start copies as usual.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from agent.core import manifest as manifests
from agent.core.bitmap import Bitmap
from agent.core.manifest import Layout
from agent.jobs import checkpoint_copies as copies
from agent.jobs import checkpoint_files as disk
from agent.jobs.checkpoint_leftovers import TWIN
from agent.jobs.checkpoint_pass import ChunkPass, make_files, threads_at_rest
from agent.jobs.checkpoint_trust import TRUST_S
from agent.jobs.checkpoints import CheckpointStore
from agent.model.orders import Fetch
from sterna.clock import Clock
from sterna.errors import SternaError, TransientError

log = logging.getLogger(__name__)


class Twin:
    """One copy in the making; only its own thread writes to it.

    Parameters
    ----------
    checkpoint_id : str
        Of what.
    staging : Path
        Folder in which the checkpoint arrives; see `agent.jobs.transfer_files`.
    folder : Path
        Where the copy is made.
    free_bytes : callable
        How many bytes the disk still takes.
    """

    def __init__(
        self, *, checkpoint_id: str, staging: Path, folder: Path, free_bytes: Callable[[], int]
    ) -> None:
        self.checkpoint_id = checkpoint_id
        self.settled = asyncio.Event()
        """Nobody works on it any more, whatever came of it."""
        self.complete_s: float | None = None
        """CLOCK_BOOTTIME at which all of it was here and verified; None: it is not."""
        self._staging = staging
        self._received = staging.with_name(staging.name + ".received")
        self._distrusted = staging.with_name(staging.name + ".difference")
        self._folder = folder
        self._free_bytes = free_bytes
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="twin")
        self._stop = threading.Event()
        self._following: Future[None] | None = None
        self._layout: Layout | None = None
        self._left: set[int] = set()
        self._failed = False

    def nudge(self) -> None:
        """Say that something has arrived. Never blocks."""
        if not self._failed and (self._following is None or self._following.done()):
            self._following = self._pool.submit(self._follow)

    def _follow(self) -> None:
        try:
            layout = self._layout or self._begin()
            before = self._overwriting()
            received = Bitmap(layout.chunks, self._received.read_bytes())
            here = [index for index in received if index in self._left]
            copying = ChunkPass(
                layout,
                (self._staging / "files").joinpath,
                target=self._folder,
                hashing=False,
                indices=here,
            )
            copying.run(self._stop)
            if self._overwriting() == before:
                self._left.difference_update(here)
        except FileNotFoundError:
            pass  # it has just moved into the store: the rest is copied from there
        except (disk.Abandoned, OSError, SternaError) as error:
            self._fail(error)

    def _overwriting(self) -> tuple[int, int] | None:
        """Return what tells one difference from the next: it writes over chunks that were verified."""
        try:
            status = self._distrusted.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _begin(self) -> Layout:
        layout = Layout.of(manifests.decode((self._staging / "manifest.json").read_bytes()))
        if self._free_bytes() < 2 * layout.manifest.size_bytes:
            raise TransientError("no room for a checkpoint and its copy")
        make_files(layout, self._folder)
        self._left = set(range(layout.chunks))
        self._layout = layout
        return layout

    def _fail(self, error: Exception) -> None:
        self._failed = True
        self.remove()
        _say_why(self.checkpoint_id, error)

    def complete(self, files: Path, stop: threading.Event) -> bool:
        """Copy what is left from the stored checkpoint; False: there is no copy. Blocks."""
        return self._pool.submit(self._complete, files, stop).result()

    def _complete(self, files: Path, stop: threading.Event) -> bool:
        if self._failed or self._layout is None:
            return False
        try:
            copying = ChunkPass(
                self._layout,
                files.joinpath,
                target=self._folder,
                verified_as=self.checkpoint_id,
                indices=sorted(self._left),
            )
            copying.run(stop, threads_at_rest())
        except (disk.Abandoned, OSError, SternaError) as error:
            self._fail(error)
        return not self._failed

    def move_to(self, target_dir: Path) -> Path | None:
        """Move it into a run's own folder; None where that cannot be. Blocks briefly."""
        if self._layout is None:
            return None
        target = target_dir / manifests.top_name(self._layout.manifest)
        try:
            target_dir.mkdir(parents=True, exist_ok=True)
            disk.remove(target)
            (self._folder / target.name).rename(target)
        except OSError:  # another file system, or the job was let go of
            return None
        return target

    def end(self) -> None:
        """Have its thread end. Blocks until it has."""
        self._stop.set()
        self._pool.shutdown()

    def remove(self) -> None:
        """Remove what there is of it; what cannot be removed goes with the job's staging. Blocks."""
        with suppress(OSError):
            disk.remove(self._folder)


class Twins:
    """Copies ahead of the start, at most one per job.

    Parameters
    ----------
    store : CheckpointStore
        Where checkpoints arrive, and where a start is served from without such a copy.
    clock : Clock
        Its duration clock is used.
    """

    def __init__(self, *, store: CheckpointStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._twins: dict[str, Twin] = {}

    @asynccontextmanager
    async def beside(self, job_id: str, fetch: Fetch) -> AsyncIterator[Callable[[], None]]:
        """Copy beside a fetch; yields what to call when something has arrived.

        The copy is completed when the context is left, and dropped when an exception leaves it.
        """
        twin = None
        try:
            twin = await self._new(job_id, fetch)
        except SternaError as error:  # the fetch will say it again, and try again
            _say_why(fetch.checkpoint_id, error)
        if twin is None:
            yield lambda: None
            return
        self._twins[job_id] = twin
        try:
            yield twin.nudge
            files = await self._store.files_folder(fetch.checkpoint_id)
            if files is not None and await disk.in_thread(lambda stop: twin.complete(files, stop)):
                twin.complete_s = self._clock.boottime_s()
        finally:
            await disk.in_thread(lambda _: twin.end())
            if twin.complete_s is None:
                self._twins.pop(job_id, None)
                await disk.in_thread(lambda _: twin.remove())
            twin.settled.set()

    async def _new(self, job_id: str, fetch: Fetch) -> Twin | None:
        """Begin one; None where it would be of no use."""
        former = self._twins.pop(job_id, None)
        if former is not None:
            await disk.in_thread(lambda _: former.remove())
        if not fetch.for_start or await self._store.get(fetch.checkpoint_id) is not None:
            return None
        staging = await self._store.fetch_staging(job_id, fetch.checkpoint_id)
        if await disk.in_thread(lambda _: copies.can_clone(staging.parent)):
            return None
        return Twin(
            checkpoint_id=fetch.checkpoint_id,
            staging=staging,
            folder=staging.with_name(f"{TWIN}{fetch.checkpoint_id}"),
            free_bytes=self._store.free_bytes,
        )

    async def materialize(self, checkpoint_id: str, target_dir: Path) -> Path:
        """Make a private, verified copy for a trainer; see `CheckpointStore.materialize`."""
        found = [
            (job_id, twin) for job_id, twin in self._twins.items() if twin.checkpoint_id == checkpoint_id
        ]
        for job_id, twin in found:
            await twin.settled.wait()
            self._twins.pop(job_id, None)
            moved = None
            if await self._is_good(twin):
                moved = await disk.in_thread(lambda _: twin.move_to(target_dir))  # noqa: B023 - awaited here
            await disk.in_thread(lambda _: twin.remove())  # noqa: B023 - awaited here
            if moved is not None:
                return moved
        return await self._store.materialize(checkpoint_id, target_dir)

    async def _is_good(self, twin: Twin) -> bool:
        """Tell whether it was verified lately, of a checkpoint that is still held to be right."""
        verified_s = twin.complete_s
        if verified_s is None or self._clock.boottime_s() - verified_s > TRUST_S:
            return False
        return await self._store.get(twin.checkpoint_id) is not None


def _say_why(checkpoint_id: str, error: Exception) -> None:
    log.info("no copy made ahead of the start", extra={"checkpoint_id": checkpoint_id, "reason": str(error)})
