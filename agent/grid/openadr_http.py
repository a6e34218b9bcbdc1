"""HTTP/1.1 for the OpenADR VEN: one request, one connection, one deadline. The agent's only user of h11.

A poll every half minute needs no connection pool; without one a peer that drips bytes, hangs or closes early
ends as one `TransientError` that names the URL. Redirects are not followed: a token must not wander.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sterna.errors import ConfigError, PeerProtocolError, TransientError
from sterna.listening import is_loopback

if TYPE_CHECKING:
    import h11

MAX_BODY_BYTES = 4 * 1024 * 1024
CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    host: str
    port: int
    tls: bool
    path: str
    authority: str


class HttpClient:
    """Sends requests.

    Parameters
    ----------
    tls_context : ssl.SSLContext or None
        For https; None: the system's authorities.
    timeout_s : float
        For one request as a whole, from connecting to the last byte.
    """

    def __init__(self, *, tls_context: ssl.SSLContext | None = None, timeout_s: float = 10.0) -> None:
        self._tls_context = tls_context
        self._timeout_s = timeout_s

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        """Send one request and return its answer, whatever its status.

        Raises
        ------
        TransientError
            The peer could not be reached, broke off, spoke no HTTP, or took too long.
        PeerProtocolError
            The answer is larger than any that we take.
        """
        import h11

        target = _target(url)
        context = (self._tls_context or _system_context()) if target.tls else None
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
                try:
                    connection = h11.Connection(our_role=h11.CLIENT)
                    writer.write(_write(connection, method, target, headers or {}, body))
                    # A server that has read enough may close early; its answer counts, not our rest.
                    with contextlib.suppress(ConnectionError):
                        await writer.drain()
                    return await _answer(reader, connection)
                finally:
                    writer.close()
        except TimeoutError as error:
            raise TransientError(f"{method} {url}: no answer within {self._timeout_s:g} s") from error
        except h11.RemoteProtocolError as error:
            raise TransientError(f"{method} {url}: broken HTTP: {error}") from error
        except _TooLargeError as error:
            raise PeerProtocolError(f"{method} {url}: answer larger than {MAX_BODY_BYTES} bytes") from error
        except OSError as error:
            raise TransientError(f"{method} {url}: {error}") from error


class _TooLargeError(Exception):
    pass


def _write(
    connection: "h11.Connection", method: str, target: _Target, headers: Mapping[str, str], body: bytes | None
) -> bytes:
    import h11

    fields = [("Host", target.authority), ("Connection", "close"), ("Accept", "application/json")]
    fields.extend(headers.items())
    if body is not None:
        fields.append(("Content-Length", str(len(body))))
    head = h11.Request(method=method, target=target.path, headers=fields)
    events: list[h11.Event] = [head]
    if body is not None:
        events.append(h11.Data(data=body))
    events.append(h11.EndOfMessage())
    return b"".join(connection.send(event) or b"" for event in events)


async def _answer(reader: asyncio.StreamReader, connection: "h11.Connection") -> Response:
    import h11

    status, size = 0, 0
    answered: dict[str, str] = {}
    parts: list[bytes] = []
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(CHUNK_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
            answered = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
            size += len(event.data)
            if size > MAX_BODY_BYTES:
                raise _TooLargeError
        elif isinstance(event, h11.EndOfMessage):
            return Response(status=status, headers=answered, body=b"".join(parts))
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("closed without an answer")


def check_url(url: str) -> None:
    """Refuse what must not carry a secret.

    Raises
    ------
    ConfigError
        No http or https URL, or plaintext to another machine.
    """
    _target(url)


def _target(url: str) -> _Target:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url}: not a URL") from error
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise ConfigError(f"{url}: expected https://host[:port]/path")
    if any(not 0x21 <= ord(letter) < 0x7F for letter in url):
        raise ConfigError(f"{url!r}: has letters that no URL has")
    tls = parts.scheme == "https"
    if not tls and not is_loopback(host):
        raise ConfigError(f"{url}: plaintext is for loopback only")
    return _Target(
        host=host,
        port=port or (443 if tls else 80),
        tls=tls,
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        authority=parts.netloc,
    )


def _system_context() -> ssl.SSLContext:
    return ssl.create_default_context()
