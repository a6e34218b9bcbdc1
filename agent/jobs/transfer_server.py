"""CheckpointService: what another site may read from us, and what it may bring.

Who calls comes from the caller's certificate, what is allowed from the ticket; both must agree. The service
keeps no state about callers beyond the rate of each ticket: every call stands for itself.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any, NoReturn

import grpc
import grpc.aio

from agent.core import manifest as manifests
from agent.core.bitmap import Run
from agent.core.manifest import Layout
from agent.jobs import serializer, transfer_codec, transfer_link
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.transfer_arrivals import Arrival, Arrivals
from agent.jobs.transfer_difference import DifferenceDesk
from agent.jobs.transfer_files import ChunkReader, Staging
from agent.jobs.transfer_intake import Intake, Pacer, opened, unwrapped
from agent.jobs.transfer_outflow import chunk_pieces
from agent.model.jobs import Checkpoint
from sterna import ticket
from sterna.clock import Clock
from sterna.errors import CorruptError, PeerProtocolError, PermanentError, TransientError
from sterna.heap import FreedMemory
from sterna.v1 import checkpoint_service_pb2 as pb

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
WANTS_AHEAD = 2


class CheckpointServicer:
    """Serves the checkpoints of one store.

    Parameters
    ----------
    site_id : str
        Ours; a ticket must name us in the role that the call gives us.
    store : CheckpointStore
        What is served and where offers go.
    arrivals : Arrivals
        What we wait for; `Transfers` fills it.
    clock : Clock
        For the expiry of tickets and for rates.
    ticket_key : callable
        Our ticket key, 32 bytes; None as long as no coordinator has told it.
    peer : callable
        The site id in the caller's certificate; None when there is none.
    stall_s : float
        Seconds of silence after which an offering stream counts as dead.
    run_chunks : int
        Chunks that are asked for at a time.
    differences : DifferenceDesk or None
        Makes them; None: this site makes none.
    """

    def __init__(
        self,
        *,
        site_id: str,
        store: CheckpointStore,
        arrivals: Arrivals,
        clock: Clock,
        ticket_key: Callable[[], bytes | None],
        peer: Callable[[Context], str | None],
        stall_s: float = 60.0,
        run_chunks: int = 16,
        differences: DifferenceDesk | None = None,
    ) -> None:
        self._site_id = site_id
        self._store = store
        self._arrivals = arrivals
        self._clock = clock
        self._ticket_key = ticket_key
        self._peer = peer
        self._stall_s = stall_s
        self._run_chunks = run_chunks
        self._differences = differences
        self._freed_memory = FreedMemory()
        self._pacers: dict[str, tuple[datetime, Pacer]] = {}

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service. The generated function would bring the generated, slower, serialisers."""
        handlers = {
            "Manifest": grpc.unary_unary_rpc_method_handler(
                self.manifest,
                request_deserializer=pb.ManifestRequest.FromString,
                response_serializer=pb.ManifestResponse.SerializeToString,
            ),
            "Chunk": grpc.unary_stream_rpc_method_handler(
                self.chunk,
                request_deserializer=pb.ChunkRequest.FromString,
                response_serializer=serializer.chunk_to_wire,
            ),
            "Difference": grpc.unary_stream_rpc_method_handler(
                self.difference,
                request_deserializer=pb.DifferenceRequest.FromString,
                response_serializer=serializer.chunk_to_wire,
            ),
            "Offer": grpc.stream_stream_rpc_method_handler(
                self.offer,
                request_deserializer=serializer.offer_from_wire,
                response_serializer=pb.OfferResponse.SerializeToString,
            ),
        }
        generic = grpc.method_handlers_generic_handler(transfer_link.SERVICE, handlers)
        server.add_generic_rpc_handlers((generic,))

    async def manifest(self, request: pb.ManifestRequest, context: Context) -> pb.ManifestResponse:
        """Give the manifest of a sealed checkpoint."""
        checkpoint, _ = await self._as_holder(request.checkpoint_id, context)
        await self._store.mark_shared(checkpoint.checkpoint_id)
        return pb.ManifestResponse(manifest=transfer_codec.manifest_to_proto(checkpoint.manifest))

    async def chunk(self, request: pb.ChunkRequest, context: Context) -> AsyncIterator[memoryview]:
        """Give the bytes of consecutive chunks."""
        checkpoint, pacer = await self._as_holder(request.checkpoint_id, context)
        layout = Layout.of(checkpoint.manifest)
        if request.count < 1 or request.first + request.count > layout.chunks:
            await context.abort(
                grpc.StatusCode.OUT_OF_RANGE,
                f"chunks {request.first} and {request.count} on: there are {layout.chunks}",
            )
        folder = await self._store.files_folder(checkpoint.checkpoint_id)
        if folder is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "the checkpoint was let go")
        run = Run(first=request.first, count=request.count)
        try:
            if run.count == 1:  # asked for alone: it may have arrived different, and who can tell why is us
                await self._store.recheck(checkpoint.checkpoint_id, [run.first])
            with self._freed_memory.given_back():
                async for piece in chunk_pieces(ChunkReader(folder, layout), run, (pacer,)):
                    yield piece
        except CorruptError as error:
            await self._store.quarantine(checkpoint.checkpoint_id, str(error))
            await context.abort(grpc.StatusCode.DATA_LOSS, str(error))
        except TransientError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def offer(self, _: object, context: Context) -> None:
        """Take in a checkpoint over a stream that its holder opened."""
        claims, token = await self._admitted(context)
        if claims.receiver != self._site_id or self._peer(context) != claims.holder:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "the ticket is not the caller's to offer with"
            )
        arrival = self._arrivals.find(claims.checkpoint_id)
        if arrival is None or arrival.job_id != claims.job_id or arrival.done.done():
            known = await self._store.get(claims.checkpoint_id)
            if known is None or known.manifest.job_id != claims.job_id:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no such checkpoint is expected")
            await context.write(pb.OfferResponse(complete=True))  # our answer to an earlier offer was lost
            return
        try:
            with unwrapped():
                checkpoint = await arrival.run(
                    lambda: self._take_in(arrival, self._pacer(token, claims), context)
                )
        except PermanentError as error:
            if not arrival.done.done():
                arrival.done.set_exception(error)
            await context.abort(grpc.StatusCode.DATA_LOSS, str(error))
        except TransientError as error:
            log.warning("offer broke off", extra={"holder": claims.holder, "reason": str(error)})
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        if checkpoint is None:
            await context.abort(
                grpc.StatusCode.ABORTED, "another stream took over, or nobody waits any longer"
            )

    async def difference(self, request: pb.DifferenceRequest, context: Context) -> AsyncIterator[bytes]:
        """Give a checkpoint as a difference to an earlier one that the caller says it has."""
        checkpoint, pacer = await self._as_holder(request.checkpoint_id, context)
        folders, base_id = None, request.base_checkpoint_id
        if self._differences is not None and manifests.is_checkpoint_id(base_id):
            folders = await self._differences.folders(
                checkpoint.checkpoint_id, base_id, checkpoint.manifest.job_id
            )
        if self._differences is None or folders is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no difference to that base here")
        try:
            async with aclosing(self._differences.pieces(*folders, pacer)) as pieces:
                async for piece in pieces:
                    yield piece
        except CorruptError as error:
            await context.abort(grpc.StatusCode.DATA_LOSS, str(error))
        except TransientError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    async def _take_in(self, arrival: Arrival, pacer: Pacer, context: Context) -> Checkpoint:
        order = arrival.order
        first = await context.read()
        if not isinstance(first, pb.OfferRequest) or not first.HasField("manifest"):
            raise PeerProtocolError(f"{order.holder_site}: an offer begins with a manifest")
        manifest = transfer_codec.manifest_from_proto(first.manifest, order.holder_site, order.checkpoint_id)
        if manifest.job_id != arrival.job_id:
            raise PeerProtocolError(f"{order.holder_site}: the checkpoint is another job's")
        known = await self._store.get(order.checkpoint_id)
        if known is None:
            folder = await self._store.fetch_staging(arrival.job_id, order.checkpoint_id)
            staging = Staging(folder, manifest)
            try:
                await opened(staging, arrival.tally, self._clock)
                staging.require_space(self._store.free_bytes())
                await self._pull(staging, arrival, pacer, context)
                known = await staging.publish(self._store)
            finally:
                staging.close()
        if not arrival.done.done():
            arrival.done.set_result(known)  # first: the holder hangs up once it is told, which ends this call
        await context.write(pb.OfferResponse(complete=True))
        return known

    async def _pull(self, staging: Staging, arrival: Arrival, pacer: Pacer, context: Context) -> None:
        intake = Intake(
            staging=staging,
            peer=arrival.order.holder_site,
            tally=arrival.tally,
            pacers=(arrival.pacer, pacer),
            clock=self._clock,
            stall_s=self._stall_s,
            on_progress=arrival.on_progress,
        )

        async def read() -> memoryview | None:
            message = await context.read()
            if isinstance(message, pb.OfferRequest):
                raise PeerProtocolError(f"{arrival.order.holder_site}: a second manifest where data was due")
            return message if isinstance(message, memoryview) else None

        to_ask = list(staging.missing(self._run_chunks))
        asked: list[Run] = []
        while to_ask or asked:
            while to_ask and len(asked) < WANTS_AHEAD:
                run = to_ask.pop(0)
                await context.write(
                    pb.OfferResponse(
                        want=pb.ChunkRequest(
                            checkpoint_id=arrival.order.checkpoint_id, first=run.first, count=run.count
                        )
                    )
                )
                asked.append(run)
            to_ask += await intake.take(asked.pop(0), read)

    async def _as_holder(self, checkpoint_id: str, context: Context) -> tuple[Checkpoint, Pacer]:
        """Check that the caller may read this checkpoint here."""
        claims, token = await self._admitted(context)
        named = claims.holder == self._site_id and claims.checkpoint_id == checkpoint_id
        if not named or self._peer(context) != claims.receiver:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the ticket is not the caller's for this")
        checkpoint = (
            await self._store.get(checkpoint_id) if manifests.is_checkpoint_id(checkpoint_id) else None
        )
        if checkpoint is None or checkpoint.manifest.job_id != claims.job_id:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such checkpoint here")
        return checkpoint, self._pacer(token, claims)

    async def _admitted(self, context: Context) -> tuple[ticket.Claims, str]:
        key = self._ticket_key()
        if key is None:
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "no coordinator has told this site its ticket key yet"
            )
        metadata = context.invocation_metadata() or ()
        token = next((str(value) for name, value in metadata if name == transfer_link.TICKET_METADATA), "")
        try:
            return ticket.verify(key, token, self._clock.now()), token
        except ticket.TicketError as error:
            log.warning("ticket refused", extra={"peer_site": self._peer(context), "reason": str(error)})
            await _refuse(context, str(error))

    def _pacer(self, token: str, claims: ticket.Claims) -> Pacer:
        """One pacer for all calls under one ticket."""
        now = self._clock.now()
        self._pacers = {key: held for key, held in self._pacers.items() if held[0] > now}
        return self._pacers.setdefault(token, (claims.expires_at, Pacer(claims.max_bps, self._clock)))[1]


async def _refuse(context: Context, why: str) -> NoReturn:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, why)
    raise AssertionError("abort returned")
