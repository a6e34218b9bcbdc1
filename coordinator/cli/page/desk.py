"""What the page asks of the coordinator: each request one call, each answer the document of `--json`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc.aio
import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from coordinator.cli import client, document, render, watching
from coordinator.cli.client import CALL_TIMEOUT_S
from coordinator.cli.exits import CallError, Exit
from coordinator.cli.failures import explain
from sterna.identity import Identity
from sterna.v1 import operator_service_pb2 as api

if TYPE_CHECKING:
    from sterna.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub

_STATUS = {
    Exit.USAGE: 400,
    Exit.DENIED: 403,
    Exit.NOT_FOUND: 404,
    Exit.REFUSED: 409,
    Exit.UNREACHABLE: 503,
}
BAD_GATEWAY = 502
RECONNECT_MS = 2000


class Move(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the page sends to move a job."""

    destination: str
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDesk:
    """The coordinator behind the page.

    Parameters
    ----------
    stub : OperatorServiceAsyncStub
        The way to it.
    coordinator : str
        Its host:port, for messages.
    expected : Identity
        Who it must be, for messages.
    """

    stub: "OperatorServiceAsyncStub"
    coordinator: str
    expected: Identity

    async def fleet(self, request: web.Request) -> web.StreamResponse:
        """Send the fleet, then its changes, and what needs attention, as server-sent events."""
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await stream.write(f"retry: {RECONNECT_MS}\n\n".encode())
        try:
            async for message, fleet in watching.watch(self.stub):
                name = "changes" if message.HasField("left") else "fleet"
                await stream.write(_event(name, document.encode("fleet", message, indent=0)))
                await stream.write(_event("waiting", msgspec.json.encode(render.waiting(fleet))))
                await stream.write(_event("warnings", msgspec.json.encode(render.warnings(fleet))))
        except grpc.aio.AioRpcError as error:
            await stream.write(_event("lost", msgspec.json.encode(str(self._explained(error)))))
        except ConnectionResetError:  # the browser has gone
            pass
        return stream

    async def explanation(self, request: web.Request) -> web.Response:
        """Say why a job is where it is, and what each move would take."""
        job = request.match_info["job"]
        answer = await self.stub.ExplainJob(api.ExplainJobRequest(job_id=job), timeout=CALL_TIMEOUT_S)
        return _json("explanation", answer)

    async def migrate(self, request: web.Request) -> web.Response:
        """Move a job by hand."""
        try:
            move = msgspec.json.decode(await request.read(), type=Move)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        answer = await self.stub.MigrateJob(
            api.MigrateJobRequest(
                request_id=client.request_id(),
                job_id=request.match_info["job"],
                destination_site=move.destination,
                force=move.force,
            ),
            timeout=CALL_TIMEOUT_S,
        )
        return _json("move", answer)

    async def cancel(self, request: web.Request) -> web.Response:
        """End a job for good."""
        call = api.CancelJobRequest(request_id=client.request_id(), job_id=request.match_info["job"])
        answer = await self.stub.CancelJob(call, timeout=CALL_TIMEOUT_S)
        return _json("job", answer.job)

    async def drain(self, request: web.Request) -> web.Response:
        """Let every job leave a site and none arrive."""
        call = api.DrainSiteRequest(request_id=client.request_id(), site_id=request.match_info["site"])
        answer = await self.stub.DrainSite(call, timeout=CALL_TIMEOUT_S)
        return _json("site", answer.site)

    async def resume(self, request: web.Request) -> web.Response:
        """End draining or fencing."""
        call = api.ResumeSiteRequest(request_id=client.request_id(), site_id=request.match_info["site"])
        answer = await self.stub.ResumeSite(call, timeout=CALL_TIMEOUT_S)
        return _json("site", answer.site)

    @web.middleware
    async def told(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a call that failed with what the `sterna` command would print; a middleware."""
        try:
            return await handler(request)
        except grpc.aio.AioRpcError as error:
            failure = self._explained(error)
            return web.Response(status=_STATUS.get(failure.exit_code, BAD_GATEWAY), text=f"{failure}\n")

    def _explained(self, error: grpc.aio.AioRpcError) -> CallError:
        return explain(error, self.coordinator, self.expected)


def _json(kind: str, data: Any) -> web.Response:
    return web.Response(body=document.encode(kind, data), content_type="application/json")


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data.strip() + b"\n\n"
