"""A coordinator's session on a real grpc.aio server, and an agent behind the uplink that records."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio

from agent.model.orders import JobReport, Order, OrderAck, OrderResult
from agent.model.telemetry import FlexibilityOffers, SiteCapabilities
from sterna.clock import SystemClock
from sterna.errors import SternaError
from sterna.identity import Credentials
from sterna.rpc import Health, bind, make_server
from sterna.v1 import site_service_pb2 as pb

SERVICE = "sterna.v1.SiteService"
KEY = bytes(range(32))


class SessionLog:
    """One session as the coordinator lived it."""

    def __init__(self, context: Any) -> None:
        self.hello: pb.Hello | None = None
        self.received: list[pb.ConnectRequest] = []
        self.down: asyncio.Queue[pb.ConnectResponse | bytes] = asyncio.Queue()
        self.metadata = dict(context.invocation_metadata())
        self.ended = False

    def of(self, kind: str) -> list[Any]:
        return [getattr(message, kind) for message in self.received if message.WhichOneof("message") == kind]

    def samples(self) -> list[Any]:
        return [sample for batch in self.of("telemetry") for sample in batch.samples]


class Coordinator:
    """Serves SiteService.Connect: welcomes, acknowledges telemetry, and sends what it is told to."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self._credentials = credentials
        self.sessions: list[SessionLog] = []
        self.samples: dict[int, Any] = {}
        self.arrivals: list[int] = []
        self.welcomes = True
        self.acks = True
        self.skew_s = 0.0
        self.refuse: grpc.StatusCode | None = None
        self.ticket_key = KEY
        self.health_checks = 0
        self._server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def session(self) -> SessionLog:
        return self.sessions[-1]

    async def start(self, *, serving: bool = True) -> None:
        server = make_server()
        handler = grpc.stream_stream_rpc_method_handler(
            self._connect,
            request_deserializer=pb.ConnectRequest.FromString,
            response_serializer=lambda message: (
                message if isinstance(message, bytes) else message.SerializeToString()
            ),
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"Connect": handler}),)
        )
        health = Health([SERVICE])
        await health.add_to(server)
        self.port = bind(
            server,
            f"127.0.0.1:{self.port}",
            credentials=self._credentials,
            insecure=self._credentials is None,
        )
        await server.start()
        await health.set_serving(serving)
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)

    async def _connect(self, requests: AsyncIterator[pb.ConnectRequest], context: Any) -> None:
        log = SessionLog(context)
        self.sessions.append(log)
        if self.refuse is not None:
            await context.abort(self.refuse, "not today")
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(log, context))
            try:
                async for request in requests:
                    await self._take(log, request)
            finally:
                log.ended = True
                writer.cancel()

    async def _write(self, log: SessionLog, context: Any) -> None:
        while True:
            await context.write(await log.down.get())

    async def _take(self, log: SessionLog, request: pb.ConnectRequest) -> None:
        kind = request.WhichOneof("message")
        if kind == "hello":
            log.hello = request.hello
            if self.welcomes:
                welcome = pb.Welcome(fleet="fleet", ticket_key=self.ticket_key)
                welcome.sent_at.FromMilliseconds(
                    round((SystemClock().now().timestamp() + self.skew_s) * 1000)
                )
                log.down.put_nowait(pb.ConnectResponse(welcome=welcome))
            return
        log.received.append(request)
        if kind == "telemetry" and self.acks:
            for sample in request.telemetry.samples:
                self.arrivals.append(sample.sequence)
                self.samples.setdefault(sample.sequence, sample)
            ack = pb.TelemetryAck(sequence=request.telemetry.samples[-1].sequence)
            log.down.put_nowait(pb.ConnectResponse(telemetry_ack=ack))


class Handler:
    """An agent that records what it is handed; orders wait while `gate` is closed."""

    def __init__(self, jobs: Iterable[JobReport] = ()) -> None:
        self.jobs = list(jobs)
        self.gpus: tuple[str, ...] = ("gpu0",)
        self.orders: list[Order] = []
        self.received_boot_s: list[float] = []
        self.leases: list[tuple[str, int, float | None, float]] = []
        self.offers: list[FlexibilityOffers] = []
        self.welcomes: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: SternaError | None = None
        self.records_fail: SternaError | None = None

    def capabilities(self) -> SiteCapabilities:
        return SiteCapabilities(slots=2, storage_free_bytes=10**9, idle_power_w=5.0, gpus=self.gpus)

    async def job_reports(self) -> list[JobReport]:
        if self.records_fail is not None:
            raise self.records_fail
        return self.jobs

    async def on_order(self, order: Order, *, received_boot_s: float) -> OrderAck:
        self.received_boot_s.append(received_boot_s)
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        self.orders.append(order)
        return OrderAck(
            order_id=order.order_id,
            migration_id=order.migration_id,
            job_id=order.job_id,
            result=OrderResult.ACCEPTED,
        )

    async def on_lease(
        self, job_id: str, epoch: int, ttl_s: float | None, counted_from_boot_s: float
    ) -> None:
        if self.fails is not None:
            raise self.fails
        self.leases.append((job_id, epoch, ttl_s, counted_from_boot_s))

    def on_welcome(self, ticket_key: bytes) -> None:
        self.welcomes.append(ticket_key)

    def on_offers(self, offers: FlexibilityOffers) -> None:
        self.offers.append(offers)


def release_order(order_id: str, job_id: str = "job-1") -> pb.ConnectResponse:
    return pb.ConnectResponse(
        order=pb.Order(order_id=order_id, job_id=job_id, epoch=1, release=pb.ReleaseJob(keep_checkpoints=2))
    )


def lease(job_id: str, epoch: int, ttl_s: int | None) -> pb.ConnectResponse:
    message = pb.LeaseGrant(job_id=job_id, epoch=epoch)
    if ttl_s is not None:
        message.ttl.FromSeconds(ttl_s)
    return pb.ConnectResponse(lease=message)


@asynccontextmanager
async def running(*loops: Any) -> AsyncIterator[None]:
    """Run loops beside a test and stop them after it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
