"""Who may open a session, what is said in it, and how it ends; over real gRPC."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from coordinator.model.forecast import SurplusForecast
from coordinator.model.job import JobPhase, JobReport
from coordinator.model.site import Capabilities, GridState, GridStatus, MoveRequest, SiteSample
from coordinator.service import site_encode
from coordinator.service.sessions import QUEUE_MESSAGES_MAX, Sessions
from coordinator.service.site_service import SiteServicer
from sterna import rpc
from sterna.clock import SystemClock
from sterna.identity import Identity, Role
from sterna.v1 import job_pb2, site_pb2
from sterna.v1.site_service_pb2 import (
    ORDER_RESULT_DONE,
    ConnectRequest,
    ConnectResponse,
    LeaseRenewal,
    OrderAck,
)
from sterna.v1.site_service_pb2_grpc import SiteServiceStub, add_SiteServiceServicer_to_server
from tests.coordinator.tasks.fakesite import FLEET, hello, report_message, stamp, telemetry, until, utc
from tests.waiting import WITHIN_S

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Notes:
    """A handler that writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def greeted(self, site_id: str, session: int) -> None:
        self.said.append(("greeted", site_id))

    def gone(self, site_id: str, session: int) -> None:
        self.said.append(("gone", site_id))

    async def on_hello(self, site_id: str, capabilities: Capabilities, jobs: Sequence[JobReport]) -> None:
        self.said.append(("hello", site_id, capabilities.slots, [job.phase for job in jobs]))

    async def on_capabilities(self, site_id: str, capabilities: Capabilities) -> None:
        self.said.append(("capabilities", site_id, capabilities.gpus))

    async def on_report(self, site_id: str, report: JobReport) -> None:
        self.said.append(("report", site_id, report.job_id, report.phase, report.step))

    def on_telemetry(self, site_id: str, samples: Sequence[SiteSample]) -> None:
        self.said.append(("telemetry", site_id, [sample.sequence for sample in samples]))

    def on_forecast(self, site_id: str, forecast: SurplusForecast) -> None:
        self.said.append(("forecast", site_id, forecast.source))

    def on_grid_status(self, site_id: str, status: GridStatus) -> None:
        self.said.append(("grid", site_id, status.state, status.limit_w))

    def on_renewal(self, site_id: str, job_id: str, epoch: int) -> None:
        self.said.append(("renewal", site_id, job_id, epoch))

    async def on_ack(self, site_id: str, order_id: str, accepted: bool, reason: str) -> None:
        self.said.append(("ack", site_id, order_id, accepted, reason))

    def on_move_request(self, site_id: str, request: MoveRequest) -> None:
        self.said.append(("move", site_id, request.job_id, request.reason))


class Served:
    """A served SiteServicer."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.sessions = Sessions()
        self.port = 0

    async def start(self) -> grpc.aio.Server:
        servicer = SiteServicer(
            fleet=FLEET,
            sites=("miami", "nome"),
            identify=rpc.peer_identity,
            handler=self.notes,
            sessions=self.sessions,
            ticket_key=lambda site_id: site_id.encode().ljust(32, b"."),
            clock=SystemClock(),
            hello_timeout_s=0.3,
        )
        server = rpc.make_server()
        add_SiteServiceServicer_to_server(servicer, server)
        self.port = rpc.bind(server, "127.0.0.1:0", credentials=None, insecure=True)
        await server.start()
        return server


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    server = await served.start()
    yield served
    await server.stop(0)


class Caller:
    """One session from the site's side."""

    def __init__(self, port: int, claim: Identity | None) -> None:
        self.channel = rpc.open_channel(
            f"127.0.0.1:{port}", credentials=None, expected=None, insecure=True, claim=claim
        )
        self.call: Any = SiteServiceStub(self.channel).Connect()

    async def __aenter__(self) -> "Caller":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        await self.channel.close()

    async def say(self, *messages: ConnectRequest) -> None:
        for message in messages:
            await self.call.write(message)

    async def hear(self) -> ConnectResponse:
        async with asyncio.timeout(WITHIN_S):
            message = await self.call.read()
        if message is grpc.aio.EOF:
            code = await self.call.code()
            raise AssertionError(f"ended with {code}: {await self.call.details()}")
        assert isinstance(message, ConnectResponse)
        return message

    async def end(self) -> tuple[grpc.StatusCode, str]:
        async with asyncio.timeout(WITHIN_S):
            return await self.call.code(), await self.call.details()


