"""The port that Prometheus scrapes: HTTP/1.1, one request per connection, GET or HEAD of ``/metrics``.

The request head is parsed here, for it is all that we take: h11 would cost half a megabyte in agents that
have no other use for it. Whoever is slow, talks too much or comes in crowds is cut off; the page is made at
most once a second, however often it is asked for.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sterna import pace
from sterna.accepting import connections
from sterna.clock import Clock
from sterna.errors import ConfigError
from sterna.exposition.text import OPENMETRICS, PROMETHEUS
from sterna.listening import listen
from sterna.tls import mutual_tls

log = logging.getLogger(__name__)

MAX_CLIENTS = 8
MAX_HEAD_BYTES = 8192
BACKLOG = 16
BEAT_PERIOD_S = 5.0
PAGE_AGE_S = 1.0

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    505: "HTTP Version Not Supported",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    path: str
    openmetrics: bool


@dataclass(slots=True, kw_only=True)
class MetricsServer:
    """Serves one page.

    Parameters
    ----------
    host, port
        The interface. Port 0: any free one; see `port` after `bind`.
    page : callable
        Makes the page, as OpenMetrics (True) or Prometheus text; it must not block.
    clock : Clock
        For the age of the page.
    tls : SSLContext or None
        None: plain.
    timeout_s : float
        For a connection as a whole, from its greeting to the last byte.
    on_beat : callable
        Called every few seconds while serving.
    """

    host: str
    port: int
    page: Callable[[bool], bytes]
    clock: Clock
    tls: ssl.SSLContext | None = None
    timeout_s: float = 5.0
    on_beat: Callable[[], None] = lambda: None
    _listener: socket.socket | None = field(default=None, init=False)
    _clients: int = field(default=0, init=False)
    _pages: dict[bool, tuple[float, bytes]] = field(default_factory=dict, init=False)

    def bind(self) -> None:
        """Take the port; clients are served once `run` runs.

        Raises
        ------
        ConfigError
            The address is taken, or not ours.
        """
        try:
            self._listener = listen(self.host, self.port, backlog=BACKLOG)
        except ConfigError as error:
            raise ConfigError(f"metrics.listen: {error}") from error
        self.port = self._listener.getsockname()[1]

    def close(self) -> None:
        """Give the port back."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def run(self) -> None:
        """Serve for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(), name="metrics beat")
            await self._accept(group)

    async def _beat(self) -> None:
        while True:
            self.on_beat()
            await pace.rest(BEAT_PERIOD_S)

    async def _accept(self, group: asyncio.TaskGroup) -> None:
        assert self._listener is not None, "bind first"
        async for connection, _ in connections(self._listener):
            if self._clients >= MAX_CLIENTS:
                connection.close()
                continue
            self._clients += 1
            group.create_task(self._serve(connection), name="metrics client")

    async def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(self.timeout_s):
                    await self._converse(connection)
        finally:
            self._clients -= 1
            connection.close()

    async def _converse(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_HEAD_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self.tls)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            writer.write(self._answer(await _read_head(reader)))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        finally:
            transport.abort()

    def _answer(self, asked: _Request | int) -> bytes:
        if isinstance(asked, int):
            return _response(asked)
        if asked.path != "/metrics":
            return _response(404)
        if asked.method not in ("GET", "HEAD"):
            return _response(405, "Allow: GET, HEAD\r\n")
        body = self._fresh_page(asked.openmetrics)
        kind = OPENMETRICS if asked.openmetrics else PROMETHEUS
        head = _response(200, f"Content-Type: {kind}\r\n", len(body))
        return head if asked.method == "HEAD" else head + body

    def _fresh_page(self, openmetrics: bool) -> bytes:
        now_s = self.clock.boottime_s()
        made_s, body = self._pages.get(openmetrics, (float("-inf"), b""))
        if now_s - made_s >= PAGE_AGE_S:
            body = self.page(openmetrics)
            self._pages[openmetrics] = now_s, body
        return body


def scrape_tls(*, ca_file: Path, cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """Make the context of a port where scrapers show a certificate of our authority.

    Raises
    ------
    ConfigError
        A file cannot be read or does not fit the others.
    """
    return mutual_tls("metrics.tls", ca_file=ca_file, cert_file=cert_file, key_file=key_file, server=True)


async def _read_head(reader: asyncio.StreamReader) -> _Request | int:
    """Read one request's head; the status to answer with where it is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return 431
    line, *fields = head[:-4].decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[1].startswith("/"):
        return 400
    method, target, version = words
    if not version.startswith("HTTP/1."):
        return 505
    accepted = [
        value for name, _, value in (field.partition(":") for field in fields) if name.lower() == "accept"
    ]
    return _Request(
        method=method,
        path=target.partition("?")[0],
        openmetrics=any("application/openmetrics-text" in value for value in accepted),
    )


def _response(status: int, fields: str = "", body_bytes: int = 0) -> bytes:
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n{fields}Content-Length: {body_bytes}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    ).encode("latin-1")
