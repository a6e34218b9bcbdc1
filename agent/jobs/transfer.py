"""Transfers that this site was ordered to make: fetch a checkpoint, or dial a receiver and offer it one.

The receiver chooses the chunks, verifies each against the manifest whose identity the coordinator ordered,
and goes on where it stopped: after a cut, after a restart, whoever dials. What it refuses to know: what the
checkpoint is for.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from agent.core.manifest import Layout
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.transfer_arrivals import Arrival, Arrivals
from agent.jobs.transfer_files import ChunkReader
from agent.jobs.transfer_intake import OnProgress, Pacer, Tally
from agent.jobs.transfer_link import LinkError, OpenChannel
from agent.jobs.transfer_offer import Push
from agent.jobs.transfer_pull import Pull
from agent.model.jobs import Checkpoint
from agent.model.orders import Fetch, Offer
from sterna.backoff import Backoff
from sterna.clock import Clock
from sterna.errors import CorruptError, PermanentError, TransientError
from sterna.heap import FreedMemory
from sterna.units import bytes_to_bits

if TYPE_CHECKING:
    from agent.jobs.codec_worker import CodecWorker
    from agent.jobs.transfer_difference import HeadStart, Pace

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult:
    """A checkpoint that is here now, verified and durable.

    `transferred_bytes` counts what this fetch received, repeats included, and not what an earlier one had
    left; `seconds` runs from the first try to durable, less what the look at what was here took.
    `goodput_bps` is bits per second over that time; None when nothing had to be moved, or a difference was,
    whose pace is not the link's.
    """

    checkpoint: Checkpoint
    transferred_bytes: int
    seconds: float
    goodput_bps: float | None


class Transfers:
    """Makes the transfers of one site.

    Parameters
    ----------
    store : CheckpointStore
        Where checkpoints come from and go to.
    clock : Clock
        Its duration clock is used.
    open_channel : callable
        See `OpenChannel`.
    streams : int
        Connections per fetch, at least 1.
    run_chunks : int
        Chunks asked for at a time, at least 1.
    dial_s : float
        Seconds for a connection to stand, and for a manifest to come.
    stall_s : float
        Seconds without a piece after which a connection counts as dead.
    give_up_s : float
        Seconds without a verified chunk after which a transfer is given up; what came is kept.
    backoff_min_s, backoff_max_s : float
        Seconds between tries; doubled from one to the other, with jitter.
    worker : CodecWorker or None
        Decodes differences; None: checkpoints come as they are.
    """

    def __init__(
        self,
        *,
        store: CheckpointStore,
        clock: Clock,
        open_channel: OpenChannel,
        streams: int = 2,
        run_chunks: int = 16,
        dial_s: float = 10.0,
        stall_s: float = 60.0,
        give_up_s: float = 600.0,
        backoff_min_s: float = 0.5,
        backoff_max_s: float = 15.0,
        worker: "CodecWorker | None" = None,
    ) -> None:
        self.arrivals = Arrivals()
        self._freed_memory = FreedMemory()
        self._store = store
        self._clock = clock
        self._open_channel = open_channel
        self._streams = streams
        self._run_chunks = run_chunks
        self._dial_s = dial_s
        self._stall_s = stall_s
        self._give_up_s = give_up_s
        self._backoff_min_s = backoff_min_s
        self._backoff_max_s = backoff_max_s
        self._random = random.Random()
        self._worker = worker
        self._link_bps: dict[str, float] = {}
        self._paces: dict[str, Pace] = {}
        self.received_bytes = 0
        """Bytes that completed fetches have received since the start."""
        self.sent_bytes = 0
        """Bytes that receivers which we dialled have taken since the start."""

    async def fetch(self, job_id: str, order: Fetch, on_progress: OnProgress) -> FetchResult:
        """Bring a checkpoint here; idempotent, and cheap when it is here already.

        Parameters
        ----------
        job_id : str
            Whose checkpoint it must be.
        order : Fetch
            Which one, from whom. Without an address we wait for the holder to dial us.
        on_progress : callable
            Called with verified bytes and bytes in all.

        Raises
        ------
        PermanentError
            Refused by the holder, a forged manifest, a chunk that arrives different every time.
        TransientError
            The disk is full, or nothing came for `give_up_s`; what came is kept for the next fetch.
        """
        with self._freed_memory.given_back():
            return await self._fetch(job_id, order, on_progress)

    async def _fetch(self, job_id: str, order: Fetch, on_progress: OnProgress) -> FetchResult:
        started_s = self._clock.boottime_s()
        tally = Tally(moved_at_s=started_s)
        pacer = Pacer(order.max_bps, self._clock)
        checkpoint = await self._store.get(order.checkpoint_id)
        if checkpoint is not None:
            if checkpoint.manifest.job_id != job_id:
                raise PermanentError(f"checkpoint {order.checkpoint_id} is another job's")
            on_progress(checkpoint.manifest.size_bytes, checkpoint.manifest.size_bytes)
        elif order.holder_address is None:
            arrival = Arrival(job_id=job_id, order=order, pacer=pacer, tally=tally, on_progress=on_progress)
            checkpoint = await self._await_arrival(arrival)
        else:
            pull = Pull(
                job_id=job_id,
                order=order,
                address=order.holder_address,
                store=self._store,
                clock=self._clock,
                open_channel=self._open_channel,
                streams=self._streams,
                run_chunks=self._run_chunks,
                dial_s=self._dial_s,
                stall_s=self._stall_s,
                pacer=pacer,
                tally=tally,
                on_progress=on_progress,
                head_start=self._head_start(order, pacer, tally, on_progress),
            )
            checkpoint = await self._persist(order.holder_site, tally, pull.attempt)
        await self._store.mark_shared(checkpoint.checkpoint_id)
        seconds = self._clock.boottime_s() - started_s - tally.looked_s
        return self._result(order, checkpoint, tally, seconds)

    def _head_start(
        self, order: Fetch, pacer: Pacer, tally: Tally, on_progress: OnProgress
    ) -> "HeadStart | None":
        if self._worker is None:
            return None
        from agent.jobs.transfer_difference import HeadStart, Pace  # not before a checkpoint moves

        known = [bps for bps in (self._link_bps.get(order.holder_site), order.max_bps) if bps is not None]
        return HeadStart(
            worker=self._worker,
            store=self._store,
            link_bps=min(known, default=None),
            pace=self._paces.setdefault(order.holder_site, Pace()),
            holder=order.holder_site,
            clock=self._clock,
            stall_s=self._stall_s,
            pacer=pacer,
            tally=tally,
            on_progress=on_progress,
        )

    def _result(self, order: Fetch, checkpoint: Checkpoint, tally: Tally, seconds: float) -> FetchResult:
        self.received_bytes += tally.transferred_bytes
        moved_bits = bytes_to_bits(tally.transferred_bytes)
        # The pace of a difference is that of the slowest of link and two processors: it says too little.
        plain = tally.difference_bytes == 0
        goodput_bps = moved_bits / seconds if plain and moved_bits and seconds > 0 else None
        if goodput_bps is not None:
            self._link_bps[order.holder_site] = goodput_bps
        return FetchResult(
            checkpoint=checkpoint,
            transferred_bytes=tally.transferred_bytes,
            seconds=seconds,
            goodput_bps=goodput_bps,
        )

    async def offer(self, job_id: str, order: Offer) -> int:
        """Dial the receiver and serve it a checkpoint until it says that it has it.

        Returns
        -------
        int
            Bytes sent.

        Raises
        ------
        PermanentError
            It is not here, is another job's, is corrupt, or the receiver refuses it.
        TransientError
            The receiver was not reached, or took nothing, for `give_up_s`.
        """
        checkpoint = await self._store.get(order.checkpoint_id)
        folder = await self._store.files_folder(order.checkpoint_id)
        if checkpoint is None or folder is None or checkpoint.manifest.job_id != job_id:
            raise PermanentError(f"no checkpoint {order.checkpoint_id} of job {job_id} here")
        await self._store.mark_shared(checkpoint.checkpoint_id)
        tally = Tally(moved_at_s=self._clock.boottime_s())
        push = Push(
            order=order,
            reader=ChunkReader(folder, Layout.of(checkpoint.manifest)),
            clock=self._clock,
            open_channel=self._open_channel,
            dial_s=self._dial_s,
            answer_s=self._give_up_s,
            pacer=Pacer(order.max_bps, self._clock),
            tally=tally,
        )
        try:
            with self._freed_memory.given_back():
                await self._persist(order.receiver_site, tally, push.attempt)
        except CorruptError:
            await self._store.recheck(order.checkpoint_id)  # which raises, where it is ours that is to blame
            raise
        finally:
            self.sent_bytes += tally.transferred_bytes
        return tally.transferred_bytes

    async def _persist(self, peer: str, tally: Tally, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try again after every cut, as long as something moves in between."""
        backoff = Backoff(self._backoff_min_s, self._backoff_max_s, draw=self._random.random)
        while True:
            moved_at_s = tally.moved_at_s
            try:
                return await attempt()
            except LinkError as error:
                if self._clock.boottime_s() - tally.moved_at_s > self._give_up_s:
                    raise
                if tally.moved_at_s > moved_at_s:
                    backoff.reset()
                wait_s = backoff.next_s()
                log.warning(
                    "transfer was cut, goes on later",
                    extra={"peer_site": peer, "reason": str(error), "wait_s": wait_s},
                )
                await asyncio.sleep(wait_s)

    async def _await_arrival(self, arrival: Arrival) -> Checkpoint:
        async with self.arrivals.expect(arrival):
            while True:
                left_s = arrival.tally.moved_at_s + self._give_up_s - self._clock.boottime_s()
                if left_s <= 0:
                    raise TransientError(
                        f"{arrival.order.holder_site}: nothing was offered for {self._give_up_s} s"
                    )
                await asyncio.wait([arrival.done], timeout=left_s)
                if arrival.done.done():
                    return arrival.done.result()