def site(name: str, fleet: str = FLEET, role: Role = Role.SITE) -> Identity:
    return Identity(fleet=fleet, role=role, name=name)


def declared(from_s: float, to_s: float, surplus_w: float) -> site_pb2.GridStatus:
    begins = utc(2030)
    one = site_pb2.DeclaredSurplus(
        start_at=stamp(begins + timedelta(seconds=from_s)),
        end_at=stamp(begins + timedelta(seconds=to_s)),
        surplus_w=surplus_w,
    )
    return site_pb2.GridStatus(state=site_pb2.GRID_STATE_UNLIMITED, declared=[one])


def priced(from_s: float, to_s: float, per_kwh: float) -> site_pb2.GridStatus:
    begins = utc(2030)
    one = site_pb2.ImportCost(
        start_at=stamp(begins + timedelta(seconds=from_s)),
        end_at=stamp(begins + timedelta(seconds=to_s)),
        per_kwh=per_kwh,
    )
    return site_pb2.GridStatus(state=site_pb2.GRID_STATE_UNLIMITED, prices=[one])


def export_limited(limit_w: float) -> site_pb2.GridStatus:
    one = site_pb2.ActiveLimit(source="modbus-wset", limit_w=limit_w, start_at=stamp(utc(2030)))
    return site_pb2.GridStatus(state=site_pb2.GRID_STATE_UNLIMITED, export_limits=[one])


def limited_later(limit_w: float) -> site_pb2.GridStatus:
    one = site_pb2.ActiveLimit(source="mqtt", limit_w=limit_w, start_at=stamp(utc(2030)))
    return site_pb2.GridStatus(state=site_pb2.GRID_STATE_UNLIMITED, coming_limits=[one])


async def test_a_session(served: Served) -> None:
    running = job_pb2.JobReport(job_id="j", epoch=3, phase=job_pb2.JOB_PHASE_RUNNING, step=0)
    forecast = site_pb2.SurplusForecast(issued_at=stamp(utc(2030)), source="plant")
    grid = site_pb2.GridStatus(state=site_pb2.GRID_STATE_LIMITED, limit_w=4200.0)
    move = job_pb2.MoveRequest(job_id="j", epoch=3, reason="import limit")
    ack = OrderAck(order_id="o", job_id="j", result=ORDER_RESULT_DONE)
    async with Caller(served.port, site("miami")) as caller:
        await caller.say(hello("miami", [running]))
        welcome = (await caller.hear()).welcome
        assert (welcome.fleet, welcome.ticket_key) == (FLEET, b"miami".ljust(32, b"."))
        await caller.say(
            ConnectRequest(job=running),
            telemetry(1, 2),
            ConnectRequest(forecast=forecast),
            ConnectRequest(grid_status=grid),
            ConnectRequest(lease_renewal=LeaseRenewal(job_id="j", epoch=3)),
            ConnectRequest(order_ack=ack),
            ConnectRequest(move_request=move),
            ConnectRequest(capabilities=site_pb2.SiteCapabilities(gpus=["gpu0"])),
        )
        await until(lambda: len(served.notes.said) == 10, "the handler was told too little")
        assert served.notes.said == [
            ("hello", "miami", 2, [JobPhase.RUNNING]),
            ("greeted", "miami"),
            ("report", "miami", "j", JobPhase.RUNNING, 0),
            ("telemetry", "miami", [1, 2]),
            ("forecast", "miami", "plant"),
            ("grid", "miami", GridState.LIMITED, 4200.0),
            ("renewal", "miami", "j", 3),
            ("ack", "miami", "o", True, ""),
            ("move", "miami", "j", "import limit"),
            ("capabilities", "miami", ("gpu0",)),
        ]
        assert served.sessions.send("miami", site_encode.telemetry_ack(2))
        assert (await caller.hear()).telemetry_ack.sequence == 2
        await caller.call.done_writing()
        assert (await caller.end())[0] is grpc.StatusCode.OK
    await until(lambda: served.notes.said[-1] == ("gone", "miami"), "nobody noticed the end")
    assert not served.sessions.send("miami", site_encode.telemetry_ack(3))


