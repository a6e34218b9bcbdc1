"""The scraped port, over real sockets: what is asked well is answered, what is not is cut off."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sterna.clock import FakeClock
from sterna.errors import ConfigError
from sterna.exposition.server import MAX_CLIENTS, MAX_HEAD_BYTES, PAGE_AGE_S, MetricsServer
from tests.agent.grid.rtu_certs import Authority

HOST = "127.0.0.1"


class Page:
    """Counts how often it is made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, openmetrics: bool) -> bytes:
        self.made += 1
        return b"open %d\n" % self.made if openmetrics else b"plain %d\n" % self.made


class Rig:
    def __init__(self, server: MetricsServer, page: Page, clock: FakeClock) -> None:
        self.server = server
        self.page = page
        self.clock = clock

    async def send(self, request: bytes, tls: ssl.SSLContext | None = None) -> tuple[bytes, bytes]:
        """Send bytes; return head and body of whatever comes until the end."""
        async with asyncio.timeout(10):
            name = "localhost" if tls is not None else None
            reader, writer = await asyncio.open_connection(
                HOST, self.server.port, ssl=tls, server_hostname=name
            )
            try:
                writer.write(request)
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                return head, body
            finally:
                writer.transport.abort()

    async def get(self, path: str = "/metrics", *fields: str, method: str = "GET") -> tuple[bytes, bytes]:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]
        return await self.send("\r\n".join(lines).encode())


@contextlib.asynccontextmanager
async def serving(*, tls: ssl.SSLContext | None = None, timeout_s: float = 5.0) -> AsyncIterator[Rig]:
    clock, page = FakeClock(datetime(2026, 11, 23, tzinfo=UTC)), Page()
    server = MetricsServer(host=HOST, port=0, page=page, clock=clock, tls=tls, timeout_s=timeout_s)
    server.bind()
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(server.run())
            yield Rig(server, page, clock)
            task.cancel()
    finally:
        server.close()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with serving() as rig:
        yield rig


async def test_a_scrape_gets_the_form_that_it_asks_for(rig: Rig) -> None:
    head, body = await rig.get(
        "/metrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    )
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0")
    assert body == b"open 1\n"
    head, body = await rig.get("/metrics?x=1", "accept: text/plain")
    assert b"Content-Type: text/plain; version=0.0.4" in head
    assert body == b"plain 2\n"


async def test_head_has_no_body(rig: Rig) -> None:
    head, body = await rig.get(method="HEAD")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Length: 8" in head
    assert body == b""


async def test_the_page_is_made_at_most_once_a_second(rig: Rig) -> None:
    assert [(await rig.get())[1] for _ in range(3)] == [b"plain 1\n"] * 3
    rig.clock.advance(PAGE_AGE_S)
    assert (await rig.get())[1] == b"plain 2\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metricss HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"505"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET http://x/metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n", b"431"),
        (b"y" * 10 * MAX_HEAD_BYTES, b"431"),
    ],
)
async def test_what_is_no_scrape_is_refused(rig: Rig, request_bytes: bytes, status: bytes) -> None:
    head, body = await rig.send(request_bytes)
    assert head.split(b" ")[1] == status
    assert b"Connection: close" in head
    assert body == b""
    assert rig.page.made == 0


async def test_who_is_slow_is_cut_off() -> None:
    async with serving(timeout_s=0.2) as rig:
        assert await rig.send(b"GET /metrics HTTP/1.1\r\n") == (b"", b"")
        assert (await rig.get())[1] == b"plain 1\n"


async def test_who_goes_away_half_way_harms_nobody(rig: Rig) -> None:
    for _ in range(3 * MAX_CLIENTS):
        _, writer = await asyncio.open_connection(HOST, rig.server.port)
        writer.write(b"GET /met")
        writer.transport.abort()
    async with asyncio.timeout(5):
        while not (await rig.get())[1]:  # the last ones may still hold their places
            continue


async def test_a_crowd_is_turned_away_and_makes_room_in_time() -> None:
    async with serving(timeout_s=0.5) as rig:
        silent = [await asyncio.open_connection(HOST, rig.server.port) for _ in range(MAX_CLIENTS)]
        with contextlib.suppress(ConnectionError):  # closed before it was read
            assert await rig.get() == (b"", b"")
        for reader, writer in silent:
            assert await reader.read() == b""
            writer.close()
        assert (await rig.get())[1] == b"plain 1\n"


async def test_over_tls_only_those_with_a_certificate_read(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(authority.ca_file)
    server.load_cert_chain(*authority.issue("server"))
    client = ssl.create_default_context(cafile=str(authority.ca_file))
    async with serving(tls=server) as rig:
        with contextlib.suppress(OSError):
            assert await rig.send(b"GET /metrics HTTP/1.1\r\n\r\n", client) == (b"", b"")
        with contextlib.suppress(OSError):
            assert await rig.send(b"GET /metrics HTTP/1.1\r\n\r\n") == (b"", b"")
        assert rig.page.made == 0
        client.load_cert_chain(*authority.issue("scraper"))
        assert (await rig.send(b"GET /metrics HTTP/1.1\r\n\r\n", client))[1] == b"plain 1\n"


async def test_a_port_that_is_taken_is_named(rig: Rig) -> None:
    second = MetricsServer(host=HOST, port=rig.server.port, page=rig.page, clock=rig.clock)
    with pytest.raises(ConfigError, match=f"{HOST}:{rig.server.port}: cannot bind"):
        second.bind()
