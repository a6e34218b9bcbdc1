"""Knocks at an MQTT 5 broker: whether it lets us in, and whether we may hear what is meant for us.

A CONNECT and a SUBSCRIBE by hand, so that the doctor neither takes the running agent's client id from it nor
needs its client. Packets as in the OASIS standard, sections 3.1, 3.2, 3.8 and 3.9.
"""

import asyncio
import os
import ssl
from dataclasses import dataclass

CONNECT, CONNACK, SUBSCRIBE, SUBACK, DISCONNECT = 0x10, 0x20, 0x82, 0x90, 0xE0
REFUSED = 0x80
REASONS = {
    0x84: "it speaks no MQTT 5",
    0x85: "client id not accepted",
    0x86: "bad user name or password",
    0x87: "not authorised",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8C: "bad authentication method",
    0x97: "quota exceeded",
}
LONGEST_PACKET = 65_536


class KnockError(Exception):
    """The broker does not let us in; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where the broker is, and who we are to it."""

    host: str
    port: int
    client_id: str
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None


async def knock(door: Door, topic: str, *, timeout_s: float) -> bool:
    """Connect and subscribe once; return whether the subscription is granted.

    Raises
    ------
    KnockError
        It cannot be reached, is no broker, or refuses us.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(door.host, door.port, ssl=door.tls)
            try:
                return await _talk(door, topic, reader, writer)
            finally:
                writer.close()
    except TimeoutError as error:
        raise KnockError(f"no answer within {timeout_s:g} s") from error
    except asyncio.IncompleteReadError as error:
        raise KnockError("it hung up; wrong port, or it wants (other) TLS?") from error
    except ssl.SSLCertVerificationError as error:
        raise KnockError(f"its certificate is not trusted: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise KnockError(f"TLS: {error.reason}") from error
    except OSError as error:
        raise KnockError(os.strerror(error.errno) if error.errno else str(error)) from error


async def _talk(door: Door, topic: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(_connect(door))
    kind, body = await _packet(reader)
    if kind != CONNACK or len(body) < 2:
        raise KnockError("what answers is no MQTT broker")
    if body[1] >= REFUSED:
        raise KnockError(REASONS.get(body[1], f"refused with reason {body[1]:#x}"))
    writer.write(_framed(SUBSCRIBE, b"\0\1" + b"\0" + _text(topic) + b"\1"))
    kind, body = await _packet(reader)
    while kind != SUBACK:  # what was retained may come first
        kind, body = await _packet(reader)
    writer.write(_framed(DISCONNECT, b""))
    return body[-1] < REFUSED


def _connect(door: Door) -> bytes:
    flags = 0x02  # clean start
    payload = _text(door.client_id)
    if door.username is not None:
        flags |= 0x80
        payload += _text(door.username)
    if door.password is not None:
        flags |= 0x40
        payload += _text(door.password)
    return _framed(CONNECT, _text("MQTT") + bytes([5, flags, 0, 30, 0]) + payload)


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2) + data


def _framed(kind: int, body: bytes) -> bytes:
    length, left = b"", len(body)
    while True:
        left, digit = divmod(left, 128)
        length += bytes([digit | (0x80 if left else 0)])
        if not left:
            return bytes([kind]) + length + body


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind, length = (await reader.readexactly(1))[0], 0
    for place in range(4):
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << 7 * place
        if digit < 0x80:
            break
    if length > LONGEST_PACKET:
        raise KnockError("what answers is no MQTT broker")
    return kind, await reader.readexactly(length)
