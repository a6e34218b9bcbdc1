"""A head start for a fetch: the checkpoint as a difference to one that both ends have (docs/delta.md).

What comes out of it is held to the manifest like everything else; what it does not bring, or brings wrong, is
fetched as it is. So nothing depends on it but time, and every fault here ends in a plain fetch.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import grpc
import grpc.aio

from agent.core.codec_plan import coding_pace_bytes_s, difference_pays
from agent.jobs.checkpoint_files import in_thread
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.codec_worker import CodecWorker
from agent.jobs.transfer_files import Staging
from agent.jobs.transfer_intake import OnProgress, Pacer, Tally, unwrapped
from agent.jobs.transfer_link import LinkError, statuses
from sterna.clock import Clock
from sterna.errors import SternaError, TransientError

log = logging.getLogger(__name__)

TRIES = 3
"""Differences that one fetch begins, and bases that it asks the holder for."""
PACE_LIFE_S = 3600.0
"""A machine that was too busy to code is asked again after this."""
AskHolder = Callable[[str], "grpc.aio.UnaryStreamCall[object, memoryview]"]
"""Opens the holder's stream of a difference to the base of this id."""


class Pace:
    """How fast differences were lately coded between here and one other site; forgotten after a while."""

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None

    def note(self, coding_bytes_s: float | None, now_s: float) -> None:
        """Note what a difference showed; None: coding was fast enough."""
        self._seen = None if coding_bytes_s is None else (coding_bytes_s, now_s)

    def coding_bytes_s(self, now_s: float) -> float | None:
        """Return bytes of checkpoint per second; None: nothing is known against it."""
        if self._seen is None or now_s - self._seen[1] > PACE_LIFE_S:
            return None
        return self._seen[0]


