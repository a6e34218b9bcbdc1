"""SunSpec meters against register maps on real sockets: discovery, choice of model, sign, nonsense."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
import sunspec2.modbus.client as oracle

from agent.devices.meters_sunspec import SunSpecMeter
from agent.modbus import ModbusBus, RegisterDevice, RegisterServer
from agent.model.readings import MeterReading, MeterRole, Quality
from agent.model.sunspec import COMMON, END_OF_MAP, INVERTER, METER, METER_FLOAT, SUNS, Value, encode
from sterna.clock import SystemClock
from sterna.errors import PeerProtocolError

HOST = "127.0.0.1"
COMMON_BLOCK = encode(COMMON, {"Mn": "Maker", "Md": "Product", "SN": "17"})
VENDOR_BLOCK = [64001, 3, 1, 2, 3]


def sunspec_map(*blocks: Sequence[int]) -> list[int]:
    return [*SUNS, *(word for block in blocks for word in block), END_OF_MAP, 0]


def meter_block(values: Mapping[str, Value]) -> list[int]:
    return encode(METER, values, model_id=203)


@asynccontextmanager
async def serving(registers: list[int], base: int = 40000) -> AsyncIterator[ModbusBus]:
    async def read(address: int, count: int) -> Sequence[int]:
        return registers[address - base : address - base + count]

    device = RegisterDevice(unit=1, spans={base: len(registers)}, read=read)
    async with RegisterServer(HOST, 0, [device]) as server:
        bus = ModbusBus(HOST, server.port, clock=SystemClock(), timeout_s=0.5, retries=0)
        async with bus:
            yield bus


def meter(bus: ModbusBus, role: MeterRole = MeterRole.GRID, **more: bool | float) -> SunSpecMeter:
    return SunSpecMeter("m", role, bus, clock=SystemClock(), **more)  # type: ignore[arg-type]


async def once(registers: list[int], role: MeterRole = MeterRole.GRID, **more: bool | float) -> MeterReading:
    async with serving(registers) as bus:
        return await meter(bus, role, **more).poll()


FIGURES: Mapping[str, Value] = {
    "W": -1234.0, "W_SF": 0, "Hz": 50.02, "Hz_SF": -2, "TotWhImp": 5000.0, "TotWhExp": 700.0
}  # fmt: skip


@pytest.mark.parametrize("base", [40000, 0, 50000])
async def test_finds_the_map_at_each_base(base: int) -> None:
    async with serving(sunspec_map(COMMON_BLOCK, VENDOR_BLOCK, meter_block(FIGURES)), base) as bus:
        reading = await meter(bus).poll()
    assert (reading.quality, reading.active_power_w) == (Quality.OK, -1234.0)
    assert (reading.energy_import_wh, reading.energy_export_wh) == (5000.0, 700.0)
    assert reading.frequency_hz == pytest.approx(50.02)


async def test_invert_turns_power_and_energies() -> None:
    reading = await once(sunspec_map(COMMON_BLOCK, meter_block(FIGURES)), invert=True)
    assert reading.active_power_w == 1234.0
    assert (reading.energy_import_wh, reading.energy_export_wh) == (700.0, 5000.0)


@pytest.mark.parametrize("role", [MeterRole.LOAD, MeterRole.BATTERY, MeterRole.COMPUTE])
async def test_other_roles_use_meters_too(role: MeterRole) -> None:
    block = encode(METER_FLOAT, {"W": 812.5, "Hz": 60.0}, model_id=213)
    reading = await once(sunspec_map(COMMON_BLOCK, block), role)
    assert (reading.active_power_w, reading.role) == (812.5, role)


@pytest.mark.parametrize(("power_w", "shown_w"), [(4200.0, 4200.0), (-6.0, 0.0), (0.0, 0.0)])
async def test_generation_is_never_negative(power_w: float, shown_w: float) -> None:
    block = encode(INVERTER, {"W": power_w, "Hz": 50, "WH": 12345}, model_id=101)
    reading = await once(sunspec_map(COMMON_BLOCK, block), MeterRole.GENERATION)
    assert (reading.active_power_w, reading.energy_export_wh) == (shown_w, 12345.0)


async def test_a_device_with_both_is_read_for_its_role() -> None:
    inverter = encode(INVERTER, {"W": 900.0}, model_id=103)
    registers = sunspec_map(COMMON_BLOCK, inverter, meter_block(FIGURES))
    async with serving(registers) as bus:
        assert (await meter(bus, MeterRole.GENERATION).poll()).active_power_w == 900.0
        assert (await meter(bus, MeterRole.GRID).poll()).active_power_w == -1234.0


@pytest.mark.parametrize(
    "values",
    [{"W": None}, {"W": float("nan")}, {"W": 2.7e23}, {"W": -2e6}, {"W": float("inf")}],
    ids=str,
)
async def test_nonsense_is_bad_without_a_number(values: Mapping[str, Value]) -> None:
    block = encode(METER_FLOAT, values, model_id=213)
    reading = await once(sunspec_map(COMMON_BLOCK, block))
    assert (reading.quality, reading.active_power_w) == (Quality.BAD, None)
    assert reading.fault and "active power" in reading.fault


async def test_side_figures_that_make_no_sense_are_none() -> None:
    block = encode(METER_FLOAT, {"W": 5.0, "Hz": 1e9, "TotWhImp": float("inf")}, model_id=213)
    reading = await once(sunspec_map(COMMON_BLOCK, block))
    assert (reading.active_power_w, reading.frequency_hz, reading.energy_import_wh) == (5.0, None, None)


@pytest.mark.parametrize(
    ("registers", "word"),
    [
        ([0] * 20, "no SunSpec map"),
        ([*SUNS, *COMMON_BLOCK[:10]], "illegal data address"),
        ([*SUNS, *([64000, 0] * 100)], "no end"),
        (sunspec_map(COMMON_BLOCK), "role grid"),
        ([*SUNS, 1, 0xFFFF, *([7] * 40)], "no end"),
    ],
    ids=["no map", "cut off", "endless", "no meter", "beyond all addresses"],
)
async def test_maps_that_lead_nowhere(registers: list[int], word: str) -> None:
    async with serving(registers) as bus:
        with pytest.raises(PeerProtocolError, match=word):
            await meter(bus).poll()


async def test_a_map_that_moves_is_found_again() -> None:
    registers = sunspec_map(COMMON_BLOCK, meter_block(FIGURES), VENDOR_BLOCK)
    moved = sunspec_map(COMMON_BLOCK, VENDOR_BLOCK, meter_block({**FIGURES, "W": 7.0}))
    async with serving(registers) as bus:
        one = meter(bus)
        assert (await one.poll()).active_power_w == -1234.0
        registers[:] = moved
        with pytest.raises(PeerProtocolError, match="no longer at"):
            await one.poll()
        assert (await one.poll()).active_power_w == 7.0


async def test_a_common_block_of_65_registers_is_read() -> None:
    short = [1, 65, *COMMON_BLOCK[2:67]]
    reading = await once(sunspec_map(short, meter_block(FIGURES)))
    assert reading.active_power_w == -1234.0


async def test_the_oracle_sees_the_same_device() -> None:
    import asyncio

    registers = sunspec_map(COMMON_BLOCK, meter_block(FIGURES))

    async def read(address: int, count: int) -> Sequence[int]:
        return registers[address - 40000 : address - 40000 + count]

    def scan(port: int) -> tuple[float, float]:
        device = oracle.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr=HOST, ipport=port, timeout=2)
        try:
            device.scan()
            (found,) = device.models[203]
            return found.W.cvalue, found.TotWhImp.cvalue
        finally:
            device.close()

    spans = {40000: len(registers)}
    async with RegisterServer(HOST, 0, [RegisterDevice(unit=1, spans=spans, read=read)]) as server:
        assert await asyncio.to_thread(scan, server.port) == (-1234.0, 5000)
