"""An offer: we hold the checkpoint and dial a receiver that we can reach while it cannot reach us."""

import asyncio

import grpc.aio

from agent.core.bitmap import Run
from agent.jobs import serializer, transfer_codec
from agent.jobs.transfer_files import ChunkReader
from agent.jobs.transfer_intake import Pacer, Tally
from agent.jobs.transfer_link import (
    SERVICE,
    TICKET_METADATA,
    LinkError,
    OpenChannel,
    from_status,
    standing_channel,
    statuses,
)
from agent.jobs.transfer_outflow import chunk_pieces
from agent.model.orders import Offer
from sterna.clock import Clock
from sterna.errors import PeerProtocolError
from sterna.v1 import checkpoint_service_pb2 as pb


class Push:
    """One offer, over as many attempts as it takes.

    Parameters
    ----------
    order : Offer
        Which checkpoint, to whom.
    reader : ChunkReader
        Where its bytes are.
    clock, open_channel, dial_s, answer_s
        See `Transfers`; `answer_s` is how long the receiver may take to look at what it has already.
    pacer, tally
        What the order allows and what has moved.
    """

    def __init__(
        self,
        *,
        order: Offer,
        reader: ChunkReader,
        clock: Clock,
        open_channel: OpenChannel,
        dial_s: float,
        answer_s: float,
        pacer: Pacer,
        tally: Tally,
    ) -> None:
        self._order = order
        self._reader = reader
        self._clock = clock
        self._open_channel = open_channel
        self._dial_s = dial_s
        self._answer_s = answer_s
        self._pacer = pacer
        self._tally = tally

    async def attempt(self) -> None:
        """Send what is asked for, until the receiver says that it has everything.

        Raises
        ------
        LinkError
            It was cut, or the receiver does not expect it yet.
        PermanentError
            The receiver refuses.
        """
        receiver = self._order.receiver_site
        metadata = grpc.aio.Metadata((TICKET_METADATA, self._order.ticket))
        channel_to = standing_channel(
            self._open_channel, self._order.receiver_address, receiver, self._dial_s
        )
        async with channel_to as channel:
            method = channel.stream_stream(
                f"/{SERVICE}/Offer",
                request_serializer=bytes,  # ours are serialised before they are written, see _converse
                response_deserializer=pb.OfferResponse.FromString,
            )
            call = method(None, metadata=metadata)
            try:
                with statuses(receiver):
                    await self._converse(call)
            except asyncio.InvalidStateError as error:  # a write after the receiver had ended the call
                raise from_status(await call.code(), await call.details(), receiver) from error
            finally:
                call.cancel()

    async def _converse(self, call: "grpc.aio.StreamStreamCall[bytes, pb.OfferResponse]") -> None:
        receiver = self._order.receiver_site
        layout = self._reader.layout
        manifest = transfer_codec.manifest_to_proto(layout.manifest)
        await call.write(serializer.offer_to_wire(pb.OfferRequest(manifest=manifest)))
        while True:
            try:
                async with asyncio.timeout(self._answer_s):
                    answer = await call.read()
            except TimeoutError as error:
                raise LinkError(f"{receiver}: no answer within {self._answer_s} s") from error
            if not isinstance(answer, pb.OfferResponse):
                raise LinkError(f"{receiver}: the stream ended")
            if answer.complete:
                return
            run = Run(first=answer.want.first, count=answer.want.count)
            if run.count < 1 or run.first + run.count > layout.chunks:
                raise PeerProtocolError(f"{receiver}: wants chunks {run.first} and {run.count} on")
            async for piece in chunk_pieces(self._reader, run, (self._pacer,)):
                # Serialised here and now: behind an interceptor, write() returns while the message still
                # waits in a queue, and the piece's buffer is about to be filled again.
                await call.write(serializer.offer_to_wire(piece))
                self._tally.transferred_bytes += len(piece)
                self._tally.moved_at_s = self._clock.boottime_s()
