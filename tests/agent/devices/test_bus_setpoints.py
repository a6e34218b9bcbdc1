"""Set-points on simulated devices: the gate, the order of writes, read-back, and the device's own timer."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from agent.devices.bus_setpoints import SetPoint
from agent.devices.bus_shared import SharedBus
from agent.modbus import ModbusBus, WriteForbiddenError
from agent.modbus_server import RegisterDevice, RegisterRefusedError, RegisterServer
from agent.model.sunspec import (
    BATTERY,
    COMMON,
    CONTROLS,
    DER_CONTROLS,
    END_OF_MAP,
    HEADER,
    STORAGE,
    SUNS,
    Model,
    Value,
    decode,
    encode,
)
from sterna.clock import SystemClock
from sterna.errors import PeerProtocolError

HOST = "127.0.0.1"
BASE = 40000
ZERO_704: Mapping[str, Value] = {
    "WMaxLimPctEna": 0, "WMaxLimPct": 100.0, "WMaxLimPct_SF": -1, "WMaxLimPctRvrtTms": 0,
    "WMaxLimPctEnaRvrt": 0,
    "WSetEna": 0, "WSetMod": 0, "WSet": 0.0, "WSet_SF": 1, "WSetRvrtTms": 0, "WSetEnaRvrt": 0,
}  # fmt: skip
ZERO_123: Mapping[str, Value] = {
    "WMaxLimPct": 100.0, "WMaxLimPct_SF": 0, "WMaxLimPct_RvrtTms": 0, "WMaxLim_Ena": 0,
}  # fmt: skip
ZERO_124: Mapping[str, Value] = {
    "InWRte": 100.0, "OutWRte": 100.0, "InOutWRte_SF": -2, "InOutWRte_RvrtTms": 0, "StorCtl_Mod": 0
}  # fmt: skip


class Device:
    """A device of one model that takes writes and remembers their order."""

    def __init__(self, model: Model, values: Mapping[str, Value]) -> None:
        self.model = model
        common = encode(COMMON, {"Mn": "Maker"})
        self.start = BASE + len(SUNS) + len(common)
        self.registers = [*SUNS, *common, *encode(model, values), END_OF_MAP, 0]
        self.written: list[tuple[int, int]] = []
        self.deaf: set[int] = set()

    async def read(self, address: int, count: int) -> Sequence[int]:
        return self.registers[address - BASE : address - BASE + count]

    async def write(self, address: int, values: Sequence[int]) -> None:
        if address - self.start >= self.model.length + HEADER:
            raise RegisterRefusedError(2)
        for place, value in enumerate(values, address):
            self.written.append((place - self.start, value))
            if place - self.start not in self.deaf:
                self.registers[place - BASE] = value

    @property
    def values(self) -> dict[str, Value]:
        return decode(self.model, self.registers[self.start - BASE :])

    def at(self, *names: str) -> list[int]:
        return [self.model.point(name).offset for name in names]


@asynccontextmanager
async def serving(
    device: Device, writable: dict[int, tuple[range, ...]] | None = None
) -> AsyncIterator[SharedBus]:
    spans = {BASE: len(device.registers)}
    unit = RegisterDevice(unit=1, spans=spans, read=device.read, write=device.write)
    clock = SystemClock()
    async with (
        RegisterServer(HOST, 0, [unit]) as server,
        ModbusBus(HOST, server.port, clock=clock, timeout_s=0.5, retries=0, writable=writable) as bus,
    ):
        yield SharedBus(bus, clock=clock)


def point(bus: SharedBus, control: str = "generation-limit", **more: object) -> SetPoint:
    return SetPoint(bus, clock=SystemClock(), unit=1, control=control, **more)  # type: ignore[arg-type]


async def test_a_generation_limit_over_704() -> None:
    device = Device(DER_CONTROLS, ZERO_704)
    async with serving(device, {1: ()}) as bus:
        one = point(bus, reversion_s=90)
        assert one.wish is None
        await one.apply({"WMaxLimPct": 42.5})
        assert one.wish == {"WMaxLimPct": 42.5}
        values = device.values
        assert (values["WMaxLimPct"], values["WMaxLimPctRvrtTms"], values["WMaxLimPctEna"]) == (42.5, 90, 1)
        assert device.written[-1] == (14, 1), "the switch comes last"
        allowed = device.at("WMaxLimPct", "WMaxLimPctEna", "WMaxLimPctEnaRvrt", "WMaxLimPctRvrtTms")
        assert {place for place, _ in device.written} == {*allowed, allowed[-1] + 1}
        await one.release()
        assert (device.values["WMaxLimPctEna"], one.wish) == (0, None)


async def test_a_generation_limit_falls_back_to_123() -> None:
    device = Device(CONTROLS, ZERO_123)
    async with serving(device, {1: ()}) as bus:
        await point(bus).apply({"WMaxLimPct": 30})
    values = device.values
    assert (values["WMaxLimPct"], values["WMaxLimPct_RvrtTms"], values["WMaxLim_Ena"]) == (30, 60, 1)


async def test_active_power_in_watts_over_704() -> None:
    device = Device(DER_CONTROLS, ZERO_704)
    async with serving(device, {1: ()}) as bus:
        await point(bus, "active-power").apply({"WSet": -70_000.0})
    values = device.values
    assert (values["WSet"], values["WSetMod"], values["WSetEna"], values["WSetRvrtTms"]) == (
        -70_000.0,
        1,
        1,
        60,
    )
    assert values["WMaxLimPctEna"] == 0


async def test_storage_rates_over_124() -> None:
    device = Device(STORAGE, ZERO_124)
    async with serving(device, {1: ()}) as bus:
        await point(bus, "storage-rates").apply({"InWRte": 25.5, "OutWRte": 0.0})
    values = device.values
    assert (values["InWRte"], values["OutWRte"], values["InOutWRte_RvrtTms"]) == (25.5, 0.0, 60)
    assert values["StorCtl_Mod"] == 3


async def test_a_battery_is_disconnected_only_where_lasting_is_allowed() -> None:
    device = Device(BATTERY, {"SetOp": 1})
    async with serving(device, {1: ()}) as bus:
        with pytest.raises(PeerProtocolError, match="no model for battery-connection"):
            await point(bus, "battery-connection").apply({"SetOp": 2})
        assert device.values["SetOp"] == 1
        await point(bus, "battery-connection", allow_lasting=True).apply({"SetOp": 2})
    assert device.values["SetOp"] == 2


async def test_read_only_is_read_only() -> None:
    device = Device(DER_CONTROLS, ZERO_704)
    async with serving(device) as bus:
        with pytest.raises(WriteForbiddenError, match="read-only"):
            await point(bus).apply({"WMaxLimPct": 50})
        with pytest.raises(WriteForbiddenError):
            bus.allow_writes(1, [range(BASE, BASE + 1)])
        with pytest.raises(WriteForbiddenError):
            await bus.write_registers(1, device.start + 15, [500])
    assert device.written == []


async def test_the_gate_opens_for_the_controls_own_registers_alone() -> None:
    device = Device(DER_CONTROLS, ZERO_704)
    async with serving(device, {1: ()}) as bus:
        await point(bus).apply({"WMaxLimPct": 50})
        for name in ("WSet", "WSetEna", "AntiIslEna", "WMaxLimPctRvrt", "WMaxLimPct_SF", "ID"):
            with pytest.raises(WriteForbiddenError):
                await bus.write_registers(1, device.start + device.at(name)[0], [1])


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"WMaxLimPct": 100.1}, "not within 0..100"),
        ({"WMaxLimPct": -1}, "not within"),
        ({"WMaxLimPct": float("nan")}, "not within"),
        ({"WMax": 1}, "expected WMaxLimPct"),
        ({}, "expected"),
    ],
)
async def test_wishes_beyond_the_limits_write_nothing(wish: Mapping[str, float], word: str) -> None:
    device = Device(DER_CONTROLS, ZERO_704)
    async with serving(device, {1: ()}) as bus:
        one = point(bus)
        with pytest.raises(ValueError, match=word):
            await one.apply(wish)
        assert one.wish is None
    assert device.written == []


async def test_a_device_that_would_never_return_by_itself_is_left_alone() -> None:
    device = Device(DER_CONTROLS, {**ZERO_704, "WMaxLimPctRvrtTms": None, "WMaxLimPctEnaRvrt": None})
    async with serving(device, {1: ()}) as bus:
        with pytest.raises(PeerProtocolError, match="would stay in force if we died"):
            await point(bus).apply({"WMaxLimPct": 50})
        assert device.written == []
        await point(bus, allow_lasting=True).apply({"WMaxLimPct": 50})
    assert {place for place, _ in device.written} == set(device.at("WMaxLimPct", "WMaxLimPctEna"))


async def test_a_device_that_does_not_take_it_is_told_of() -> None:
    device = Device(DER_CONTROLS, ZERO_704)
    device.deaf.update(device.at("WMaxLimPct"))
    async with serving(device, {1: ()}) as bus:
        with pytest.raises(PeerProtocolError, match=r"wrote \[500"):
            await point(bus).apply({"WMaxLimPct": 50})


async def test_a_map_that_moved_is_not_written_to() -> None:
    device = Device(DER_CONTROLS, ZERO_704)
    async with serving(device, {1: ()}) as bus:
        one = point(bus)
        await one.apply({"WMaxLimPct": 50})
        device.written.clear()
        device.registers[device.start - BASE] = 705
        with pytest.raises(PeerProtocolError, match="no longer at"):
            await one.apply({"WMaxLimPct": 60})
        with pytest.raises(PeerProtocolError, match="no model for generation-limit"):
            await one.apply({"WMaxLimPct": 60})
    assert device.written == []


async def test_few_registers_at_once() -> None:
    device = Device(DER_CONTROLS, ZERO_704)
    async with serving(device, {1: ()}) as bus:
        await point(bus, max_read=10).apply({"WMaxLimPct": 50})
    assert device.values["WMaxLimPctEna"] == 1
