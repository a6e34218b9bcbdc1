"""The uplink: keeps a session with the coordinator, for as long as the agent lives.

A unary health probe comes before each stream, because a stream opened to a dead peer leaks in grpcio; each
attempt has its own channel, so that renewed certificates are used and no old back-off is inherited. The agent
never depends on the link: publishing only puts into the outbox.
"""

import asyncio
import logging
import random
from collections.abc import Callable

import grpc.aio

from agent.model.forecast import PlantForecast
from agent.model.orders import JobReport, MoveRequest
from agent.model.telemetry import GridStatus, SiteCapabilities
from agent.uplink import encode
from agent.uplink.inbox import Inbox
from agent.uplink.outbox import Outbox, Renewal
from agent.uplink.ports import TelemetryQueue, UplinkHandler
from agent.uplink.session import Session, wrapped
from sterna.backoff import Backoff
from sterna.clock import Clock
from sterna.errors import PeerProtocolError, TransientError
from sterna.rpc import check_health
from sterna.supervise import Heart
from sterna.v1.site_service_pb2 import ConnectRequest
from sterna.v1.site_service_pb2_grpc import SiteServiceStub

log = logging.getLogger(__name__)

SERVICE = "sterna.v1.SiteService"
BEAT_WITHIN_S = 90.0
"""Deadline for the heart of `Uplink.run`, with the default times."""

_SKEW_WORTH_TELLING_S = 2.0


