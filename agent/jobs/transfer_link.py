"""The path between two agents: connections that stand, and what a status code means for the next try."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
import grpc.aio

from sterna.errors import CorruptError, PermanentError, SternaError, TransientError

SERVICE = "sterna.v1.CheckpointService"
TICKET_METADATA = "sterna-ticket"
OpenChannel = Callable[[str, str], grpc.aio.Channel]
"""Makes a channel from ``host:port`` and the site id that must answer there, with a connection of its own."""

_PERMANENT = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class LinkError(TransientError):
    """The path to the peer failed; the next try goes on where this one stopped."""


def from_status(code: grpc.StatusCode, details: str | None, peer: str) -> SternaError:
    """Turn a status into our own error: a LinkError where another try may help."""
    text = f"{peer}: {code.name}: {details}"
    if code is grpc.StatusCode.DATA_LOSS:
        return CorruptError(text)
    return PermanentError(text) if code in _PERMANENT else LinkError(text)


@contextmanager
def statuses(peer: str) -> Iterator[None]:
    """Raise our own errors in place of gRPC's."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_status(error.code(), error.details(), peer) from error


@asynccontextmanager
async def standing_channel(
    open_channel: OpenChannel, address: str, site_id: str, dial_s: float
) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel and wait until it is connected: a stream on a dead channel leaks in grpcio.

    Raises
    ------
    LinkError
        No connection within `dial_s` seconds.
    """
    channel = open_channel(address, site_id)
    try:
        try:
            async with asyncio.timeout(dial_s):
                await channel.channel_ready()
        except TimeoutError as error:
            raise LinkError(f"{site_id}: no connection to {address} within {dial_s} s") from error
        yield channel
    finally:
        await channel.close(None)
