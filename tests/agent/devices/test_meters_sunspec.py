"""SunSpec meters against register maps on real sockets: discovery, choice of model, sign, nonsense."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sunspec2.modbus.client as oracle
from sunspec2.device import Model as OracleModel

from agent.devices.meters_sunspec import SunSpecMeter
from agent.devices.recognise import find_sunspec
from agent.modbus import ModbusBus
from agent.modbus_server import RegisterDevice, RegisterRefusedError, RegisterServer
from agent.model.readings import MeterReading, MeterRole, Quality, Storage, StorageStatus
from agent.model.sunspec import (
    BATTERY,
    COMMON,
    DER_AC,
    DER_CAPACITY,
    DER_STORAGE,
    END_OF_MAP,
    HEADER,
    INVERTER,
    INVERTER_FLOAT,
    METER,
    METER_FLOAT,
    STATUS,
    SUNS,
    Value,
    encode,
)
from sterna.clock import FakeClock, SystemClock
from sterna.errors import PeerProtocolError

HOST = "127.0.0.1"
DUMP = Path(__file__).resolve().parents[4] / "shared/data/fixtures/sunspec/emulated_der_7xx.json"
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


async def test_a_scale_factor_that_changes_changes_its_figure() -> None:
    registers = sunspec_map(COMMON_BLOCK, meter_block(FIGURES))
    async with serving(registers) as bus:
        one = meter(bus)
        assert (await one.poll()).active_power_w == -1234.0
        for scale, power_w in ((1, -123_450.0), (-1, -987.6), (0, -1234.0)):
            registers[:] = sunspec_map(COMMON_BLOCK, meter_block({**FIGURES, "W": power_w, "W_SF": scale}))
            assert (await one.poll()).active_power_w == pytest.approx(power_w)


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


async def test_a_float_inverter() -> None:
    block = encode(INVERTER_FLOAT, {"W": 812.5, "Hz": 60.0, "WH": 5e6}, model_id=113)
    reading = await once(sunspec_map(COMMON_BLOCK, block), MeterRole.GENERATION)
    assert (reading.active_power_w, reading.energy_export_wh, reading.energy_import_wh) == (812.5, 5e6, None)


DER: Mapping[str, Value] = {"W": 4000.0, "Hz": 60.0, "Hz_SF": -2, "TotWhInj": 9e9, "TotWhAbs": 7.0}


@pytest.mark.parametrize(
    ("role", "more", "expected_w"),
    [
        (MeterRole.GENERATION, {}, 4000.0),
        (MeterRole.BATTERY, {}, -4000.0),
        (MeterRole.BATTERY, {"W": -4000.0}, 4000.0),
    ],
)
async def test_a_der(role: MeterRole, more: Mapping[str, Value], expected_w: float) -> None:
    reading = await once(sunspec_map(COMMON_BLOCK, encode(DER_AC, {**DER, **more})), role)
    assert (reading.active_power_w, reading.frequency_hz) == (expected_w, 60.0)
    assert (reading.energy_import_wh, reading.energy_export_wh) == (7.0, 9e9)


async def test_a_model_that_is_shorter_than_ours_tells_what_it_has() -> None:
    block = encode(METER, FIGURES, model_id=203)[:40]
    block[1] = 38
    reading = await once(sunspec_map(COMMON_BLOCK, block))
    assert (reading.active_power_w, reading.energy_import_wh, reading.energy_export_wh) == (
        -1234.0,
        None,
        None,
    )


async def limited(registers: list[int], max_read: int, asked: list[tuple[int, int]]) -> MeterReading:
    async def read(address: int, count: int) -> Sequence[int]:
        if count > max_read:
            raise RegisterRefusedError(3)
        asked.append((address, count))
        return registers[address - 40000 : address - 40000 + count]

    device = RegisterDevice(unit=1, spans={40000: len(registers)}, read=read)
    async with (
        RegisterServer(HOST, 0, [device]) as server,
        ModbusBus(HOST, server.port, clock=SystemClock(), timeout_s=0.5, retries=0) as bus,
    ):
        one = meter(bus, max_read=max_read)
        try:
            await one.poll()
        finally:
            asked.clear()
        return await one.poll()


async def test_a_device_that_gives_few_registers_at_once() -> None:
    asked: list[tuple[int, int]] = []
    vendor_first = sunspec_map(meter_block(FIGURES))
    reading = await limited(vendor_first, 20, asked)
    assert (reading.active_power_w, reading.energy_import_wh) == (-1234.0, 5000.0)
    assert len(asked) > 1 and all(count <= 20 for _, count in asked)
    with pytest.raises(PeerProtocolError, match="do not fit"):
        await limited(vendor_first, 10, asked)


async def test_what_a_curtailed_plant_could_give() -> None:
    inverter = encode(INVERTER, {"W": 900.0}, model_id=103)
    status = encode(STATUS, {"WAval": 4200.0, "WAval_SF": 0})
    async with serving(sunspec_map(COMMON_BLOCK, inverter, status)) as bus:
        reading = await meter(bus, MeterRole.GENERATION).poll()
    assert (reading.active_power_w, reading.available_power_w) == (900.0, 4200.0)


async def test_a_reading_is_as_old_as_its_power() -> None:
    clock = FakeClock(datetime(2026, 3, 30, tzinfo=UTC))
    registers = sunspec_map(COMMON_BLOCK, POWER, CAPACITY)
    charge = 40000 + len(registers) - 2 - len(CAPACITY)

    async def read(address: int, count: int) -> Sequence[int]:
        if address == charge and count > HEADER:
            clock.advance(2.0)
        return registers[address - 40000 : address - 40000 + count]

    device = RegisterDevice(unit=1, spans={40000: len(registers)}, read=read)
    async with (
        RegisterServer(HOST, 0, [device]) as server,
        ModbusBus(HOST, server.port, clock=SystemClock(), timeout_s=0.5, retries=0) as bus,
    ):
        reading = await SunSpecMeter("m", MeterRole.BATTERY, bus, clock=clock).poll()
    assert reading.storage is not None
    assert clock.boottime_s() - reading.measured_boottime_s == 2.0, "the charge was read after it"


async def test_a_device_that_does_not_say_who_it_is_is_read() -> None:
    registers = sunspec_map(COMMON_BLOCK, meter_block(FIGURES))

    async def read(address: int, count: int) -> Sequence[int]:
        if address == 40002 and count > HEADER:
            raise RegisterRefusedError(2)
        return registers[address - 40000 : address - 40000 + count]

    device = RegisterDevice(unit=1, spans={40000: len(registers)}, read=read)
    async with (
        RegisterServer(HOST, 0, [device]) as server,
        ModbusBus(HOST, server.port, clock=SystemClock(), timeout_s=0.5, retries=0) as bus,
    ):
        assert (await meter(bus).poll()).quality is Quality.OK
        find = await find_sunspec(bus, 1)
    assert find is not None
    assert (find.maker, find.roles) == ("", (MeterRole.GRID,))


async def test_a_plant_that_does_not_say_what_it_could_give_is_not_asked_again() -> None:
    asked: list[int] = []
    registers = sunspec_map(COMMON_BLOCK, encode(INVERTER, {"W": 900.0}, model_id=103), encode(STATUS, {}))

    async def read(address: int, count: int) -> Sequence[int]:
        asked.append(address)
        return registers[address - 40000 : address - 40000 + count]

    device = RegisterDevice(unit=1, spans={40000: len(registers)}, read=read)
    async with (
        RegisterServer(HOST, 0, [device]) as server,
        ModbusBus(HOST, server.port, clock=SystemClock(), timeout_s=0.5, retries=0) as bus,
    ):
        one = meter(bus, MeterRole.GENERATION)
        await one.poll()
        asked.clear()
        for _ in range(3):
            assert (await one.poll()).available_power_w is None
    assert len(asked) == 3


async def test_models_that_vanish_at_night_are_found_in_the_morning() -> None:
    day = sunspec_map(COMMON_BLOCK, VENDOR_BLOCK, encode(INVERTER, {"W": 900.0}, model_id=103))
    night = [*sunspec_map(COMMON_BLOCK), *([0] * 60)][: len(day)]
    registers = list(day)
    async with serving(registers) as bus:
        one = meter(bus, MeterRole.GENERATION)
        assert (await one.poll()).active_power_w == 900.0
        registers[:] = night
        for word in ("no longer", "role generation", "role generation"):
            with pytest.raises(PeerProtocolError, match=word):
                await one.poll()
        registers[:] = day
        assert (await one.poll()).active_power_w == 900.0


CAPACITY = encode(DER_STORAGE, {"WHRtg": 13_500.0, "WHAvail": 6000.0, "WH_SF": 0, "SoC": 50.0, "SoH": 99.0})
BANK: Mapping[str, Value] = {
    "WHRtg": 20_000.0,
    "WHRtg_SF": 1,
    "SoC": 25.5,
    "SoC_SF": -1,
    "State": 3,
    "Evt1": 0,
}
POWER = encode(DER_AC, {"W": 700.0})
RATING = encode(DER_CAPACITY, {"WChaRteMax": 5000.0, "WDisChaRteMaxRtg": 6000.0, "W_SF": 0})


@pytest.mark.parametrize(
    ("blocks", "stored"),
    [
        ((POWER, CAPACITY), Storage(capacity_wh=13_500.0, available_wh=6000.0, soc_frac=0.5, soh_frac=0.99)),
        (
            (meter_block(FIGURES), encode(BATTERY, BANK)),
            Storage(capacity_wh=20_000.0, soc_frac=0.255, status=StorageStatus.OK),
        ),
        (
            (encode(BATTERY, BANK), POWER, CAPACITY),
            Storage(capacity_wh=13_500.0, available_wh=6000.0, soc_frac=0.5, soh_frac=0.99),
        ),
        ((POWER,), None),
        (
            (POWER, RATING, CAPACITY),
            Storage(
                capacity_wh=13_500.0,
                available_wh=6000.0,
                soc_frac=0.5,
                soh_frac=0.99,
                max_charge_w=5000.0,
                max_discharge_w=6000.0,
            ),
        ),
    ],
)
async def test_a_battery_tells_its_charge(blocks: tuple[Sequence[int], ...], stored: Storage | None) -> None:
    reading = await once(sunspec_map(COMMON_BLOCK, *blocks), MeterRole.BATTERY)
    assert (reading.quality, reading.storage) == (Quality.OK, stored)


async def test_only_a_battery_is_asked_for_its_charge() -> None:
    reading = await once(sunspec_map(COMMON_BLOCK, meter_block(FIGURES), CAPACITY))
    assert reading.storage is None


async def test_a_charge_is_read_every_half_minute_and_unknown_when_it_is_old() -> None:
    clock, asked, busy = FakeClock(datetime(2026, 3, 30, tzinfo=UTC)), [0], [6]
    registers = sunspec_map(COMMON_BLOCK, POWER, CAPACITY)
    place = 40000 + len(registers) - 2 - len(CAPACITY)

    async def read(address: int, count: int) -> Sequence[int]:
        if address == place and clock.boottime_s() > begun_s:
            asked[0] += 1
            raise RegisterRefusedError(busy[0])
        return registers[address - 40000 : address - 40000 + count]

    begun_s = clock.boottime_s()
    device = RegisterDevice(unit=1, spans={40000: len(registers)}, read=read)
    async with (
        RegisterServer(HOST, 0, [device]) as server,
        ModbusBus(HOST, server.port, clock=SystemClock(), timeout_s=0.5, retries=0) as bus,
    ):
        one = SunSpecMeter("m", MeterRole.BATTERY, bus, clock=clock)
        known = []
        for _ in range(13):
            reading = await one.poll()
            assert reading.active_power_w == -700.0, "the power is read all the same"
            known.append(reading.storage is not None)
            clock.advance(10)
        assert known == [True] * 12 + [False], "two reads may fail, not three"
        assert asked == [4]
        busy[0] = 2
        clock.advance(30)
        assert (await one.poll()).storage is None
        clock.advance(500)
        await one.poll()
        assert asked == [5], "a device that refuses is left alone for a while"


@pytest.mark.skipif(not DUMP.exists(), reason="no recorded dumps")
async def test_an_emulated_der_as_a_battery_tells_what_the_oracle_reads() -> None:
    dump = json.loads(DUMP.read_text())
    [place] = [model["addr"] - dump["base_address"] for model in dump["models"] if model["id"] == 713]
    data = b"".join(word.to_bytes(2, "big") for word in dump["registers"][place : place + 9])
    theirs = OracleModel(713, data=data).points
    reading = await once(list(dump["registers"]), MeterRole.BATTERY)
    assert reading.storage is not None
    told = (reading.storage.capacity_wh, reading.storage.available_wh)
    assert told == (theirs["WHRtg"].cvalue, theirs["WHAvail"].cvalue)
    parts = (reading.storage.soc_frac, reading.storage.soh_frac)
    assert parts == (pytest.approx(theirs["SoC"].cvalue / 100), pytest.approx(theirs["SoH"].cvalue / 100))