class Uplink:
    """The site's end of the session.

    Parameters
    ----------
    open_channel : callable
        Opens a channel to the coordinator; called once an attempt.
    site_id, agent_version, boot_id : str
        What Hello says; the boot id is the kernel's.
    handler : UplinkHandler
        Takes what the coordinator sends.
    telemetry : TelemetryQueue
        Samples to send.
    clock : Clock
        Both of its clocks.
    backoff_min_s, backoff_max_s : float
        Seconds between attempts, doubling from the one to the other, 0 < min <= max.
    health_timeout_s, welcome_timeout_s : float
        Seconds that the probe, and the answer to Hello, may take.
    silence_s : float
        Seconds after which a coordinator that answers no telemetry counts as gone.
    telemetry_period_s : float
        Seconds between looks at the samples.
    refresh_s : float
        Seconds after which an unchanged grid status and forecast are told again.
    handler_timeout_s : float
        Seconds after which a handler's call is given up.
    jitter : callable
        Returns numbers in [0, 1): each delay is between half and all of what the back-off says.
    """

    def __init__(
        self,
        *,
        open_channel: Callable[[], grpc.aio.Channel],
        site_id: str,
        agent_version: str,
        boot_id: str,
        handler: UplinkHandler,
        telemetry: TelemetryQueue,
        clock: Clock,
        backoff_min_s: float = 1.0,
        backoff_max_s: float = 5.0,
        health_timeout_s: float = 5.0,
        welcome_timeout_s: float = 10.0,
        silence_s: float = 15.0,
        telemetry_period_s: float = 1.0,
        refresh_s: float = 30.0,
        handler_timeout_s: float = 30.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._open_channel = open_channel
        self._site_id = site_id
        self._agent_version = agent_version
        self._boot_id = boot_id
        self._handler = handler
        self._telemetry = telemetry
        self._clock = clock
        self._backoff_min_s = backoff_min_s
        self._backoff_max_s = backoff_max_s
        self._health_timeout_s = health_timeout_s
        self._welcome_timeout_s = welcome_timeout_s
        self._silence_s = silence_s
        self._telemetry_period_s = telemetry_period_s
        self._jitter = jitter
        self._outbox = Outbox(refresh_s=refresh_s)
        self._inbox = Inbox(handler=handler, outbox=self._outbox, handler_timeout_s=handler_timeout_s)
        self._connected = False
        self._sessions = 0
        self._skew_s: float | None = None
        self._fault: str | None = None

    @property
    def connected(self) -> bool:
        """Whether a session is up."""
        return self._connected

    @property
    def sessions(self) -> int:
        """Sessions since the start."""
        return self._sessions

    @property
    def skew_s(self) -> float | None:
        """Seconds by which the coordinator's clock was ahead at the last welcome; None before the first."""
        return self._skew_s

    @property
    def fault(self) -> str | None:
        """Why there is no session, for people; None while there is one."""
        return self._fault

    def publish_job(self, report: JobReport) -> None:
        """Tell where a job stands; it replaces what was not sent yet."""
        self._outbox.put(report)

    def publish_grid(self, status: GridStatus) -> None:
        """Tell what the grid asks; sent when it differs in more than its instant."""
        self._outbox.put(status)

    def publish_capabilities(self) -> None:
        """Tell what the site is and can do, where that differs from what was told."""
        self._outbox.put(self._handler.capabilities())

    def publish_forecast(self, forecast: PlantForecast) -> None:
        """Tell the forecast; sent when it differs."""
        self._outbox.put(forecast)

    def renew_lease(self, job_id: str, epoch: int) -> None:
        """Ask for more time; the lease that answers counts from the sending."""
        self._outbox.put(Renewal(job_id=job_id, epoch=epoch))

    def request_move(self, request: MoveRequest) -> None:
        """Ask for a job to be moved away."""
        self._outbox.put(request)

    async def run(self, heart: Heart) -> None:
        """Keep a session; runs for the daemon's life. `heart` wants a deadline of `BEAT_WITHIN_S`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inbox.run_orders(), name="uplink-orders")
            group.create_task(self._inbox.run_leases(), name="uplink-leases")
            group.create_task(self._keep_session(heart), name="uplink-link")

    async def _keep_session(self, heart: Heart) -> None:
        backoff = Backoff(self._backoff_min_s, self._backoff_max_s, draw=self._jitter)
        while True:
            heart.beat()
            begun_s = self._clock.boottime_s()
            try:
                await self._one_session(heart)
            except (PeerProtocolError, TransientError) as error:
                # A session that held is a fresh start; one that is cut at once is not.
                if self._connected and self._clock.boottime_s() - begun_s >= self._backoff_max_s:
                    backoff.reset()
                self._tell(error)
                refused = isinstance(error, PeerProtocolError)
            finally:
                self._connected = False
            delay_s = backoff.next_s()
            heart.beat()
            await asyncio.sleep(max(delay_s, self._backoff_max_s / 2) if refused else delay_s)

    async def _one_session(self, heart: Heart) -> None:
        async with self._open_channel() as channel:
            await check_health(channel, SERVICE, timeout_s=self._health_timeout_s)
            stream = SiteServiceStub(channel).Connect()  # type: ignore[call-arg]  # the stubs want an iterator
            try:
                session = Session(
                    stream=stream,
                    outbox=self._outbox,
                    inbox=self._inbox,
                    telemetry=self._telemetry,
                    clock=self._clock,
                    telemetry_period_s=self._telemetry_period_s,
                    silence_s=self._silence_s,
                )
                await self._greet(session)
                await session.run(heart)
            except grpc.aio.AioRpcError as error:
                raise wrapped(error) from error
            finally:
                stream.cancel()

    async def _greet(self, session: Session) -> None:
        capabilities = self._handler.capabilities()
        hello = await self._hello(capabilities)
        sent_at, sent_s = self._clock.now(), self._clock.boottime_s()
        try:
            async with asyncio.timeout(self._welcome_timeout_s):
                welcome = await session.greet(hello)
        except TimeoutError as error:
            raise TransientError("coordinator: no welcome in time") from error
        half_trip_s = (self._clock.boottime_s() - sent_s) / 2
        self._skew_s = (welcome.sent_at - sent_at).total_seconds() - half_trip_s
        self._outbox.begin_session(capabilities)
        self._handler.on_welcome(welcome.ticket_key)
        self._connected = True
        self._sessions += 1
        self._fault = None
        log.info("connected to the coordinator", extra={"fleet": welcome.fleet, "skew_s": self._skew_s})
        if abs(self._skew_s) > _SKEW_WORTH_TELLING_S:
            log.warning("the coordinator's clock and ours differ", extra={"skew_s": self._skew_s})

    async def _hello(self, capabilities: SiteCapabilities) -> ConnectRequest:
        self._inbox.forget_orders()  # they come again, if they still stand
        try:
            async with asyncio.timeout(self._welcome_timeout_s):
                jobs = await self._handler.job_reports()
        except TimeoutError as error:
            raise TransientError("job records: no answer in time") from error
        return encode.hello(
            site_id=self._site_id,
            agent_version=self._agent_version,
            boot_id=self._boot_id,
            capabilities=capabilities,
            jobs=jobs,
        )

    def _tell(self, error: PeerProtocolError | TransientError) -> None:
        """Log a fault once, not at every attempt."""
        fault = str(error)
        if fault != self._fault:
            level = logging.ERROR if isinstance(error, PeerProtocolError) else logging.WARNING
            log.log(level, "no session with the coordinator", extra={"fault": fault})
        self._fault = fault
