"""A fetch from a holder that we dial."""

import asyncio
from collections import deque
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import grpc.aio

from agent.core.bitmap import Run
from agent.jobs import serializer, transfer_codec
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.transfer_files import Staging
from agent.jobs.transfer_intake import Intake, OnProgress, Pacer, Tally, opened, unwrapped
from agent.jobs.transfer_link import SERVICE, TICKET_METADATA, OpenChannel, standing_channel, statuses
from agent.model.jobs import Checkpoint, Manifest
from agent.model.orders import Fetch
from sterna.clock import Clock
from sterna.errors import PeerProtocolError
from sterna.v1 import checkpoint_service_pb2 as pb

if TYPE_CHECKING:
    from agent.jobs.transfer_difference import HeadStart


class Pull:
    """One fetch, over as many attempts as it takes.

    Parameters
    ----------
    job_id, order, address
        Whose checkpoint, which, and where its holder listens.
    store, clock, open_channel, streams, run_chunks, dial_s, stall_s
        See `Transfers`.
    pacer, tally, on_progress
        What the order allows, what has moved, and who wants to know.
    head_start
        Differences that may be taken; None: none.
    """

    def __init__(
        self,
        *,
        job_id: str,
        order: Fetch,
        address: str,
        store: CheckpointStore,
        clock: Clock,
        open_channel: OpenChannel,
        streams: int,
        run_chunks: int,
        dial_s: float,
        stall_s: float,
        pacer: Pacer,
        tally: Tally,
        on_progress: OnProgress,
        head_start: "HeadStart | None",
    ) -> None:
        self._job_id = job_id
        self._order = order
        self._address = address
        self._store = store
        self._clock = clock
        self._open_channel = open_channel
        self._streams = streams
        self._run_chunks = run_chunks
        self._dial_s = dial_s
        self._stall_s = stall_s
        self._pacer = pacer
        self._tally = tally
        self._on_progress = on_progress
        self._head_start = head_start
        self._metadata = grpc.aio.Metadata((TICKET_METADATA, order.ticket))

    async def attempt(self) -> Checkpoint:
        """Fetch what is missing.

        Raises
        ------
        LinkError
            It was cut; another attempt goes on from there.
        TransientError, PermanentError
            See `Transfers.fetch`.
        """
        order = self._order
        async with AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(self._channel())]
            manifest = await self._manifest(channels[0])
            folder = await self._store.fetch_staging(self._job_id, order.checkpoint_id)
            staging = Staging(folder, manifest)
            stack.callback(staging.close)
            await opened(staging, self._tally, self._clock)
            staging.require_space(self._store.free_bytes())
            total_bytes = manifest.size_bytes
            self._on_progress(total_bytes - staging.missing_bytes, total_bytes)
            if self._head_start is not None:
                await self._head_start.take(staging, partial(self._ask_difference, channels[0]))
            runs = deque(staging.missing(self._run_chunks))
            for _ in range(min(self._streams, len(runs)) - 1):
                channels.append(await stack.enter_async_context(self._channel()))
            intake = Intake(
                staging=staging,
                peer=order.holder_site,
                tally=self._tally,
                pacers=(self._pacer,),
                clock=self._clock,
                stall_s=self._stall_s,
                on_progress=self._on_progress,
            )
            with unwrapped():
                async with asyncio.TaskGroup() as group:
                    for channel in channels:
                        group.create_task(self._stream(channel, intake, runs))
            return await staging.publish(self._store)

    def _channel(self) -> AbstractAsyncContextManager[grpc.aio.Channel]:
        return standing_channel(self._open_channel, self._address, self._order.holder_site, self._dial_s)

    async def _manifest(self, channel: grpc.aio.Channel) -> Manifest:
        call = channel.unary_unary(
            f"/{SERVICE}/Manifest",
            request_serializer=pb.ManifestRequest.SerializeToString,
            response_deserializer=pb.ManifestResponse.FromString,
        )
        holder, checkpoint_id = self._order.holder_site, self._order.checkpoint_id
        request = pb.ManifestRequest(checkpoint_id=checkpoint_id)
        with statuses(holder):
            response = await call(request, metadata=self._metadata, timeout=self._dial_s)
        manifest = transfer_codec.manifest_from_proto(response.manifest, holder, checkpoint_id)
        if manifest.job_id != self._job_id:
            raise PeerProtocolError(f"{holder}: the checkpoint is job {manifest.job_id}'s")
        return manifest

    def _ask_difference(
        self, channel: grpc.aio.Channel, base_id: str
    ) -> "grpc.aio.UnaryStreamCall[object, memoryview]":
        method = channel.unary_stream(
            f"/{SERVICE}/Difference",
            request_serializer=pb.DifferenceRequest.SerializeToString,
            response_deserializer=serializer.chunk_from_wire,
        )
        request = pb.DifferenceRequest(checkpoint_id=self._order.checkpoint_id, base_checkpoint_id=base_id)
        return method(request, metadata=self._metadata)

    async def _stream(self, channel: grpc.aio.Channel, intake: Intake, runs: deque[Run]) -> None:
        """Ask for one run after the other over one connection, until none is left."""
        method = channel.unary_stream(
            f"/{SERVICE}/Chunk",
            request_serializer=pb.ChunkRequest.SerializeToString,
            response_deserializer=serializer.chunk_from_wire,
        )
        while runs:
            run = runs.popleft()
            request = pb.ChunkRequest(
                checkpoint_id=self._order.checkpoint_id, first=run.first, count=run.count
            )
            call = method(request, metadata=self._metadata)
            try:
                with statuses(self._order.holder_site):
                    runs.extend(await intake.take(run, _Reader(call)))
            finally:
                call.cancel()


class _Reader:
    """Pieces of one call."""

    def __init__(self, call: "grpc.aio.UnaryStreamCall[pb.ChunkRequest, memoryview]") -> None:
        self._call = call

    async def __call__(self) -> memoryview | None:
        piece = await self._call.read()
        return piece if isinstance(piece, memoryview) else None
