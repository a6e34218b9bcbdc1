"""A run of chunks on its way in: one thread receives, paces, verifies and writes it.

With nothing handed over between the event loop and threads a checkpoint takes less of the processor
(docs/migration.md). What the thread does is told to the loop, which alone counts.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial

import grpc

from agent.core.bitmap import Run
from agent.jobs import serializer
from agent.jobs.checkpoint_files import Abandoned, in_thread
from agent.jobs.transfer_intake import Intake
from agent.jobs.transfer_link import from_status


class Reading:
    """Takes in the chunks of one run.

    Parameters
    ----------
    run : Run
        What was asked for.
    call : grpc.CallIterator
        Gives messages as they come; it is ended here.
    intake : Intake
        Where they go.
    """

    def __init__(self, run: Run, call: "grpc.CallIterator[bytes]", intake: Intake) -> None:
        self._run = run
        self._call = call
        self._messages = iter(call)
        self._cancel: Callable[[], object] = call.cancel
        self._intake = intake
        self._loop = asyncio.get_running_loop()
        self._received_bytes = 0
        self._waiting_since_s: float | None = None
        self._silent = False

    async def take(self, threads: Executor) -> list[Run]:
        """Take the run in.

        Returns
        -------
        list of Run
            What arrived different and is to be asked for again.

        Raises
        ------
        LinkError
            The stream ended early or fell silent.
        PeerProtocolError
            What came is no chunk.
        CorruptError
            A chunk arrived different again and again.
        TransientError
            The disk is full or failed.
        """
        self._watch()
        try:
            spoilt = await in_thread(self._read, threads, self._cancel)
        finally:
            self._watching.cancel()
            self._cancel()
            self._intake.tally.transferred_bytes += self._received_bytes
        return [self._intake.spoilt(index) for index in spoilt]

    def _watch(self) -> None:
        """End the call once its thread has waited for too long."""
        since_s = self._waiting_since_s
        stall_s = self._intake.stall_s
        left_s = stall_s if since_s is None else since_s + stall_s - self._intake.clock.boottime_s()
        if left_s > 0:
            self._watching = self._loop.call_later(left_s, self._watch)
        else:
            self._silent = True
            self._cancel()

    def _read(self, stop: threading.Event) -> list[int]:
        """Do it, in the thread; return what arrived different."""
        spoilt = []
        try:
            for index in range(self._run.first, self._run.first + self._run.count):
                if self._intake.staging.store(index, self._gather(index, stop)):
                    self._loop.call_soon_threadsafe(partial(self._intake.kept, index))
                else:
                    spoilt.append(index)
        except grpc.RpcError as error:
            if self._silent:
                raise self._intake.silence() from error
            raise from_status(self._call.code(), self._call.details(), self._intake.peer) from error
        return spoilt

    def _gather(self, index: int, stop: threading.Event) -> list[memoryview]:
        chunk = self._intake.gathering(index)
        while chunk.missing_bytes:
            self._waiting_since_s = self._intake.clock.boottime_s()
            message = next(self._messages, None)
            self._waiting_since_s = None
            chunk.add(None if message is None else serializer.chunk_from_wire(message))
            size_bytes = len(chunk.pieces[-1])
            self._received_bytes += size_bytes
            for pacer in self._intake.pacers:
                if stop.wait(pacer.wait_s(size_bytes)):
                    raise Abandoned
        return chunk.pieces
