"""Plain Modbus meters: each shipped table against registers on a real socket; sign, nonsense, cadence."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.devices.meters_registers import RegisterMeter
from agent.devices.meters_tables import shipped_names, shipped_table
from agent.modbus import ModbusBus
from agent.modbus_server import RegisterDevice, RegisterRefusedError, RegisterServer
from agent.model.readings import MeterRole, Quality, Storage
from agent.model.registers import Table, encode_value
from sterna.clock import FakeClock, SystemClock

HOST = "127.0.0.1"
START = datetime(2026, 3, 30, 12, tzinfo=UTC)


class Device:
    """A simulated meter: registers by a table, and a log of what was asked."""

    def __init__(
        self, table: Table, values: Mapping[str, float | None], *, refused: range = range(0)
    ) -> None:
        self.table, self.refused = table, refused
        self.registers: dict[int, int] = {}
        self.asked: list[tuple[int, int]] = []
        self.put(values)

    def put(self, values: Mapping[str, float | None]) -> None:
        for register in self.table.registers:
            if register.name in values:
                for place, word in enumerate(encode_value(self.table, register, values[register.name])):
                    self.registers[register.address + place] = word

    async def read(self, address: int, count: int) -> Sequence[int]:
        self.asked.append((address, count))
        if count > self.table.max_read:
            raise RegisterRefusedError(3)
        if set(range(address, address + count)) & set(self.refused):
            raise RegisterRefusedError(2)
        return [self.registers.get(place, 0) for place in range(address, address + count)]


@asynccontextmanager
async def serving(device: Device) -> AsyncIterator[ModbusBus]:
    unit = RegisterDevice(unit=1, spans={0: 20_000}, read=device.read)
    async with (
        RegisterServer(HOST, 0, [unit]) as server,
        ModbusBus(HOST, server.port, clock=SystemClock(), timeout_s=0.5, retries=0) as bus,
    ):
        yield bus


def values_of(table: Table, power_w: float) -> dict[str, float | None]:
    parts = table.needed(("active_power_w",))
    values: dict[str, float | None] = {part.name: power_w / len(parts) for part in parts}
    return values | {"frequency_hz": 50.0, "energy_import_wh": 123_000.0, "energy_export_wh": 5000.0}


@pytest.mark.parametrize("name", shipped_names())
async def test_each_shipped_table(name: str) -> None:
    table = shipped_table(name)
    device = Device(table, values_of(table, -6000.0))
    async with serving(device) as bus:
        meter = RegisterMeter("m", MeterRole.GRID, bus, clock=SystemClock(), table=table)
        reading = await meter.poll()
    assert (reading.quality, reading.active_power_w, reading.fault) == (Quality.OK, -6000.0, None)
    have = table.figures
    assert reading.frequency_hz == (50.0 if "frequency_hz" in have else None)
    assert reading.energy_import_wh == (123_000.0 if "energy_import_wh" in have else None)
    assert reading.energy_export_wh == (5000.0 if "energy_export_wh" in have else None)
    assert all(count <= table.max_read for _, count in device.asked)


@pytest.mark.parametrize(
    ("role", "invert", "device_w", "expected"),
    [
        (MeterRole.GRID, False, 700.0, (700.0, 123_000.0, 5000.0)),
        (MeterRole.GRID, True, 700.0, (-700.0, 5000.0, 123_000.0)),
        (MeterRole.GENERATION, False, 700.0, (700.0, 5000.0, 123_000.0)),
        (MeterRole.GENERATION, True, -700.0, (700.0, 123_000.0, 5000.0)),
        (MeterRole.GENERATION, False, -6.0, (0.0, 5000.0, 123_000.0)),
    ],
)
async def test_signs(
    role: MeterRole, invert: bool, device_w: float, expected: tuple[float, float, float]
) -> None:
    table = shipped_table("eastron-sdm630")
    async with serving(Device(table, values_of(table, device_w))) as bus:
        meter = RegisterMeter("m", role, bus, clock=SystemClock(), table=table, invert=invert)
        reading = await meter.poll()
    assert (reading.active_power_w, reading.energy_import_wh, reading.energy_export_wh) == expected


@pytest.mark.parametrize("power_w", [None, 2.7e23, -2e6])
async def test_nonsense_is_bad_without_a_number(power_w: float | None) -> None:
    table = shipped_table("eastron-sdm120")
    async with serving(Device(table, {"active_power_w": power_w})) as bus:
        reading = await RegisterMeter("m", MeterRole.GRID, bus, clock=SystemClock(), table=table).poll()
    assert (reading.quality, reading.active_power_w, reading.energy_import_wh) == (Quality.BAD, None, None)
    assert reading.fault and "active power" in reading.fault


async def test_energies_are_asked_at_their_own_pace() -> None:
    clock = FakeClock(START)
    table = shipped_table("schneider-iem3000")
    device = Device(table, values_of(table, 100.0))
    async with serving(device) as bus:
        meter = RegisterMeter("m", MeterRole.GRID, bus, clock=clock, table=table, slow_period_s=30.0)
        for second in range(61):
            reading = await meter.poll()
            assert reading.energy_import_wh == 123_000.0, second
            clock.advance(1)
    energies = [address for address, _ in device.asked if address >= 3203]
    assert len(energies) == 3
    assert len(device.asked) == 3 + 2 * 61, "power and frequency are too far apart for one request"


async def test_a_device_without_counters_is_a_meter_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(START)
    table = shipped_table("janitza-b23")
    device = Device(table, values_of(table, 100.0), refused=range(0x4A7C, 0x4A86))
    async with serving(device) as bus:
        meter = RegisterMeter("m", MeterRole.GRID, bus, clock=clock, table=table)
        for _ in range(100):
            reading = await meter.poll()
            assert (reading.active_power_w, reading.energy_import_wh) == (100.0, None)
            clock.advance(1)
    assert sum(address == 0x4A7C for address, _ in device.asked) == 1
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == ["meter refuses its energies"]


async def test_counters_that_are_not_read_for_long_are_unknown() -> None:
    clock = FakeClock(START)
    table = shipped_table("eastron-sdm120")
    device = Device(table, values_of(table, 100.0))

    async def busy(address: int, count: int) -> Sequence[int]:
        if address >= 0x48 and clock.now() > START:
            raise RegisterRefusedError(6)
        return await device.read(address, count)

    apart = replace(table, max_gap=0)
    unit = RegisterDevice(unit=1, spans={0: 20_000}, read=busy)
    async with (
        RegisterServer(HOST, 0, [unit]) as server,
        ModbusBus(HOST, server.port, clock=SystemClock(), timeout_s=0.5, retries=0) as bus,
    ):
        meter = RegisterMeter("m", MeterRole.GRID, bus, clock=clock, table=apart, slow_period_s=10)
        seen = []
        for _ in range(7):
            seen.append((await meter.poll()).energy_import_wh)
            clock.advance(10)
    assert seen == [123_000.0] * 4 + [None] * 3


async def test_unconfirmed_addresses_are_told(caplog: pytest.LogCaptureFixture) -> None:
    table = shipped_table("shelly-pro-3em")
    RegisterMeter(
        "m", MeterRole.GRID, ModbusBus(HOST, 1, clock=SystemClock()), clock=SystemClock(), table=table
    )
    assert "unconfirmed" in caplog.records[0].message


@pytest.mark.parametrize(("role", "known"), [(MeterRole.BATTERY, True), (MeterRole.LOAD, False)])
async def test_a_battery_tells_the_charge_that_its_table_has(role: MeterRole, known: bool) -> None:
    clock = FakeClock(START)
    table = shipped_table("victron-gx-battery")
    device = Device(table, {"active_power_w": 1500.0, "soc_frac": 0.62})
    async with serving(device) as bus:
        reading = await RegisterMeter("m", role, bus, clock=clock, table=table).poll()
    assert reading.storage == (Storage(soc_frac=0.62) if known else None)
    assert any(address <= 843 < address + count for address, count in device.asked) == known
