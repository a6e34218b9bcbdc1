"""A Modbus device that answers whatever it likes: no crash, and no number that no sound answer holds.

``STERNA_HOSTILE_FRAMES`` sets how many answers each of the long tests takes.
"""

import asyncio
import logging
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.core.plausibility import plausible
from agent.devices.bus_shared import SharedBus
from agent.devices.meters_registers import RegisterMeter
from agent.devices.meters_sunspec import SunSpecMeter
from agent.devices.meters_tables import shipped_table
from agent.modbus import ModbusBus
from agent.model.readings import MeterRole, Quality
from agent.model.sunspec import COMMON, END_OF_MAP, METER, SUNS, encode
from sterna.clock import SystemClock
from sterna.errors import PeerProtocolError, TransientError
from tests.agent.frames import MUTATORS, Request, read_request

HOST, CLOCK = "127.0.0.1", SystemClock()
LONG_FRAMES = int(os.environ.get("STERNA_HOSTILE_FRAMES", "100000"))
FRAMES = 600
DEVICES = 20  # at once: most of the time is spent waiting for answers that do not come
TIMEOUT_S = 0.1
MAX_POWER_W = 20_000.0


class Device:
    """Answers each request with a mutant of the right answer and remembers what went over the wire."""

    def __init__(
        self,
        seed: int,
        *,
        rtu: bool = False,
        hostility: float = 1.0,
        base: int = 0,
        registers: list[int] | None = None,
    ) -> None:
        self.dice, self.hostility = random.Random(seed), hostility
        self.rtu, self.base, self.registers = rtu, base, registers
        self.used: Counter[str] = Counter()
        self.request: Request | None = None
        self.sent = b""
        self.asked_functions: set[int] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                frame = await reader.readexactly(8 if self.rtu else 12)
                self.request, self.sent = read_request(frame, rtu=self.rtu), b""
                self.asked_functions.add(self.request.function)
                await self._answer(writer, self.request)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, request: Request) -> None:
        hostile = self.dice.random() < self.hostility
        name = self.dice.choice(list(MUTATORS)) if hostile else "untouched"
        self.used[name] += 1
        mutant = MUTATORS[name](request, request.answer(self._values(request)), self.dice)
        self.sent += mutant
        cut = self.dice.choice((0, self.dice.randrange(len(mutant) + 1)))
        for part in (mutant[:cut], mutant[cut:]):
            writer.write(part)
            await asyncio.sleep(0)
        if self.dice.random() < 0.01:
            raise ConnectionError

    def _values(self, request: Request) -> list[int]:
        if self.registers is None:
            return [(request.address + n) & 0xFFFF for n in range(request.count)]
        start = request.address - self.base
        places = range(start, start + request.count)
        return [self.registers[n] if 0 <= n < len(self.registers) else 0 for n in places]


@asynccontextmanager
async def serving(device: Device) -> AsyncIterator[SharedBus]:
    server = await asyncio.start_server(device.serve, HOST, 0)
    async with server:
        bus = ModbusBus(
            HOST,
            server.sockets[0].getsockname()[1],
            clock=CLOCK,
            timeout_s=TIMEOUT_S,
            retries=0,
            reconnect_delay_s=0.001,
            reconnect_delay_max_s=0.001,
            rtu_over_tcp=device.rtu,
            min_gap_s=0.0,
        )
        async with bus:
            # Probed at once: it is the answers that are tried here, not the patience.
            yield SharedBus(bus, clock=CLOCK, probe_max_s=0.001)


def no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def registers_from(device: Device, frames: int) -> Counter[str]:
    """Ask until so many answers were given; every number that is believed must lie in a sound answer."""
    outcomes: Counter[str] = Counter()
    async with serving(device) as bus:
        while device.used.total() < frames:
            address, count = device.dice.randrange(65000), device.dice.choice((1, 2, 2, 10, 125))
            read = device.dice.choice((bus.read_holding, bus.read_input))
            try:
                got = await read(7, address, count)
            except TransientError as error:
                outcomes["transient"] += 1
                await asyncio.sleep(min(error.retry_after_s or 0.0, TIMEOUT_S))
                continue
            except PeerProtocolError:
                outcomes["refused"] += 1
                continue
            outcomes["believed"] += 1
            assert device.request is not None
            assert (device.request.address, device.request.count) == (address, count)
            assert got in set(device.request.sound_answers(device.sent))
    return outcomes