@pytest.mark.parametrize(
    ("claim", "first", "code", "text"),
    [
        (None, hello("miami"), "UNAUTHENTICATED", "no identity"),
        (site("nome"), hello("miami"), "PERMISSION_DENIED", "'miami'.*/site/nome"),
        (site("miami", fleet="other"), hello("miami"), "PERMISSION_DENIED", "not of the fleet"),
        (site("miami", role=Role.ADMIN), hello("miami"), "PERMISSION_DENIED", "is not a site"),
        (site("oslo"), hello("oslo"), "PERMISSION_DENIED", "not in the coordinator's configuration"),
        (site("miami"), hello("miami", protocol_version=2), "FAILED_PRECONDITION", "version 2"),
        (site("miami"), telemetry(1), "INVALID_ARGUMENT", "not Hello"),
        (site("miami"), hello("miami", [job_pb2.JobReport(job_id="j")]), "INVALID_ARGUMENT", "job.phase"),
        (site("miami"), None, "INVALID_ARGUMENT", "no Hello within"),
    ],
)
async def test_who_is_refused(
    served: Served, claim: Identity | None, first: ConnectRequest | None, code: str, text: str
) -> None:
    async with Caller(served.port, claim) as caller:
        if first is not None:
            # Who shows no usable identity may be refused before the message is out.
            with contextlib.suppress(grpc.aio.AioRpcError):
                await caller.say(first)
        ended_with, details = await caller.end()
    assert ended_with.name == code
    assert re.search(text, details), details
    assert served.notes.said == []


def stored(**figures: float) -> ConnectRequest:
    message = telemetry(1)
    message.telemetry.samples[0].battery.CopyFrom(site_pb2.SiteBattery(**figures))
    return message


def bad_forecast(*slots: tuple[int, int, tuple[float, float, float]]) -> ConnectRequest:
    message = site_pb2.SurplusForecast(issued_at=stamp(utc(2030)), source="plant")
    for year, length_s, (p10_w, p50_w, p90_w) in slots:
        slot = message.slots.add(surplus_p10_w=p10_w, surplus_p50_w=p50_w, surplus_p90_w=p90_w)
        slot.start_at.CopyFrom(stamp(utc(year)))
        slot.duration.FromSeconds(length_s)
    return ConnectRequest(forecast=message)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (hello("miami"), "second Hello"),
        (ConnectRequest(job=job_pb2.JobReport(phase=job_pb2.JOB_PHASE_HELD)), "job.job_id: missing"),
        (telemetry(1, surplus_w=float("nan")), "telemetry.surplus_w: nan"),
        (stored(soc_frac=1.01), "telemetry.battery.soc_frac: expected 0 to 1"),
        (stored(available_wh=-1.0), "telemetry.battery.available_wh: expected zero or more"),
        (bad_forecast((2030, 0, (1, 2, 3))), "duration"),
        (bad_forecast((2030, 60, (3, 2, 3))), "quantiles decrease"),
        (bad_forecast((2030, 60, (-1, 2, 3))), "zero or more"),
        (bad_forecast((2030, 60, (1, 2, 3)), (2031, 60, (1, 2, 3))), "not contiguous"),
        (ConnectRequest(grid_status=site_pb2.GridStatus()), "grid_status.state"),
        (ConnectRequest(grid_status=declared(0, 60, -1.0)), "grid_status.declared.surplus_w"),
        (ConnectRequest(grid_status=priced(60, 60, 0.1)), "grid_status.prices.end_at"),
        (ConnectRequest(grid_status=priced(0, 60, float("nan"))), "grid_status.prices.per_kwh"),
        (ConnectRequest(grid_status=export_limited(-1.0)), "grid_status.export_limits.limit_w"),
        (ConnectRequest(grid_status=limited_later(-1.0)), "grid_status.coming_limits.limit_w"),
        (ConnectRequest(grid_status=declared(60, 60, 1.0)), "grid_status.declared.end_at"),
        (ConnectRequest(move_request=job_pb2.MoveRequest()), "move_request.job_id"),
        (telemetry(*range(501)), "at most 500"),
    ],
)
async def test_a_broken_message_ends_the_session_and_names_the_field(
    served: Served, message: ConnectRequest, text: str
) -> None:
    async with Caller(served.port, site("miami")) as caller:
        await caller.say(hello("miami"))
        await caller.hear()
        await caller.say(message)
        code, details = await caller.end()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in details
    await until(lambda: served.notes.said[-1] == ("gone", "miami"), "the session did not end")


