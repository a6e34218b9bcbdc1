"""Buses on real sockets and a real pseudo-terminal: framing, gap, TLS, the gate, and dead neighbours."""

import asyncio
import os
import pty
import tty
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.devices.bus_shared import SharedBus
from agent.modbus import ModbusBus, NotConnectedError, SerialLine, WriteForbiddenError
from agent.modbus_server import RegisterDevice, RegisterRefusedError, RegisterServer
from sterna import pki
from sterna.clock import SystemClock
from sterna.errors import ConfigError, PeerProtocolError, TransientError
from sterna.identity import Role
from sterna.tls import mutual_tls

HOST = "127.0.0.1"
CLOCK = SystemClock()


async def count_up(address: int, count: int) -> Sequence[int]:
    return [address + n for n in range(count)]


def counting(unit: int = 1) -> RegisterDevice:
    return RegisterDevice(unit=unit, spans={100: 50}, read=count_up)


async def now_s() -> float:
    return asyncio.get_running_loop().time()


class Dead:
    """Makes units silent, and counts what the others answer."""

    def __init__(self, *units: int) -> None:
        self.units = set(units)
        self.silenced = 0

    def __call__(self, unit: int, frame: bytes) -> bytes:
        if unit in self.units:
            self.silenced += 1
            return b""
        return frame


async def test_rtu_over_tcp_keeps_the_gap() -> None:
    async with (
        RegisterServer(HOST, 0, [counting(1), counting(2)], rtu=True) as server,
        ModbusBus(HOST, server.port, clock=CLOCK, timeout_s=0.5, rtu_over_tcp=True) as bus,
    ):
        await bus.read_holding(1, 100, 1)
        begun_s = await now_s()
        answers = await asyncio.gather(*(bus.read_holding(1 + n % 2, 100 + n, 2) for n in range(4)))
        assert answers == [(100 + n, 101 + n) for n in range(4)]
        assert await now_s() - begun_s >= 4 * 0.025