class HeadStart:
    """The differences that one fetch may take.

    Parameters
    ----------
    worker : CodecWorker
        Decodes.
    store : CheckpointStore
        Where bases are looked for.
    link_bps : float or None
        What the link is expected to give, bits per second; None, unknown: no difference is taken.
    pace : Pace
        What differences from that site showed lately.
    holder : str
        The holding site, for messages.
    clock, stall_s, pacer, tally, on_progress
        As for the fetch that it is part of.
    """

    def __init__(
        self,
        *,
        worker: CodecWorker,
        store: CheckpointStore,
        link_bps: float | None,
        pace: Pace,
        holder: str,
        clock: Clock,
        stall_s: float,
        pacer: Pacer,
        tally: Tally,
        on_progress: OnProgress,
    ) -> None:
        self._worker = worker
        self._store = store
        self._link_bps = link_bps
        self._pace = pace
        self._holder = holder
        self._clock = clock
        self._stall_s = stall_s
        self._pacer = pacer
        self._tally = tally
        self._on_progress = on_progress
        self._tries_left = TRIES

    async def take(self, staging: Staging, ask: AskHolder) -> None:
        """Fill `staging` with what a difference gives, if one pays; returns whatever comes of it."""
        size_bytes = staging.manifest.size_bytes
        if self._link_bps is None or 2 * staging.missing_bytes < size_bytes:
            return
        coding_bytes_s = self._pace.coding_bytes_s(self._clock.boottime_s())
        if not difference_pays(size_bytes, self._link_bps, coding_bytes_s):
            return
        for base in (await self._store.checkpoints(staging.manifest.job_id))[:TRIES]:
            folder = await self._store.files_folder(base.checkpoint_id)
            if self._tries_left <= 0 or folder is None:
                return
            if await self._from(base.checkpoint_id, folder, staging, ask):
                return

    async def _from(self, base_id: str, folder: Path, staging: Staging, ask: AskHolder) -> bool:
        """Take a difference to one base; False when the holder does not have that one."""
        call = ask(base_id)
        try:
            with statuses(self._holder):
                first = await self._read(call)
            self._tries_left -= 1
            await self._decode(self._pieces(first, call), folder, staging)
        except SternaError as error:
            refused = call.done() and await call.code() is grpc.StatusCode.FAILED_PRECONDITION
            if refused:
                return False
            log.warning(
                "difference broke off, the rest goes as it is",
                extra={"holder": self._holder, "base_id": base_id, "reason": str(error)},
            )
        finally:
            call.cancel()
        return True

    async def _decode(self, pieces: AsyncIterator[memoryview], folder: Path, staging: Staging) -> None:
        total_bytes = staging.manifest.size_bytes
        before_bytes, started_s = self._tally.transferred_bytes, self._clock.boottime_s()
        decoded = _Decoded()
        await in_thread(lambda _: staging.distrust())
        try:
            with unwrapped():
                async with asyncio.TaskGroup() as group:
                    believing = group.create_task(self._believe(staging, decoded))
                    await self._worker.decode_stream(
                        pieces, staging.files, folder, max_bytes=total_bytes, progress=decoded.note
                    )
                    believing.cancel()
        finally:
            await in_thread(staging.believe_bytes)
            self._note_pace(total_bytes, self._tally.transferred_bytes - before_bytes, started_s)
            log.info(
                "difference taken",
                extra={
                    "holder": self._holder,
                    "checkpoint_bytes": total_bytes,
                    "received_bytes": self._tally.transferred_bytes - before_bytes,
                    "missing_bytes": staging.missing_bytes,
                },
            )

    async def _believe(self, staging: Staging, decoded: "_Decoded") -> None:
        """Look at what has been decoded while more is: at the end little is left to look at."""
        total_bytes, first = staging.manifest.size_bytes, 0
        while True:
            await decoded.more.wait()
            decoded.more.clear()
            here_bytes = min(decoded.size_bytes, total_bytes)
            beyond = here_bytes // staging.manifest.chunk_bytes
            await in_thread(partial(staging.believe_bytes, first=first, beyond=beyond))
            first = beyond
            self._on_progress(here_bytes, total_bytes)

    def _note_pace(self, size_bytes: int, received_bytes: int, started_s: float) -> None:
        now_s = self._clock.boottime_s()
        if self._link_bps is not None:
            seen = coding_pace_bytes_s(size_bytes, received_bytes, now_s - started_s, self._link_bps)
            self._pace.note(seen, now_s)

    async def _pieces(
        self, first: memoryview | None, call: "grpc.aio.UnaryStreamCall[object, memoryview]"
    ) -> AsyncIterator[memoryview]:
        piece = first
        while piece is not None:
            if piece:  # an empty one says that the holder is still at it
                self._tally.transferred_bytes += len(piece)
                self._tally.difference_bytes += len(piece)
                self._tally.moved_at_s = self._clock.boottime_s()
                await self._pacer.pass_on(len(piece))
                yield piece
            with statuses(self._holder):
                piece = await self._read(call)

    async def _read(self, call: "grpc.aio.UnaryStreamCall[object, memoryview]") -> memoryview | None:
        try:
            async with asyncio.timeout(self._stall_s):
                piece = await call.read()
        except TimeoutError as error:
            raise LinkError(f"{self._holder}: nothing came for {self._stall_s} s") from error
        return piece if isinstance(piece, memoryview) else None


class _Decoded:
    """How far a decoder is, and that it has come further."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.size_bytes = 0

    def note(self, done_bytes: int) -> None:
        """Take the decoder's word."""
        self.size_bytes = done_bytes
        self.more.set()


class DifferenceDesk:
    """The differences that this site makes for others, one at a time.

    Parameters
    ----------
    worker : CodecWorker
        Encodes.
    store : CheckpointStore
        Where checkpoints and bases are.
    """

    def __init__(self, *, worker: CodecWorker, store: CheckpointStore) -> None:
        self._worker = worker
        self._store = store
        self._busy = asyncio.Lock()

    async def folders(self, checkpoint_id: str, base_id: str, job_id: str) -> tuple[Path, Path] | None:
        """Find both checkpoints; None when the base is not here or is another job's."""
        base = await self._store.get(base_id)
        new_folder = await self._store.files_folder(checkpoint_id)
        base_folder = await self._store.files_folder(base_id)
        if base is None or new_folder is None or base_folder is None or base.manifest.job_id != job_id:
            return None
        return new_folder, base_folder

    async def pieces(self, new: Path, base: Path, pacer: Pacer) -> AsyncGenerator[bytes, None]:
        """Give the container while it is made; empty pieces in between say that it is still being made.

        Raises
        ------
        TransientError
            Another one is being made, or the worker failed.
        PermanentError, CorruptError
            See `CodecWorker.encode`.
        """
        if self._busy.locked():
            raise TransientError("another difference is being made here")
        async with self._busy, aclosing(self._worker.encode_stream(new, base)) as pieces:
            async for piece in pieces:
                if piece:
                    await pacer.pass_on(len(piece))
                yield piece
