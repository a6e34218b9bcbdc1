"""Why nothing can be reached at a place, in the system's own words; the agent's libraries do not tell."""

import asyncio
import os
import socket


async def trouble_at(host: str, port: int, timeout_s: float) -> str:
    """Say why no TCP connection comes about; empty when one does."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except TimeoutError:
        return "no answer"
    except socket.gaierror as error:  # its numbers are not those of the system
        return (error.strerror or str(error)).lower()
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)
    return ""


def trouble_with(device: str) -> str:
    """Say why a serial device cannot be opened; empty when it can."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""