@asynccontextmanager
async def line_to(port: int) -> AsyncIterator[str]:
    """Make a serial line whose far end is a gateway to an RTU server."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    reader, writer = await asyncio.open_connection(HOST, port)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: writer.write(os.read(ours, 4096)))

    async def pump() -> None:
        while data := await reader.read(4096):
            os.write(ours, data)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(pump())
        try:
            yield os.ttyname(theirs)
        finally:
            task.cancel()
            loop.remove_reader(ours)
            writer.close()
            os.close(ours)
            os.close(theirs)


async def test_rtu_over_a_serial_line() -> None:
    async with (
        RegisterServer(HOST, 0, [counting(1), counting(7)], rtu=True) as server,
        line_to(server.port) as device,
        ModbusBus(device, 0, clock=CLOCK, timeout_s=0.5, retries=0, serial=SerialLine(baudrate=38400)) as bus,
    ):
        assert await bus.read_holding(1, 100, 3) == (100, 101, 102)
        assert await bus.read_input(7, 120, 2) == (120, 121)
        with pytest.raises(PeerProtocolError, match="illegal data address"):
            await bus.read_holding(1, 5000, 1)


async def test_a_serial_line_that_is_not_there_is_transient() -> None:
    bus = ModbusBus("/dev/sterna-no-such-line", 0, clock=CLOCK, serial=SerialLine())
    with pytest.raises(NotConnectedError, match="sterna-no-such-line: cannot connect"):
        await bus.read_holding(1, 0, 1)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    folder = tmp_path_factory.mktemp("pki")
    files = {}
    for fleet in ("ours", "others"):
        pki.init(folder / fleet, fleet)
        for name in ("meter", "agent"):
            issued = pki.issue(folder / fleet, Role.SITE, name, (HOST,))
            files[f"{fleet}-{name}"] = {
                "ca_file": issued.ca_file,
                "cert_file": issued.cert_file,
                "key_file": issued.key_file,
            }
    return files


async def test_tls_in_both_directions(keys: dict[str, dict[str, Path]]) -> None:
    served = mutual_tls("modbus tls", **keys["ours-meter"], server=True)
    async with RegisterServer(HOST, 0, [counting(1), counting(2)], tls=served) as server:
        good = mutual_tls("modbus tls", **keys["ours-agent"])
        async with ModbusBus(HOST, server.port, clock=CLOCK, tls=good) as bus:
            answers = await asyncio.gather(*(bus.read_holding(1 + n % 2, 100 + n, 20) for n in range(20)))
            assert [answer[0] for answer in answers] == [100 + n for n in range(20)]
        stranger = mutual_tls("modbus tls", **keys["others-agent"])
        async with ModbusBus(HOST, server.port, clock=CLOCK, tls=stranger) as bus:
            with pytest.raises(TransientError):
                await bus.read_holding(1, 100, 1)
        async with ModbusBus(HOST, server.port, clock=CLOCK, timeout_s=0.2, retries=0) as bus:
            with pytest.raises(TransientError):
                await bus.read_holding(1, 100, 1)


async def test_tls_without_our_certificate_is_refused_by_the_device(keys: dict[str, dict[str, Path]]) -> None:
    mixed = keys["others-agent"] | {"ca_file": keys["ours-agent"]["ca_file"]}
    served = mutual_tls("modbus tls", **keys["ours-meter"], server=True)
    async with (
        RegisterServer(HOST, 0, [counting()], tls=served) as server,
        ModbusBus(
            HOST, server.port, clock=CLOCK, timeout_s=0.3, retries=0, tls=mutual_tls("modbus tls", **mixed)
        ) as bus,
    ):
        with pytest.raises(TransientError):
            await bus.read_holding(1, 100, 1)


def test_tls_files_that_do_not_fit_are_a_config_error(
    keys: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="modbus tls"):
        mutual_tls("modbus tls", **keys["ours-agent"] | {"key_file": keys["ours-meter"]["key_file"]})
    with pytest.raises(ConfigError, match="nowhere"):
        mutual_tls("modbus tls", **keys["ours-agent"] | {"ca_file": tmp_path / "nowhere"})


class Writable:
    """A unit that takes what it is told."""

    def __init__(self) -> None:
        self.registers = dict.fromkeys(range(100, 150), 0)

    async def read(self, address: int, count: int) -> Sequence[int]:
        return [self.registers[address + n] for n in range(count)]

    async def write(self, address: int, values: Sequence[int]) -> None:
        if 0xDEAD in values:
            raise RegisterRefusedError(3)
        self.registers |= {address + n: value for n, value in enumerate(values)}

    def device(self) -> RegisterDevice:
        return RegisterDevice(unit=1, spans={100: 50}, read=self.read, write=self.write)


@pytest.mark.parametrize("rtu", [False, True])
async def test_only_what_is_listed_is_written(rtu: bool) -> None:
    unit = Writable()
    async with (
        RegisterServer(HOST, 0, [unit.device()], rtu=rtu) as server,
        ModbusBus(
            HOST, server.port, clock=CLOCK, rtu_over_tcp=rtu, writable={1: (range(110, 112), range(112, 114))}
        ) as bus,
    ):
        await bus.write_registers(1, 110, [1, 2, 3, 4])
        assert await bus.read_holding(1, 110, 4) == (1, 2, 3, 4)
        for address, values in ((109, [9]), (113, [9, 9]), (114, [9])):
            with pytest.raises(WriteForbiddenError, match="not on the list"):
                await bus.write_registers(1, address, values)
        with pytest.raises(WriteForbiddenError):
            await bus.write_registers(2, 110, [9])
        with pytest.raises(PeerProtocolError, match="illegal data value"):
            await bus.write_registers(1, 110, [0xDEAD])
        for count in (0, 124):
            with pytest.raises(ValueError, match="count"):
                await bus.write_registers(1, 110, [0] * count)
    assert {address for address, value in unit.registers.items() if value} == {110, 111, 112, 113}


@pytest.mark.parametrize("rtu", [False, True])
async def test_a_write_behind_our_back_does_not_leave_the_process(
    rtu: bool, caplog: pytest.LogCaptureFixture
) -> None:
    unit = Writable()
    async with (
        RegisterServer(HOST, 0, [unit.device()], rtu=rtu) as server,
        ModbusBus(HOST, server.port, clock=CLOCK, timeout_s=0.1, retries=0, rtu_over_tcp=rtu) as bus,
    ):
        await bus.connect()
        client = bus._client
        assert client is not None
        for attempt in (
            client.write_register(110, 7, device_id=1),
            client.write_registers(110, [7], device_id=1),
            client.mask_write_register(address=110, and_mask=0, or_mask=7, device_id=1),
            client.readwrite_registers(
                read_address=110, read_count=1, write_address=110, values=[7], device_id=1
            ),
            client.write_coil(110, True, device_id=1),
        ):
            with pytest.raises(Exception, match="No response"):
                await attempt
        assert await bus.read_holding(1, 110, 1) == (0,)
    assert [r.message for r in caplog.records].count("a write was stopped at the bus") == 5


async def shared_latencies(
    dead: Dead, healthy: range, dead_units: Sequence[int], *, seconds: float
) -> dict[int, list[float]]:
    """Poll every unit ten times a second, each in a task of its own; latency of each answered poll."""
    devices = [counting(unit) for unit in (*healthy, *dead_units)]
    latencies: dict[int, list[float]] = {unit: [] for unit in (*healthy, *dead_units)}
    async with (
        RegisterServer(HOST, 0, devices, outgoing=dead) as server,
        ModbusBus(HOST, server.port, clock=CLOCK, timeout_s=0.6, retries=0) as one,
    ):
        bus = SharedBus(one, clock=CLOCK)
        until_s = await now_s() + seconds

        async def poll(unit: int) -> None:
            while (begun_s := await now_s()) < until_s:
                try:
                    assert await bus.read_holding(unit, 100, 10) == tuple(range(100, 110))
                    latencies[unit].append(await now_s() - begun_s)
                except TransientError:
                    pass
                await asyncio.sleep(max(0.0, begun_s + 0.1 - await now_s()))

        async with asyncio.TaskGroup() as group:
            for unit in latencies:
                group.create_task(poll(unit))
    return latencies


async def test_dead_units_do_not_delay_their_neighbours() -> None:
    dead = Dead(21, 22, 23, 24)
    latencies = await shared_latencies(dead, range(1, 9), (21, 22, 23, 24), seconds=3.0)
    assert dead.silenced >= 4 * 2, "they were asked, and probed again"
    assert all(not latencies[unit] for unit in dead.units)
    for unit in range(1, 9):
        assert len(latencies[unit]) >= 10, "it was heard all the time"
        settled = sorted(latencies[unit][1:])
        # Not the slowest: a busy machine has pauses of its own. Without the breaker every poll would be slow.
        assert settled[int(0.8 * len(settled))] < 0.3, "seldom a full timeout"


async def test_a_unit_that_comes_back_is_heard_within_the_probe_time() -> None:
    dead = Dead(2)
    async with (
        RegisterServer(HOST, 0, [counting(1), counting(2)], outgoing=dead) as server,
        ModbusBus(HOST, server.port, clock=CLOCK, timeout_s=0.1, retries=0) as one,
    ):
        bus = SharedBus(one, clock=CLOCK, probe_max_s=0.2)
        for _ in range(3):
            with pytest.raises(TransientError, match="no usable answer"):
                await bus.read_holding(2, 100, 1)
        asked = dead.silenced
        with pytest.raises(TransientError, match="asked again later") as failure:
            await bus.read_holding(2, 100, 1)
        assert dead.silenced == asked, "not even asked"
        assert failure.value.retry_after_s is not None and failure.value.retry_after_s <= 0.2
        assert await bus.read_holding(1, 100, 1) == (100,)
        dead.units.clear()
        async with asyncio.timeout(2):
            while True:
                try:
                    assert await bus.read_input(2, 100, 1) == (100,)
                    break
                except TransientError as error:
                    await asyncio.sleep(error.retry_after_s or 0.01)
        assert bus.health(2).trusted


async def test_a_slow_unit_is_not_cut_off_while_nobody_waits() -> None:
    async def slow(address: int, count: int) -> Sequence[int]:
        await asyncio.sleep(0.2)
        return await count_up(address, count)

    device = RegisterDevice(unit=1, spans={100: 50}, read=slow)
    async with (
        RegisterServer(HOST, 0, [device, counting(2)]) as server,
        ModbusBus(HOST, server.port, clock=CLOCK, timeout_s=0.9, retries=0) as one,
    ):
        bus = SharedBus(one, clock=CLOCK)
        assert await bus.read_holding(1, 100, 1) == (100,)
        # Now that it is known to be slow, its neighbour waits for it.
        assert await asyncio.gather(bus.read_holding(1, 101, 1), bus.read_holding(2, 102, 1)) == [
            (101,),
            (102,),
        ]


async def test_a_refusal_is_an_answer() -> None:
    async with (
        RegisterServer(HOST, 0, [counting()]) as server,
        ModbusBus(HOST, server.port, clock=CLOCK, timeout_s=0.5, retries=0) as one,
    ):
        bus = SharedBus(one, clock=CLOCK)
        for _ in range(5):
            with pytest.raises(PeerProtocolError):
                await bus.read_holding(1, 5000, 1)
        assert bus.health(1).trusted


async def test_a_gateway_that_is_away_blames_no_unit() -> None:
    async with RegisterServer(HOST, 0, [counting()]) as server:
        port = server.port
    bus = SharedBus(ModbusBus(HOST, port, clock=CLOCK, reconnect_delay_s=0.01), clock=CLOCK)
    for _ in range(5):
        with pytest.raises(NotConnectedError):
            await bus.read_holding(1, 100, 1)
    assert bus.health(1).failures == 0


async def test_who_gives_up_waiting_does_not_take_the_turn_along() -> None:
    async with (
        RegisterServer(HOST, 0, [counting(1), counting(2)], outgoing=Dead(1)) as server,
        ModbusBus(HOST, server.port, clock=CLOCK, timeout_s=0.4, retries=0) as one,
    ):
        bus = SharedBus(one, clock=CLOCK)

        async def impatient() -> None:
            async with asyncio.timeout(0.01):
                await bus.read_holding(2, 100, 1)

        results = await asyncio.gather(
            bus.read_holding(1, 100, 1), impatient(), bus.read_holding(2, 101, 1), return_exceptions=True
        )
        assert isinstance(results[0], TransientError) and "others wait" in str(results[0])
        assert isinstance(results[1], TimeoutError)
        assert results[2] == (101,)


async def test_writes_pass_the_shared_bus() -> None:
    unit = Writable()
    async with (
        RegisterServer(HOST, 0, [unit.device()]) as server,
        ModbusBus(HOST, server.port, clock=CLOCK, writable={1: (range(110, 112),)}) as one,
    ):
        bus = SharedBus(one, clock=CLOCK)
        await bus.write_registers(1, 110, [5, 6])
        assert await bus.read_holding(1, 110, 2) == (5, 6)
        with pytest.raises(WriteForbiddenError):
            await bus.write_registers(1, 112, [1])


async def test_a_connection_that_went_silent_is_opened_anew() -> None:
    dead = Dead(1)
    async with (
        RegisterServer(HOST, 0, [counting()], outgoing=dead) as server,
        ModbusBus(HOST, server.port, clock=CLOCK, timeout_s=0.05, retries=0) as bus,
    ):
        await bus.connect()
        first = bus._client
        for _ in range(6):
            with pytest.raises(TransientError):
                await bus.read_holding(1, 100, 1)
        dead.units.clear()
        assert await bus.read_holding(1, 100, 1) == (100,)
        assert bus._client is not first
