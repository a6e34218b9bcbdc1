"""Accepting connections for as long as a server listens."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator

log = logging.getLogger(__name__)

RETRY_S = 1.0


async def connections(listener: socket.socket) -> AsyncGenerator[tuple[socket.socket, str], None]:
    """Yield connections and the addresses that they come from, until the listener is closed."""
    loop = asyncio.get_running_loop()
    while listener.fileno() >= 0:
        try:
            connection, peer = await loop.sock_accept(listener)
        except OSError as error:  # e.g. no file descriptors left; it passes
            log.error("a connection could not be accepted", extra={"fault": str(error)})
            await asyncio.sleep(RETRY_S)
            continue
        yield connection, peer[0]
