"""The page's server: a client of the coordinator that speaks HTTP to one browser on this machine.

It decides nothing: what the operator may do is the coordinator's to say, by the certificate that this
process shows it. Whoever else is on the machine, and whatever else the browser has open, is kept out by a key
that only the printed address holds.
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from coordinator.cli import client
from coordinator.cli.client import CALL_TIMEOUT_S
from coordinator.cli.page.desk import PageDesk
from coordinator.cli.page.guard import Guard, add_headers
from sterna.listening import listen
from sterna.v1 import operator_service_pb2 as api
from sterna.v1.operator_service_pb2_grpc import OperatorServiceStub

ASSETS = Path(__file__).parent / "assets"
BACKLOG = 16
KEY_BYTES = 24
STOP_GRACE_S = 0.2


def run(config: Path | None, address: tuple[str, int]) -> None:
    """Serve until interrupted.

    Parameters
    ----------
    config : Path or None
        ``client.toml``; None: the default one.
    address : tuple of str and int
        Interface and port to listen at.

    Raises
    ------
    ConfigError
        The configuration is not usable, or the port is taken.
    CallError
        The coordinator cannot be reached, or does not let us look.
    """
    asyncio.run(_until_interrupted(config or client.default_config_path(), address))


async def _until_interrupted(config: Path, address: tuple[str, int]) -> None:
    async with served(config, address) as guard:
        sys.stdout.write(f"{guard.address}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


@asynccontextmanager
async def served(path: Path, address: tuple[str, int]) -> AsyncIterator[Guard]:
    """Serve the page within the context; raises as `run` does."""
    config = client.read_client_config(path)
    async with client.connect(config, path.parent) as channel:
        stub = OperatorServiceStub(channel)
        # Said here, on the terminal, rather than in a browser that shows an empty page.
        await stub.ListSites(api.ListSitesRequest(), timeout=CALL_TIMEOUT_S)
        listener = listen(*address, backlog=BACKLOG)
        host, port = listener.getsockname()[:2]
        guard = Guard(
            origin=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}",
            key=secrets.token_urlsafe(KEY_BYTES),
        )
        desk = PageDesk(stub=stub, coordinator=config.coordinator, expected=config.coordinator_identity())
        # A browser that closes the page ends its stream from the coordinator, too.
        runner = web.AppRunner(
            application(guard, desk),
            handler_cancellation=True,
            shutdown_timeout=STOP_GRACE_S,
            access_log=None,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
            yield guard
        finally:
            await runner.cleanup()


def application(guard: Guard, desk: PageDesk) -> web.Application:
    """Return the page's routes behind its guard."""
    app = web.Application(middlewares=[guard.admit, desk.told])
    app.on_response_prepare.append(add_headers)
    app.add_routes(
        [
            web.get("/", _index),
            web.get("/fleet", desk.fleet),
            web.get("/jobs/{job}/explanation", desk.explanation),
            web.post("/jobs/{job}/migration", desk.migrate),
            web.post("/jobs/{job}/end", desk.cancel),
            web.post("/sites/{site}/drain", desk.drain),
            web.post("/sites/{site}/resume", desk.resume),
            web.static("/assets", ASSETS),
        ]
    )
    return app


async def _index(_request: web.Request) -> web.FileResponse:
    return web.FileResponse(ASSETS / "index.html")
