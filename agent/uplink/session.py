"""One session: an open stream from Hello to its end. It is thrown away when the link breaks."""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass

import grpc
import grpc.aio

from agent.model.forecast import PlantForecast
from agent.model.orders import JobReport, MoveRequest, Order, OrderAck
from agent.model.telemetry import FlexibilityOffers, GridStatus, SiteCapabilities
from agent.uplink import decode, encode
from agent.uplink.inbox import Inbox, refusal
from agent.uplink.outbox import Item, Outbox, Renewal
from agent.uplink.ports import TelemetryQueue
from agent.uplink.renewals import RenewalTimes
from sterna.clock import Clock
from sterna.errors import PeerProtocolError, SternaError, TransientError
from sterna.pace import to_beat_s
from sterna.supervise import Heart
from sterna.v1.site_service_pb2 import ConnectRequest, ConnectResponse

log = logging.getLogger(__name__)

Stream = grpc.aio.StreamStreamCall[ConnectRequest, ConnectResponse]

BATCH_MAX = 500
_BATCHES_IN_FLIGHT = 2
_REFUSED = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Samples on their way, all of the backlog or none of it; its ack is one of all that was sent before."""

    last: int
    historical: bool
    sent_s: float


class Session:
    """Speaks on one stream.

    Parameters
    ----------
    stream : grpc.aio.StreamStreamCall
        Freshly opened; its owner cancels it.
    outbox, inbox, telemetry
        What goes up, where what comes down goes, and the samples.
    clock : Clock
        For leases and silence.
    telemetry_period_s : float
        Seconds between looks at the samples, > 0.
    silence_s : float
        Seconds that the coordinator may leave a telemetry batch unanswered and say nothing else, > 0.
    """

    def __init__(
        self,
        *,
        stream: Stream,
        outbox: Outbox,
        inbox: Inbox,
        telemetry: TelemetryQueue,
        clock: Clock,
        telemetry_period_s: float,
        silence_s: float,
    ) -> None:
        self._stream = stream
        self._outbox = outbox
        self._inbox = inbox
        self._telemetry = telemetry
        self._clock = clock
        self._period_s = telemetry_period_s
        self._silence_s = silence_s
        self._renewals = RenewalTimes()
        self._in_flight: deque[_Batch] = deque()
        self._historical_through = 0
        self._sent = {True: 0, False: 0}
        """The newest sample that was sent of the backlog (True), and of what is measured in this session."""
        self._heard_s = clock.boottime_s()

    async def greet(self, hello: ConnectRequest) -> decode.Welcome:
        """Say hello and wait for the welcome; the caller bounds the time.

        Raises
        ------
        PeerProtocolError
            The coordinator refuses us or does not speak the protocol.
        TransientError
            The link broke.
        """
        await self._send(hello)
        welcome = decode.down(await self._read())
        if not isinstance(welcome, decode.Welcome):
            raise PeerProtocolError("coordinator: the first message is not Welcome")
        # What was measured until now waited for the link.
        self._historical_through = self._sent[False] = self._telemetry.last_sequence
        return welcome

    async def run(self, heart: Heart) -> None:
        """Speak until the link breaks; never returns.

        Raises
        ------
        PeerProtocolError, TransientError
            Why the session ended.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(), name="uplink-down")
                group.create_task(self._talk(heart), name="uplink-up")
        except ExceptionGroup as failures:
            known, unknown = failures.split(SternaError)
            if known is None or unknown is not None:
                raise
            raise _cause(known) from failures

    async def _listen(self) -> None:
        while True:
            message = await self._read()
            self._heard_s = self._clock.boottime_s()
            try:
                await self._take(decode.down(message))
            except PeerProtocolError as error:
                self._complain(message, error)

    async def _take(self, message: decode.Down) -> None:
        match message:
            case decode.TelemetryAck():
                await self._take_ack(message.sequence)
            case Order():
                self._inbox.put_order(message, self._heard_s)
            case decode.LeaseGrant():
                counted_from_s = self._renewals.answered(message.job_id, message.epoch)
                if counted_from_s is None:
                    # Its start cannot be known, so it gives no time; the one it repeats was taken.
                    log.debug("a lease that answers no renewal", extra={"job_id": message.job_id})
                else:
                    self._inbox.put_lease(message, counted_from_s)
            case FlexibilityOffers():
                self._inbox.put_offers(message)
            case decode.Welcome():
                log.debug("a second welcome")

    async def _take_ack(self, sequence: int) -> None:
        if sequence > max(self._sent.values()):
            raise PeerProtocolError(f"coordinator: telemetry_ack.sequence: {sequence} was never sent")
        lasts = [batch.last for batch in self._in_flight]
        if sequence not in lasts:
            return  # this ack came before
        stored = [self._in_flight.popleft() for _ in range(lasts.index(sequence) + 1)]
        for batch in stored:
            await self._telemetry.ack(batch.last, 0 if batch.historical else self._historical_through)
        if len(lasts) >= _BATCHES_IN_FLIGHT:
            self._outbox.wake.set()

    def _complain(self, message: ConnectResponse, error: PeerProtocolError) -> None:
        """One message is not usable: an order is refused, anything else is skipped. The session lives on."""
        log.warning("a message from the coordinator is not usable", extra={"fault": str(error)})
        order = message.order
        if message.WhichOneof("message") == "order" and order.order_id:
            self._outbox.put(refusal(order.order_id, order.migration_id, order.job_id, str(error)))

    async def _talk(self, heart: Heart) -> None:
        while True:
            heart.beat()
            self._outbox.wake.clear()
            self._check_silence()
            while (item := self._outbox.take(self._clock.boottime_s())) is not None:
                await self._send_item(item)
            await self._send_telemetry()
            now_s = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(to_beat_s(now_s, self._period_s)):
                    await self._outbox.wake.wait()
            except TimeoutError:
                continue

    async def _send_item(self, item: Item) -> None:
        try:
            await self._send(self._encoded(item))
        except BaseException:
            self._outbox.put_back(item)
            raise

    def _encoded(self, item: Item) -> ConnectRequest:
        match item:
            case OrderAck():
                message = encode.order_ack(item)
            case Renewal():
                # Before the write, which may wait: the lease may end early, never late.
                self._renewals.sent(item.job_id, item.epoch, self._clock.boottime_s())
                message = encode.lease_renewal(item.job_id, item.epoch)
            case MoveRequest():
                message = encode.move_request(item)
            case JobReport():
                message = encode.job(item)
            case SiteCapabilities():
                message = encode.capabilities(item)
            case GridStatus():
                message = encode.grid_status(item)
            case PlantForecast():
                message = encode.forecast(item)
        return message

    async def _send_telemetry(self) -> None:
        """Send what is new, then of the backlog what there is room for: it must not delay what is new."""
        for historical, through in ((False, None), (True, self._historical_through)):
            while sum(batch.historical is historical for batch in self._in_flight) < _BATCHES_IN_FLIGHT:
                samples = await self._telemetry.unsent(BATCH_MAX, self._sent[historical], through)
                if not samples:
                    break
                last = self._sent[historical] = samples[-1].sequence
                sent_s = self._clock.boottime_s()
                self._in_flight.append(_Batch(last=last, historical=historical, sent_s=sent_s))
                await self._send(encode.telemetry(samples, historical=historical))

    def _check_silence(self) -> None:
        if not self._in_flight:
            return
        silent_s = self._clock.boottime_s() - max(self._in_flight[0].sent_s, self._heard_s)
        if silent_s > self._silence_s:
            raise TransientError(f"coordinator: nothing came down for {self._silence_s:g} s")

    async def _send(self, message: ConnectRequest) -> None:
        try:
            async with asyncio.timeout(self._silence_s):
                await self._stream.write(message)
        except TimeoutError as error:
            raise TransientError("coordinator: it takes no more messages") from error
        except asyncio.InvalidStateError as error:
            raise TransientError("coordinator: the session has ended") from error
        except grpc.aio.AioRpcError as error:
            raise wrapped(error) from error

    async def _read(self) -> ConnectResponse:
        try:
            message = await self._stream.read()
        except grpc.aio.AioRpcError as error:
            raise wrapped(error) from error
        if not isinstance(message, ConnectResponse):
            raise TransientError("coordinator: it ended the session")
        return message


def wrapped(error: grpc.aio.AioRpcError) -> PeerProtocolError | TransientError:
    """Say in our words why a stream ended: whether they refused us, or we may come again."""
    message = f"coordinator: {error.code().name}: {error.details()}"
    return PeerProtocolError(message) if error.code() in _REFUSED else TransientError(message)


def _cause(failures: BaseExceptionGroup[SternaError]) -> SternaError:
    """Pick the failure that explains the others: our own first, then a refusal, then a broken link."""
    leaves: list[SternaError] = []
    for failure in failures.exceptions:
        leaves += [_cause(failure)] if isinstance(failure, BaseExceptionGroup) else [failure]
    ours = [leaf for leaf in leaves if not isinstance(leaf, PeerProtocolError | TransientError)]
    refused = [leaf for leaf in leaves if isinstance(leaf, PeerProtocolError)]
    return (ours or refused or leaves)[0]