async def test_an_unknown_kind_of_message_is_ignored(served: Served) -> None:
    async with Caller(served.port, site("miami")) as caller:
        await caller.say(hello("miami"), ConnectRequest(), telemetry(7))
        await until(lambda: ("telemetry", "miami", [7]) in served.notes.said, "the session did not go on")


async def test_a_newer_session_replaces_the_older(served: Served) -> None:
    async with Caller(served.port, site("miami")) as older, Caller(served.port, site("miami")) as newer:
        await older.say(hello("miami"))
        await older.hear()
        await newer.say(hello("miami"))
        await newer.hear()
        code, details = await older.end()
        assert code is grpc.StatusCode.ABORTED
        assert "newer session" in details
        served.sessions.send("miami", site_encode.telemetry_ack(1))
        assert (await newer.hear()).telemetry_ack.sequence == 1


async def test_a_site_that_vanishes_is_noticed(served: Served) -> None:
    async with Caller(served.port, site("miami")) as caller:
        await caller.say(hello("miami"))
        await caller.hear()
    await until(lambda: ("gone", "miami") in served.notes.said, "nobody noticed")


async def test_a_site_that_does_not_read_costs_bounded_memory() -> None:
    sessions = Sessions()
    session = sessions.open("miami")
    taken: list[bool] = [session.send(site_encode.telemetry_ack(n)) for n in range(2 * QUEUE_MESSAGES_MAX)]
    assert taken.count(True) == QUEUE_MESSAGES_MAX == session.outgoing.qsize()


async def test_over_tls_a_site_may_only_be_itself(fleet: Any) -> None:
    served = Served()
    servicer_server = rpc.make_server()
    servicer = SiteServicer(
        fleet=fleet.name,
        sites=("miami", "nome"),
        identify=rpc.peer_identity,
        handler=served.notes,
        sessions=served.sessions,
        ticket_key=lambda _: b"." * 32,
        clock=SystemClock(),
    )
    add_SiteServiceServicer_to_server(servicer, servicer_server)
    main = Identity(fleet=fleet.name, role=Role.COORDINATOR, name="main")
    port = rpc.bind(servicer_server, "127.0.0.1:0", credentials=fleet.credentials(Role.COORDINATOR, "main"))
    await servicer_server.start()
    connect: Callable[[str], grpc.aio.Channel] = lambda name: rpc.open_channel(  # noqa: E731
        f"127.0.0.1:{port}", credentials=fleet.credentials(Role.SITE, name), expected=main
    )
    try:
        async with connect("nome") as channel:
            call: Any = SiteServiceStub(channel).Connect()
            await call.write(hello("miami"))
            assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        async with connect("miami") as channel:
            call = SiteServiceStub(channel).Connect()
            await call.write(hello("miami"))
            assert (await call.read()).welcome.fleet == fleet.name
            call.cancel()
    finally:
        await servicer_server.stop(0)


def test_reports_keep_what_is_absent() -> None:
    from coordinator.service.site_decode import job_report

    bare = job_report(job_pb2.JobReport(job_id="j", phase=job_pb2.JOB_PHASE_HELD))
    assert (bare.step, bare.start_step, bare.seal_s, bare.goodput_bps, bare.reported_at) == (None,) * 5
    whole = JobReport(job_id="j", epoch=2, phase=JobPhase.RUNNING, step=0, start_step=0)
    assert job_report(report_message(whole)).step == 0
