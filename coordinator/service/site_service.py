"""The gRPC service of the sites: who may speak, in which order, and what a broken session ends with."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, NoReturn

import grpc
import grpc.aio

from coordinator.service import site_decode, site_encode
from coordinator.service.sessions import Session, Sessions
from coordinator.service.site_ports import SiteHandler
from sterna.clock import Clock
from sterna.errors import PeerProtocolError
from sterna.identity import Identity, Role
from sterna.v1 import site_service_pb2_grpc
from sterna.v1.site_service_pb2 import (
    ORDER_RESULT_ACCEPTED,
    ORDER_RESULT_DONE,
    ConnectRequest,
    ConnectResponse,
    Hello,
)

log = logging.getLogger(__name__)

PROTOCOL_VERSION = 1
SERVICE_NAME = "sterna.v1.SiteService"
Context = grpc.aio.ServicerContext[Any, Any]


class _SessionOver(Exception):  # noqa: N818 - one side has had enough
    """The session ends from our side."""


class SiteServicer(site_service_pb2_grpc.SiteServiceServicer):
    """Serves every site of the fleet.

    Parameters
    ----------
    fleet : str
        Name of the fleet; a caller of another is refused.
    sites : collection of str
        Ids of the sites that may connect.
    identify : callable
        From a call's context to who calls; None: nobody that we know.
    handler : SiteHandler
        Takes what sites say.
    sessions : Sessions
        Where open sessions are entered, so that others may send.
    ticket_key : callable
        From a site to the key with which it checks tickets.
    clock : Clock
        For the time in Welcome.
    hello_timeout_s : float
        How long a caller may take to say Hello.
    """

    def __init__(
        self,
        *,
        fleet: str,
        sites: Collection[str],
        identify: Callable[[Context], Identity | None],
        handler: SiteHandler,
        sessions: Sessions,
        ticket_key: Callable[[str], bytes],
        clock: Clock,
        hello_timeout_s: float = 10.0,
    ) -> None:
        self._fleet = fleet
        self._sites = frozenset(sites)
        self._identify = identify
        self._handler = handler
        self._sessions = sessions
        self._ticket_key = ticket_key
        self._clock = clock
        self._hello_timeout_s = hello_timeout_s

    async def Connect(  # type: ignore[override] # noqa: N802 - the stub knows only the blocking API
        self, request_iterator: AsyncIterator[ConnectRequest], context: Context
    ) -> None:
        """Serve one session to its end."""
        caller = await self._caller(context)
        try:
            hello = await self._hello(request_iterator)
            await self._admit(hello, caller, context)
            capabilities = site_decode.capabilities(hello.capabilities)
            jobs = [site_decode.job_report(job) for job in hello.jobs]
        except PeerProtocolError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        site_id = hello.site_id
        session = self._sessions.open(site_id)
        fields = {"site": site_id, "session": session.number, "version": hello.agent_version}
        log.info("a site connected", extra=fields)
        session.send(site_encode.welcome(self._fleet, self._clock.now(), self._ticket_key(site_id)))
        try:
            await self._handler.on_hello(site_id, capabilities, jobs)
            self._handler.greeted(site_id, session.number)
            await self._serve(session, request_iterator, context)
        finally:
            self._sessions.close(session)
            self._handler.gone(site_id, session.number)
            log.info("a session ended", extra={"site": site_id, "session": session.number})

    async def _caller(self, context: Context) -> Identity:
        caller = self._identify(context)
        if caller is None:
            await _refuse(context, grpc.StatusCode.UNAUTHENTICATED, "no identity in certificate or metadata")
        if caller.fleet != self._fleet:
            text = f"{caller} is not of the fleet {self._fleet}"
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, text)
        if caller.role is not Role.SITE:
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, f"{caller} is not a site")
        return caller

    async def _hello(self, requests: AsyncIterator[ConnectRequest]) -> Hello:
        try:
            async with asyncio.timeout(self._hello_timeout_s):
                first = await anext(requests)
        except TimeoutError:
            raise PeerProtocolError(f"no Hello within {self._hello_timeout_s:g} s") from None
        except StopAsyncIteration:
            raise PeerProtocolError("the stream ended before Hello") from None
        if first.WhichOneof("message") != "hello":
            raise PeerProtocolError("the first message is not Hello")
        return first.hello

    async def _admit(self, hello: Hello, caller: Identity, context: Context) -> None:
        if hello.site_id != caller.name:
            text = f"hello.site_id: {hello.site_id!r}, but the caller is {caller}"
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, text)
        if hello.site_id not in self._sites:
            text = f"site {hello.site_id} is not in the coordinator's configuration"
            await _refuse(context, grpc.StatusCode.PERMISSION_DENIED, text)
        if hello.protocol_version != PROTOCOL_VERSION:
            text = f"protocol version {hello.protocol_version} is not served, {PROTOCOL_VERSION} is"
            await _refuse(context, grpc.StatusCode.FAILED_PRECONDITION, text)

    async def _serve(
        self, session: Session, requests: AsyncIterator[ConnectRequest], context: Context
    ) -> None:
        fault = ""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(session.site_id, requests), name="listen")
                group.create_task(_talk(session, context), name="talk")
                group.create_task(_watch(session), name="watch")
        except* _SessionOver:
            pass
        except* PeerProtocolError as faults:
            fault = str(faults.exceptions[0])
        if fault:
            log.warning("a site broke the protocol", extra={"site": session.site_id, "fault": fault})
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, fault)
        if session.why_ended:
            await context.abort(grpc.StatusCode.ABORTED, session.why_ended)

    async def _listen(self, site_id: str, requests: AsyncIterator[ConnectRequest]) -> NoReturn:
        async for request in requests:
            await self._take(site_id, request)
        raise _SessionOver  # the site hung up

    async def _take(self, site_id: str, request: ConnectRequest) -> None:
        handler = self._handler
        match request.WhichOneof("message"):
            case "telemetry":
                handler.on_telemetry(site_id, site_decode.samples(request.telemetry))
            case "job":
                await handler.on_report(site_id, site_decode.job_report(request.job))
            case "lease_renewal":
                handler.on_renewal(site_id, request.lease_renewal.job_id, request.lease_renewal.epoch)
            case "order_ack":
                ack = request.order_ack
                accepted = ack.result in (ORDER_RESULT_ACCEPTED, ORDER_RESULT_DONE)
                await handler.on_ack(site_id, ack.order_id, accepted, ack.reason)
            case "forecast":
                handler.on_forecast(site_id, site_decode.forecast(request.forecast))
            case "grid_status":
                handler.on_grid_status(site_id, site_decode.grid_status(request.grid_status))
            case "capabilities":
                await handler.on_capabilities(site_id, site_decode.capabilities(request.capabilities))
            case "move_request":
                handler.on_move_request(site_id, site_decode.move_request(request.move_request))
            case "hello":
                raise PeerProtocolError("a second Hello in one session")
            case _:
                # A newer agent may say more than we know; that is no reason to hang up.
                log.debug("a message of an unknown kind was ignored", extra={"site": site_id})


async def _talk(session: Session, context: Context) -> NoReturn:
    while True:
        message: ConnectResponse = await session.outgoing.get()
        await context.write(message)


async def _watch(session: Session) -> NoReturn:
    await session.wait_ended()
    raise _SessionOver


async def _refuse(context: Context, code: grpc.StatusCode, text: str) -> NoReturn:
    log.warning("a caller was refused", extra={"code": code.name, "why": text})
    await context.abort(code, text)
    raise AssertionError("abort raises")
