"""The Modbus client and server against each other and against peers that misbehave, on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from agent.modbus import ModbusBus
from agent.modbus_server import RegisterDevice, RegisterRefusedError, RegisterServer
from sterna.clock import FakeClock, SystemClock
from sterna.errors import PeerProtocolError, TransientError

HOST = "127.0.0.1"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def count_up(address: int, count: int) -> Sequence[int]:
    return [address + n for n in range(count)]


def counting(unit: int = 1) -> RegisterDevice:
    return RegisterDevice(unit=unit, spans={100: 50}, read=count_up)


def bus_to(port: int, **more: float) -> ModbusBus:
    return ModbusBus(HOST, port, clock=SystemClock(), timeout_s=0.15, retries=0, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def peer(handler: Handler) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_reads_what_is_served() -> None:
    async with RegisterServer(HOST, 0, [counting()]) as server, bus_to(server.port) as bus:
        assert await bus.read_holding(1, 100, 3) == (100, 101, 102)
        assert await bus.read_input(1, 149, 1) == (149,)


async def test_requests_of_many_are_serialised_and_each_gets_its_own_answer() -> None:
    async with RegisterServer(HOST, 0, [counting(1), counting(2)]) as server, bus_to(server.port) as bus:
        answers = await asyncio.gather(*(bus.read_holding(1 + n % 2, 100 + n, 2) for n in range(40)))
    assert answers == [(100 + n, 101 + n) for n in range(40)]


@pytest.mark.parametrize(("address", "count"), [(99, 1), (149, 2), (5000, 1)])
async def test_registers_that_are_not_there_are_the_peers_refusal(address: int, count: int) -> None:
    async with RegisterServer(HOST, 0, [counting()]) as server, bus_to(server.port) as bus:
        with pytest.raises(PeerProtocolError, match=rf"{HOST}:{server.port} unit 1 .*illegal data address"):
            await bus.read_holding(1, address, count)
        assert await bus.read_holding(1, 100, 1) == (100,)


async def test_a_busy_device_is_transient() -> None:
    async def busy(address: int, count: int) -> Sequence[int]:
        raise RegisterRefusedError(6)

    device = RegisterDevice(unit=1, spans={0: 10}, read=busy)
    async with RegisterServer(HOST, 0, [device]) as server, bus_to(server.port) as bus:
        with pytest.raises(TransientError, match="exception 6"):
            await bus.read_holding(1, 0, 1)


async def test_a_unit_that_does_not_exist_is_an_error_and_its_neighbour_is_not() -> None:
    async with RegisterServer(HOST, 0, [counting(2)]) as server, bus_to(server.port) as bus:
        with pytest.raises(TransientError):
            await bus.read_holding(9, 100, 1)
        assert await bus.read_holding(2, 100, 1) == (100,)


async def test_nobody_there_is_transient_and_the_next_try_waits() -> None:
    clock = FakeClock(SystemClock().now())
    async with RegisterServer(HOST, 0, [counting()]) as server:
        port = server.port
    async with ModbusBus(HOST, port, clock=clock, reconnect_delay_s=1, reconnect_delay_max_s=8) as bus:
        delays = []
        for _ in range(5):
            with pytest.raises(TransientError, match="cannot connect") as failure:
                await bus.read_holding(1, 100, 1)
            assert failure.value.retry_after_s is not None
            delays.append(failure.value.retry_after_s)
            with pytest.raises(TransientError, match="not connected"):
                await bus.read_holding(1, 100, 1)
            clock.advance(failure.value.retry_after_s)
        assert delays == [1, 2, 4, 8, 8]
        async with RegisterServer(HOST, port, [counting()]):
            assert await bus.read_holding(1, 100, 1) == (100,)


async def test_comes_back_after_the_device_restarted() -> None:
    async with RegisterServer(HOST, 0, [counting()]) as server:
        port = server.port
        bus = bus_to(port, reconnect_delay_s=0.01)
        await bus.read_holding(1, 100, 1)
    with pytest.raises(TransientError):
        await bus.read_holding(1, 100, 1)
    async with bus, RegisterServer(HOST, port, [counting()]), asyncio.timeout(5):
        while True:
            try:
                assert await bus.read_holding(1, 100, 1) == (100,)
                break
            except TransientError:
                await asyncio.sleep(0.02)


async def test_silence_takes_no_longer_than_the_timeouts() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        peer(silent) as port,
        ModbusBus(HOST, port, clock=SystemClock(), timeout_s=0.1, retries=1) as bus,
    ):
        async with asyncio.timeout(1.0):
            with pytest.raises(TransientError, match="no usable answer"):
                await bus.read_holding(1, 0, 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff" * 40,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x01\x00\x00\x00\x03\x01\x63\x00",
        b"\x00\x01\x00\x00\x00\x05\x01\x03\x02\x12\x34",
        b"\x00\x01\x00\x00\x00\x07\x07\x03\x04\x00\x01\x00\x02",
        b"\x00\x01\x00\x00\x00\x07\x01\x03\xff\x00\x01\x00\x02",
        b"\x00\x01\x00\x00\x00\x02\x01\x03",
        b"",
    ],
    ids=[
        "ones",
        "http",
        "unknown function",
        "too few",
        "other unit",
        "byte count lies",
        "header only",
        "hang up",
    ],
)
async def test_garbage_is_an_error_of_ours_and_the_bus_survives(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            writer.write(answer)
            if not answer:
                return

    async with peer(garbage) as port, bus_to(port, reconnect_delay_s=0.01) as bus:
        for _ in range(3):
            with pytest.raises((TransientError, PeerProtocolError), match=str(port)):
                await bus.read_holding(1, 0, 2)


@pytest.mark.parametrize("count", [0, 126])
async def test_a_count_beyond_the_protocol_is_our_mistake(count: int) -> None:
    with pytest.raises(ValueError, match="count"):
        await bus_to(1).read_holding(1, 0, count)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
async def test_a_server_does_not_bind_to_everything(host: str) -> None:
    with pytest.raises(ValueError, match="explicit"):
        await RegisterServer(host, 0, [counting()]).start()


async def test_an_address_that_is_taken_is_transient() -> None:
    async with RegisterServer(HOST, 0, [counting()]) as server:
        with pytest.raises(TransientError, match="cannot bind"):
            await RegisterServer(HOST, server.port, [counting()]).start()


async def raw_write(port: int, unit: int, address: int, value: int) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    frame = bytes([0, 1, 0, 0, 0, 6, unit, 6]) + address.to_bytes(2, "big") + value.to_bytes(2, "big")
    writer.write(frame)
    async with asyncio.timeout(2):
        answer = await reader.readexactly(9)
    writer.close()
    return answer


async def test_writes_reach_the_handler_and_may_be_refused() -> None:
    written: list[tuple[int, list[int]]] = []

    async def take(address: int, values: Sequence[int]) -> None:
        if values[0] > 100:
            raise RegisterRefusedError(3)
        written.append((address, list(values)))

    open_ = RegisterDevice(unit=1, spans={0: 4}, read=count_up, write=take)
    async with RegisterServer(HOST, 0, [open_, counting(2)]) as server:
        assert (await raw_write(server.port, 1, 2, 77))[7] == 6
        assert (await raw_write(server.port, 1, 2, 101))[7:9] == b"\x86\x03"
        assert (await raw_write(server.port, 2, 100, 1))[7] == 0x86
    assert written == [(2, [77])]


async def test_outgoing_frames_can_be_tampered_with() -> None:
    def tamper(unit: int, frame: bytes) -> bytes:
        return b"" if unit == 1 else frame

    async with (
        RegisterServer(HOST, 0, [counting(1), counting(2)], outgoing=tamper) as server,
        bus_to(server.port) as bus,
    ):
        with pytest.raises(TransientError):
            await bus.read_holding(1, 100, 1)
        assert await bus.read_holding(2, 100, 1) == (100,)


async def test_a_cancellation_that_comes_with_the_answer_is_not_forgotten() -> None:
    async with RegisterServer(HOST, 0, [counting()]) as server, bus_to(server.port) as bus:
        await bus.connect()
        assert bus._client is not None
        link = bus._client.ctx
        take = link.callback_data
        asked: list[asyncio.Task[tuple[int, ...]]] = []

        def take_and_cancel(data: bytes, addr: tuple[object, ...] | None = None) -> int:
            used = take(data, addr)
            asked[0].cancel()
            return used

        link.callback_data = take_and_cancel  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as group:
            asked.append(group.create_task(bus.read_holding(1, 100, 1)))
        assert asked[0].cancelled()
