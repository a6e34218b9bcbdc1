"""A TCP proxy that misbehaves on purpose, since ``netem`` is not to be had everywhere.

One `Faults` value, which tests change while traffic flows, rules both directions. Everything it does happens
to TCP bytes, so it knows nothing of TLS or HTTP/2; with TLS off a flipped byte reaches the application.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

READ_BYTES = 64 * 1024


@dataclass
class Faults:
    latency_s: float = 0.0
    """Added to every byte, one way."""
    bytes_per_s: float | None = None
    """Per connection and direction; None: unlimited."""
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, the link stalls: bytes are accepted and kept back until it is set again."""
    black_hole: bool = False
    """Bytes are accepted and thrown away; connections stay open."""
    refuse: bool = False
    """New connections are closed at once."""
    cut_after_bytes: int | None = None
    """Reset every connection once this many bytes more have come from the server; then it is None again."""
    corrupt: Callable[[bytes], bytes] | None = None
    """Rewrites what comes from the server, piece by piece, to the same length."""
    moved: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    """Bytes passed on: up to the server, down to the client."""
    connections: int = 0

    def __post_init__(self) -> None:
        self.flowing.set()


class Proxy:
    def __init__(self, target_port: int) -> None:
        self.faults = Faults()
        self.port = 0
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Break every connection, as a router that lost its state does."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.faults.connections += 1
        if self.faults.refuse:
            writer.transport.abort()
            return
        try:
            to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_server[1]}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump("up", reader, to_server[1]))
                group.create_task(self._pump("down", to_server[0], writer))
        except* (ConnectionError, OSError):
            pass
        finally:
            for end in (writer, to_server[1]):
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=1024)

        async def deliver() -> None:
            while True:
                due_s, data = await late.get()
                if due_s > loop.time():
                    await asyncio.sleep(due_s - loop.time())
                await self.faults.flowing.wait()
                if not data:
                    writer.write_eof()
                    return
                if self.faults.black_hole:
                    continue
                if way == "down":
                    data = self._spoil(data)
                writer.write(data)
                await writer.drain()
                self.faults.moved[way] += len(data)
                if self.faults.bytes_per_s is not None:
                    await asyncio.sleep(len(data) / self.faults.bytes_per_s)

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while True:
                data = await reader.read(READ_BYTES)
                await late.put((loop.time() + self.faults.latency_s, data))
                if not data:
                    break

    def _spoil(self, data: bytes) -> bytes:
        faults = self.faults
        if faults.corrupt is not None:
            data = faults.corrupt(data)
        if faults.cut_after_bytes is not None:
            faults.cut_after_bytes -= len(data)
            if faults.cut_after_bytes <= 0:
                faults.cut_after_bytes = None
                self.reset()
                raise ConnectionResetError("cut by the test")
        return data


@asynccontextmanager
async def proxy_to(target_port: int) -> AsyncIterator[Proxy]:
    """A proxy on a free port of loopback, gone with the context."""
    proxy = Proxy(target_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.reset()
        await server.wait_closed()