async def judge(seed: int, rtu: bool, frames: int, caplog: pytest.LogCaptureFixture) -> None:
    devices = [Device(seed + n, rtu=rtu) for n in range(DEVICES)]
    each = await asyncio.gather(*(registers_from(device, frames // DEVICES) for device in devices))
    outcomes = sum(each, Counter[str]())
    used = sum((device.used for device in devices), Counter[str]())
    assert set(used) == set(MUTATORS), "every kind of mutant came up"
    assert min(outcomes[name] for name in ("transient", "refused", "believed")) > frames / 100, outcomes
    assert set().union(*(device.asked_functions for device in devices)) == {3, 4}
    no_traceback(caplog)


@pytest.mark.parametrize("rtu", [False, True], ids=["tcp", "rtu"])
async def test_only_sound_answers_are_believed(rtu: bool, caplog: pytest.LogCaptureFixture) -> None:
    await judge(100, rtu, FRAMES, caplog)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("rtu", [False, True], ids=["tcp", "rtu"])
async def test_only_sound_answers_are_believed_long(rtu: bool, caplog: pytest.LogCaptureFixture) -> None:
    await judge(10_000, rtu, LONG_FRAMES, caplog)


def sunspec_map() -> list[int]:
    figures = {"W": -1234.0, "W_SF": 0, "Hz": 50.0, "Hz_SF": -2, "TotWhImp": 10.0, "TotWhExp": 5.0}
    meter = encode(METER, figures)
    return [*SUNS, *encode(COMMON, {"Mn": "Maker"}), *meter, END_OF_MAP, 0]


def meter_on(kind: str, bus: SharedBus) -> SunSpecMeter | RegisterMeter:
    if kind == "sunspec":
        return SunSpecMeter("m", MeterRole.GRID, bus, clock=CLOCK, unit=1, max_power_w=MAX_POWER_W)
    table = shipped_table("carlo-gavazzi-em24")
    return RegisterMeter("m", MeterRole.GRID, bus, clock=CLOCK, table=table, max_power_w=MAX_POWER_W)


async def polled(device: Device, kind: str, frames: int) -> Counter[str]:
    qualities: Counter[str] = Counter()
    async with serving(device) as bus:
        meter = meter_on(kind, bus)
        while device.used.total() < frames:
            try:
                reading = await meter.poll()
            except (TransientError, PeerProtocolError) as error:
                qualities["no reading"] += 1
                await asyncio.sleep(min(getattr(error, "retry_after_s", None) or 0.0, TIMEOUT_S))
                continue
            qualities[reading.quality.value] += 1
            if reading.quality is Quality.BAD:
                assert reading.active_power_w is None and reading.fault
            else:
                assert plausible(reading.active_power_w, max_power_w=MAX_POWER_W) is None
            for energy_wh in (reading.energy_import_wh, reading.energy_export_wh):
                assert energy_wh is None or energy_wh >= 0
            assert reading.frequency_hz is None or 0 < reading.frequency_hz < 1000
    return qualities


async def poll_many(kind: str, frames: int, caplog: pytest.LogCaptureFixture) -> None:
    if kind == "sunspec":
        devices = [Device(n, hostility=0.3, base=40000, registers=sunspec_map()) for n in range(DEVICES)]
    else:
        devices = [Device(n, hostility=0.5) for n in range(DEVICES)]
    each = await asyncio.gather(*(polled(device, kind, frames // DEVICES) for device in devices))
    qualities = sum(each, Counter[str]())
    assert qualities["no reading"] > 0 and qualities["OK"] > 0, qualities
    no_traceback(caplog)


@pytest.mark.parametrize("kind", ["sunspec", "registers"])
async def test_a_meter_of_a_hostile_device_gives_no_implausible_power(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await poll_many(kind, FRAMES, caplog)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", ["sunspec", "registers"])
async def test_a_meter_of_a_hostile_device_long(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    await poll_many(kind, LONG_FRAMES, caplog)
