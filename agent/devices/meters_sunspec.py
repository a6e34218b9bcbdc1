"""A SunSpec device as a meter: finds the model for its role, polls it in few requests, converts the sign."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace

from agent.core.blocks import Span
from agent.core.plausibility import plausible
from agent.devices.bus import Bus
from agent.devices.bus_sunspec import FoundModel, find_models, read_common
from agent.devices.meters_storage import StorageSide
from agent.model.readings import MeterReading, MeterRole, Quality
from agent.model.sunspec import (
    COMMON,
    DER_AC,
    HEADER,
    INVERTER,
    INVERTER_FLOAT,
    METER,
    METER_FLOAT,
    STATUS,
    Model,
    Value,
    decode,
)
from sterna.clock import Clock
from sterna.errors import PeerProtocolError

log = logging.getLogger(__name__)

MAX_HZ = 1000.0

# Tables that serve a role, the preferred one first.
ROLE_MODELS: Mapping[MeterRole, tuple[Model, ...]] = {
    MeterRole.GRID: (METER, METER_FLOAT),
    MeterRole.LOAD: (METER, METER_FLOAT),
    MeterRole.BATTERY: (METER, METER_FLOAT, DER_AC),
    MeterRole.COMPUTE: (METER, METER_FLOAT),
    MeterRole.GENERATION: (INVERTER, INVERTER_FLOAT, DER_AC),
}
POLLED: Mapping[str, tuple[str, ...]] = {
    INVERTER.name: ("W", "Hz", "WH"),
    INVERTER_FLOAT.name: ("W", "Hz", "WH"),
    DER_AC.name: ("W", "Hz", "TotWhInj", "TotWhAbs"),
    METER.name: ("W", "Hz", "TotWhExp", "TotWhImp"),
    METER_FLOAT.name: ("W", "Hz", "TotWhExp", "TotWhImp"),
}


# Name of the energy that goes into and out of the device; "" where the model has none.
COUNTERS: Mapping[str, tuple[str, str]] = {
    INVERTER.name: ("", "WH"),
    INVERTER_FLOAT.name: ("", "WH"),
    DER_AC.name: ("TotWhAbs", "TotWhInj"),
    METER.name: ("TotWhImp", "TotWhExp"),
    METER_FLOAT.name: ("TotWhImp", "TotWhExp"),
}
# Watts that a curtailed plant could give, beside its measurements.
AVAILABLE = "WAval"


class SunSpecMeter:
    """A meter or inverter that speaks SunSpec over Modbus.

    Parameters
    ----------
    name, role
        As configured.
    bus : Bus
        Shared by the units behind one address.
    clock : Clock
        Stamps the readings.
    unit : int
        Modbus unit id.
    invert : bool
        The meter counts power out of the site as positive.
    max_power_w : float
        Largest magnitude that can be real, > 0; anything beyond is BAD.
    max_read : int
        Most registers that the device gives in one request.
    """

    def __init__(
        self,
        name: str,
        role: MeterRole,
        bus: Bus,
        *,
        clock: Clock,
        unit: int = 1,
        invert: bool = False,
        max_power_w: float = 1e6,
        max_read: int = 125,
    ) -> None:
        self.name = name
        self.role = role
        self._bus, self._unit = bus, unit
        self._clock = clock
        self._invert = invert
        self._max_power_w = max_power_w
        self._max_read = max_read
        self._found: FoundModel | None = None
        self._status: FoundModel | None = None
        self._storage: StorageSide | None = None
        self._requests: dict[tuple[int, tuple[str, ...]], tuple[Span, ...]] = {}
        """How points are read, by where their model lies and their names."""

    async def poll(self) -> MeterReading:
        """Read it once; see `agent.devices.meters.Meter`."""
        if self._found is None:
            self._requests.clear()
            self._found, self._status = await self._discover()
        try:
            values = await self._values(self._found, POLLED[self._found.model.name])
        except PeerProtocolError:
            self._found = None  # some inverters drop models at night: look again next time
            raise
        power_w = _number(values["W"])
        reading = MeterReading(
            meter=self.name,
            role=self.role,
            measured_at=self._clock.now(),
            measured_boottime_s=self._clock.boottime_s(),
            quality=Quality.BAD,
            active_power_w=None,
            fault=plausible(power_w, max_power_w=self._max_power_w),
        )
        if power_w is None or reading.fault is not None:
            return reading
        imported_wh, exported_wh = self._energies_wh(self._found.model, values)
        return replace(
            reading,
            quality=Quality.OK,
            active_power_w=self._signed_w(self._found.model, power_w),
            energy_import_wh=imported_wh,
            energy_export_wh=exported_wh,
            frequency_hz=_hz(values["Hz"]),
            available_power_w=await self._available_w(),
            storage=None if self._storage is None else await self._storage.poll(),
        )

    async def _values(self, found: FoundModel, names: tuple[str, ...]) -> dict[str, Value]:
        """Read these points; None for those that the device's model is too short for."""
        image = [0] * (found.model.length + HEADER)
        seen: set[int] = set()
        for block in self._blocks(found, names):
            registers = await self._bus.read_holding(self._unit, block.address, block.count)
            start = block.address - found.address
            image[start : start + block.count] = registers
            seen.update(range(start, start + block.count))
            if not start and registers[:HEADER] != (found.model_id, found.length):
                raise PeerProtocolError(
                    f"{self._peer}: model {found.model_id} is no longer at {found.address}"
                )
        values = decode(found.model, image, names)
        return {name: values[name] if found.model.point(name).offset in seen else None for name in names}

    def _blocks(self, found: FoundModel, names: tuple[str, ...]) -> tuple[Span, ...]:
        key = found.address, names
        if key not in self._requests:
            try:
                self._requests[key] = found.blocks(names, self._max_read)
            except ValueError as error:
                raise PeerProtocolError(f"{self._peer}: model {found.model_id}: {error}") from error
        return self._requests[key]

    async def _available_w(self) -> float | None:
        """Ask a plant what it could give; one that does not say is not asked again."""
        if self._status is None:
            return None
        try:
            available_w = _number((await self._values(self._status, (AVAILABLE,)))[AVAILABLE])
        except PeerProtocolError:
            available_w = None
        if available_w is None:
            self._status = None
        believed = available_w is not None and 0 <= available_w <= self._max_power_w
        return available_w if believed else None

    @property
    def _peer(self) -> str:
        return f"{self._bus.peer} unit {self._unit}"

    async def _discover(self) -> tuple[FoundModel, FoundModel | None]:
        chain = await find_models(self._bus, self._unit)
        for model in ROLE_MODELS[self.role]:
            for found in chain:
                if found.model is model:
                    await self._introduce(chain, found)
                    statuses = [block for block in chain if block.model is STATUS]
                    plant = self.role is MeterRole.GENERATION
                    if self.role is MeterRole.BATTERY:
                        self._storage = StorageSide(self.name, chain, self._values, self._clock)
                    return found, statuses[0] if plant and statuses else None
        told = ", ".join(str(found.model_id) for found in chain) or "none that we read"
        raise PeerProtocolError(
            f"{self._peer}: no SunSpec model for the role {self.role.value}; it has {told}"
        )

    async def _introduce(self, chain: list[FoundModel], found: FoundModel) -> None:
        commons = [block for block in chain if block.model is COMMON]
        common: Mapping[str, Value] = {}
        if commons:
            common = await read_common(self._bus, self._unit, commons[0].address, commons[0].length)
        log.info(
            "sunspec device found",
            extra={
                "meter": self.name,
                "peer": self._peer,
                "model": found.model_id,
                "maker": common.get("Mn"),
                "product": common.get("Md"),
                "serial": common.get("SN"),
            },
        )

    def _signed_w(self, model: Model, power_w: float) -> float:
        signed_w = -power_w if self._invert else power_w
        if self.role is MeterRole.GENERATION:
            # An inverter that sleeps draws some watts: that is load, not negative production.
            return max(0.0, signed_w)
        return -signed_w if model is DER_AC else signed_w  # SunSpec counts injection as positive

    def _energies_wh(self, model: Model, values: Mapping[str, Value]) -> tuple[float | None, float | None]:
        imported_wh, exported_wh = (_energy_wh(values.get(name)) for name in COUNTERS[model.name])
        return (exported_wh, imported_wh) if self._invert else (imported_wh, exported_wh)


def _number(value: Value | None) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _energy_wh(value: Value | None) -> float | None:
    number = _number(value)
    return abs(number) if number is not None and math.isfinite(number) else None


def _hz(value: Value) -> float | None:
    number = _number(value)
    return number if number is not None and 0 < number < MAX_HZ else None
