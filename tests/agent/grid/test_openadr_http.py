"""The HTTP client against servers that misbehave."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from agent.grid.openadr_http import MAX_BODY_BYTES, HttpClient, check_url
from sterna.errors import ConfigError, PeerProtocolError, TransientError
from sterna.identity import Role
from tests.conftest import Fleet

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def answering(raw: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()

    return handler


async def test_an_answer_with_its_status_headers_and_body() -> None:
    raw = b"HTTP/1.1 404 Not Found\r\nRetry-After: 7\r\nContent-Length: 3\r\n\r\nabc"
    async with serving(answering(raw)) as port:
        answer = await HttpClient().request("GET", f"http://127.0.0.1:{port}/x?y=1")
    assert (answer.status, answer.headers["retry-after"], answer.body) == (404, "7", b"abc")


async def test_what_is_sent() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        seen.append(await reader.readexactly(4))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with serving(handler) as port:
        url = f"http://127.0.0.1:{port}/a/b?c=d"
        answer = await HttpClient().request("POST", url, headers={"Authorization": "Bearer t"}, body=b"body")
    assert answer.status == 204
    head = seen[0].decode().lower().split("\r\n")
    assert head[0] == "post /a/b?c=d http/1.1"
    assert {f"host: 127.0.0.1:{port}", "connection: close", "authorization: bearer t"} <= set(head)
    assert seen[1] == b"body"


async def test_a_redirect_is_not_followed() -> None:
    raw = b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(raw)) as port:
        assert (await HttpClient().request("GET", f"http://127.0.0.1:{port}/")).status == 302


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000,
    ],
)
async def test_broken_http_is_transient_and_names_the_url(raw: bytes) -> None:
    async with serving(answering(raw)) as port:
        url = f"http://127.0.0.1:{port}/events"
        with pytest.raises(TransientError, match=f"GET {url}"):
            await HttpClient().request("GET", url)


async def test_one_deadline_covers_a_peer_that_drips() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(drip) as port:
        with pytest.raises(TransientError, match=r"no answer within 0\.2 s"):
            await HttpClient(timeout_s=0.2).request("GET", f"http://127.0.0.1:{port}/")


async def test_an_endless_answer_is_cut_off() -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _ in range(MAX_BODY_BYTES // 65_536 + 20):
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with serving(pour) as port:
        with pytest.raises(PeerProtocolError, match="larger than"):
            await HttpClient().request("GET", f"http://127.0.0.1:{port}/")


async def test_nobody_there() -> None:
    async with serving(answering(b"")) as port:
        pass
    with pytest.raises(TransientError, match="GET http://127"):
        await HttpClient().request("GET", f"http://127.0.0.1:{port}/")


async def test_tls_is_checked(fleet: Fleet, other_fleet: Fleet) -> None:
    files = fleet.files(Role.COORDINATOR, "vtn", hosts=["localhost"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert_file, files.key_file)
    stranger = ssl.create_default_context(cafile=str(other_fleet.files(Role.SITE, "x").ca_file))
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with serving(answering(raw), server) as port:
        url = f"https://localhost:{port}/"
        trusted = ssl.create_default_context(cafile=str(files.ca_file))
        assert (await HttpClient(tls_context=trusted).request("GET", url)).body == b"ok"
        for context in (stranger, None):
            with pytest.raises(TransientError, match="certificate"):
                await HttpClient(tls_context=context).request("GET", url)


@pytest.mark.parametrize(
    "url",
    [
        "http://vtn.example/openadr3",
        "ftp://127.0.0.1/",
        "127.0.0.1",
        "https://",
        "https://user:secret@vtn.example/",
        "https://vtn.example:port/",
        "https://vtn.example/a b",
        "https://[::1/",
    ],
)
def test_urls_that_must_not_carry_a_secret(url: str) -> None:
    with pytest.raises(ConfigError):
        check_url(url)


def test_urls_that_may() -> None:
    check_url("https://vtn.example/openadr3/3.1.0")
    check_url("http://127.0.0.1:8080/openadr3")
    check_url("http://[::1]:8080/")
