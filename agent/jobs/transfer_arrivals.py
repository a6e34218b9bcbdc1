"""Checkpoints that this site waits for while the holder dials (``CheckpointService.Offer``)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from agent.jobs.transfer_intake import OnProgress, Pacer, Tally
from agent.model.jobs import Checkpoint
from agent.model.orders import Fetch


class Arrival:
    """One fetch that waits to be offered.

    Parameters
    ----------
    job_id : str
        Whose checkpoint.
    order : Fetch
        What was ordered.
    pacer : Pacer
        What the order allows.
    tally : Tally
        What has moved so far.
    on_progress : callable
        See `OnProgress`.
    """

    def __init__(
        self, *, job_id: str, order: Fetch, pacer: Pacer, tally: Tally, on_progress: OnProgress
    ) -> None:
        self.job_id = job_id
        self.order = order
        self.pacer = pacer
        self.tally = tally
        self.on_progress = on_progress
        self.done: asyncio.Future[Checkpoint] = asyncio.get_running_loop().create_future()
        self._turn = asyncio.Lock()
        self._stream: asyncio.Task[Checkpoint] | None = None

    async def run(self, work: Callable[[], Awaitable[Checkpoint]]) -> Checkpoint | None:
        """Run what takes in one stream; only the newest may touch the staging folder.

        Returns
        -------
        Checkpoint or None
            None when a newer stream replaced this one, which was half open, or nobody waits any longer.
        """
        async with asyncio.TaskGroup() as group:
            former = self._stream
            if former is not None:
                former.cancel()
            stream = self._stream = group.create_task(self._in_turn(work))
        if self._stream is stream:
            self._stream = None
        return None if stream.cancelled() else stream.result()

    async def _in_turn(self, work: Callable[[], Awaitable[Checkpoint]]) -> Checkpoint:
        async with self._turn:
            return await work()

    def end(self) -> None:
        """Nobody waits any longer: end what is still coming in, unless it is only saying goodbye."""
        if self._stream is not None and not self.done.done():
            self._stream.cancel()
        self.done.cancel()


class Arrivals:
    """What this site waits for, by checkpoint id."""

    def __init__(self) -> None:
        self._waiting: dict[str, Arrival] = {}

    @asynccontextmanager
    async def expect(self, arrival: Arrival) -> AsyncIterator[Arrival]:
        """Wait for a checkpoint to be offered, as long as the context lasts."""
        self._waiting[arrival.order.checkpoint_id] = arrival
        try:
            yield arrival
        finally:
            if self._waiting.get(arrival.order.checkpoint_id) is arrival:
                del self._waiting[arrival.order.checkpoint_id]
            arrival.end()

    def find(self, checkpoint_id: str) -> Arrival | None:
        """Return the fetch that waits for this checkpoint, if any."""
        return self._waiting.get(checkpoint_id)
