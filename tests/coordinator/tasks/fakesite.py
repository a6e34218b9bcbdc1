"""A site's session for tests: the agent model of the core's simulation, speaking sterna.v1 over real gRPC."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.model.job import JobPhase, JobReport, JobSpec
from coordinator.model.orders import Action, Fetch, Order, Prepare, Release, Start, Stop
from sterna import rpc, ticket
from sterna.clock import SystemClock
from sterna.identity import Identity, Role
from sterna.v1 import job_pb2, site_pb2
from sterna.v1.site_service_pb2 import (
    ORDER_RESULT_ACCEPTED,
    ORDER_RESULT_REFUSED,
    ConnectRequest,
    ConnectResponse,
    Hello,
    LeaseRenewal,
    OrderAck,
    TelemetryBatch,
    Welcome,
)
from sterna.v1.site_service_pb2 import Order as OrderMessage
from sterna.v1.site_service_pb2_grpc import SiteServiceStub
from tests.coordinator.core.agentmodel import AgentModel

CLOCK = SystemClock()
FLEET = "test-fleet"


def stamp(at: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(at)
    return message


def hello(site_id: str, jobs: list[job_pb2.JobReport] | None = None, **changes: object) -> ConnectRequest:
    fields: dict[str, object] = {
        "site_id": site_id,
        "protocol_version": 1,
        "agent_version": "test",
        "boot_id": "b",
        "capabilities": site_pb2.SiteCapabilities(
            slots=2, checkpoint_address=f"{site_id}:1", can_slow=site_id == "miami"
        ),
        "jobs": jobs or [],
    }
    return ConnectRequest(hello=Hello(**(fields | changes)))  # type: ignore[arg-type]


def report_message(report: JobReport) -> job_pb2.JobReport:
    return job_pb2.JobReport(
        job_id=report.job_id,
        epoch=report.epoch,
        phase=job_pb2.JobPhase.Value(f"JOB_PHASE_{report.phase.value}"),
        migration_id=report.migration_id,
        step=report.step,
        start_step=report.start_step,
        message=report.message,
        checkpoints=[
            job_pb2.CheckpointSummary(
                checkpoint_id=one.checkpoint_id,
                step=one.step,
                epoch=one.epoch,
                size_bytes=one.size_bytes,
                sealed_at=stamp(one.sealed_at),
            )
            for one in report.checkpoints
        ],
        reported_at=stamp(CLOCK.now()),
    )


def telemetry(*sequences: int, surplus_w: float | None = 1000.0, historical: bool = False) -> ConnectRequest:
    samples = [
        site_pb2.SiteTelemetry(
            measured_at=stamp(CLOCK.now()),
            surplus_w=surplus_w,
            compute_w=10.0,
            quality=site_pb2.QUALITY_OK,
            sequence=sequence,
            historical=historical,
        )
        for sequence in sequences
    ]
    return ConnectRequest(telemetry=TelemetryBatch(samples=samples))


def order_value(site_id: str, message: OrderMessage) -> Order:
    kind = message.WhichOneof("action")
    spec = JobSpec(name="", argv=())
    actions: dict[str, Callable[[], Action]] = {
        "prepare": lambda: Prepare(spec=spec, checkpoint_bytes=0, expires_after_s=1.0),
        "start": lambda: Start(
            spec=spec,
            checkpoint_id=message.start.checkpoint_id or None,
            lease_ttl_s=message.start.lease_ttl.ToTimedelta().total_seconds()
            if message.start.HasField("lease_ttl")
            else None,
        ),
        "stop": lambda: Stop(reason=message.stop.reason, cancel=message.stop.cancel),
        "fetch": lambda: Fetch(
            checkpoint_id=message.fetch.checkpoint_id,
            holder_site=message.fetch.holder_site,
            holder_address=message.fetch.holder_address,
            max_bps=message.fetch.max_bps or None,
            for_start=message.fetch.for_start,
        ),
        "release": lambda: Release(keep_checkpoints=message.release.keep_checkpoints),
    }
    assert kind is not None
    return Order(
        site_id=site_id,
        migration_id=message.migration_id,
        job_id=message.job_id,
        epoch=message.epoch,
        action=actions[kind](),
    )


class FakeSite:
    """One agent whose jobs step each `period_s`. What it keeps on disk outlives its sessions.

    `may_do` says which orders it takes at all: others are neither answered nor obeyed.
    """

    def __init__(self, site_id: str, others: dict[str, "FakeSite"], period_s: float = 0.02) -> None:
        self.model = AgentModel(site_id)
        self.site_id = site_id
        self.period_s = period_s
        self.others = others
        others[site_id] = self
        self.welcomes: list[Welcome] = []
        self.orders: list[OrderMessage] = []
        self.leases: list[tuple[str, int]] = []
        self.acked = 0
        self.last_errors: tuple[object, ...] = ()
        self.may_do: Callable[[OrderMessage], bool] = lambda _: True
        self.refuse: Callable[[OrderMessage], str] = lambda _: ""
        self.may_work = True
        self.surplus_w = 1000.0
        self.paces: dict[str, OrderMessage] = {}
        """By job the newest order to slow it or to let it go."""
        self.outgoing: asyncio.Queue[ConnectRequest] | None = None
        self.move_request: job_pb2.MoveRequest | None = None

    async def live(self, port: Callable[[], int]) -> None:
        """Work for ever, and keep a session with whoever listens on the port."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            while True:
                try:
                    await self.session(port())
                except* grpc.aio.AioRpcError as errors:
                    self.last_errors = errors.exceptions
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise asyncio.CancelledError  # a TaskGroup that fails while it is cancelled forgets it
                await asyncio.sleep(0.05)

    async def session(self, port: int) -> None:
        claim = Identity(fleet=FLEET, role=Role.SITE, name=self.site_id)
        channel = rpc.open_channel(
            f"127.0.0.1:{port}", credentials=None, expected=None, insecure=True, claim=claim
        )
        outgoing: asyncio.Queue[ConnectRequest] = asyncio.Queue()
        async with channel:
            call: Any = SiteServiceStub(channel).Connect()
            async with asyncio.TaskGroup() as group:
                talker = group.create_task(self._talk(call, outgoing))
                try:
                    while (message := await call.read()) is not grpc.aio.EOF:
                        self._take(message, outgoing)
                    if await call.code() is not grpc.StatusCode.OK:
                        await call  # raises what it ended with
                finally:
                    self.outgoing = None
                    talker.cancel()

    async def _talk(self, call: Any, outgoing: "asyncio.Queue[ConnectRequest]") -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # the call is over; the reader says why
            await call.write(hello(self.site_id, [report_message(one) for one in self.model.hello()]))
            self.outgoing = outgoing
            while True:
                await call.write(await outgoing.get())

    def _take(self, message: ConnectResponse, outgoing: "asyncio.Queue[ConnectRequest]") -> None:
        match message.WhichOneof("message"):
            case "welcome":
                self.welcomes.append(message.welcome)
            case "telemetry_ack":
                self.acked = message.telemetry_ack.sequence
            case "lease":
                lease = message.lease
                self.leases.append((lease.job_id, lease.epoch))
                self.model.renewed(lease.job_id, lease.epoch, CLOCK.boottime_s())
            case "order":
                self._obey(message.order, outgoing)

    def _obey(self, order: OrderMessage, outgoing: "asyncio.Queue[ConnectRequest]") -> None:
        self.orders.append(order)
        if not self.may_do(order):
            return
        reason = self.refuse(order)
        if order.WhichOneof("action") in ("slow", "resume"):
            self.paces[order.job_id] = order
        elif not reason:
            self._check_ticket(order)
            reason = self.model.order(order_value(self.site_id, order), CLOCK.boottime_s()) or ""
        outgoing.put_nowait(
            ConnectRequest(
                order_ack=OrderAck(
                    order_id=order.order_id,
                    migration_id=order.migration_id,
                    job_id=order.job_id,
                    result=ORDER_RESULT_REFUSED if reason else ORDER_RESULT_ACCEPTED,
                    reason=reason,
                )
            )
        )

    def _check_ticket(self, order: OrderMessage) -> None:
        if order.WhichOneof("action") == "fetch":
            fetch = order.fetch
            key = self.others[fetch.holder_site].welcomes[-1].ticket_key
            claims = ticket.verify(key, fetch.ticket, CLOCK.now())
            assert (claims.holder, claims.receiver) == (fetch.holder_site, self.site_id)
            assert claims.checkpoint_id == fetch.checkpoint_id

    async def _work(self) -> None:
        sequence = round(CLOCK.boottime_s() * 1000)
        while True:
            await asyncio.sleep(self.period_s)
            now_s = CLOCK.boottime_s()
            self.model.enforce_leases(now_s)
            for job_id, record in list(self.model.jobs.items()):
                if self.may_work:
                    self.model.work(job_id, now_s)
                if record.wanted is not None and record.wanted.holder_site in self.others:
                    self.model.fetch_from(job_id, self.others[record.wanted.holder_site].model)
            sequence += 1
            if self.outgoing is not None:
                self._tell(self.outgoing, sequence)

    def _report(self, job_id: str) -> job_pb2.JobReport:
        message, pace = report_message(self.model.report(job_id)), self.paces.get(job_id)
        if pace is not None and pace.HasField("slow"):
            message.slowed_to_w, message.hold_sequence = pace.slow.power_w, pace.slow.sequence
            message.held_until.CopyFrom(stamp(CLOCK.now() + timedelta(seconds=900)))
        elif pace is not None:
            message.hold_sequence = pace.resume.sequence
        return message

    def _tell(self, outgoing: "asyncio.Queue[ConnectRequest]", sequence: int) -> None:
        for job_id, record in list(self.model.jobs.items()):
            if record.phase is JobPhase.RELEASED and not record.highest:
                continue
            outgoing.put_nowait(ConnectRequest(job=self._report(job_id)))
            epoch = self.model.running(job_id)
            if epoch is not None and record.lease_ttl_s is not None:
                renewal = LeaseRenewal(job_id=job_id, epoch=epoch)
                outgoing.put_nowait(ConnectRequest(lease_renewal=renewal))
        outgoing.put_nowait(telemetry(sequence, surplus_w=self.surplus_w))
        if self.move_request is not None:
            outgoing.put_nowait(ConnectRequest(move_request=self.move_request))


async def until(holds: Callable[[], bool], what: str, timeout_s: float = 8.0) -> None:
    """Poll until something holds; fail with `what` when it never does."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not holds():  # noqa: ASYNC110 - anything may be waited for
                await asyncio.sleep(0.01)
            return
    raise AssertionError(what)


def utc(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)
