"""A SunSpec device as a meter: finds the model for its role, polls it in one request, converts the sign."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.staleness import plausible
from agent.modbus import ModbusBus
from agent.model.readings import MeterReading, MeterRole, Quality
from agent.model.sunspec import (
    BASE_ADDRESSES,
    COMMON,
    END_OF_MAP,
    HEADER,
    INVERTER,
    METER,
    METER_FLOAT,
    MODELS,
    SUNS,
    Model,
    Value,
    decode,
)
from sterna.clock import Clock
from sterna.errors import PeerProtocolError

log = logging.getLogger(__name__)

# A real map has some twenty models; garbage that looks like a chain must end somewhere.
MAX_MODELS = 64
MAX_ADDRESS = 0xFFFF
MAX_HZ = 1000.0

# Tables that serve a role, the preferred one first.
ROLE_MODELS: Mapping[MeterRole, tuple[Model, ...]] = {
    MeterRole.GRID: (METER, METER_FLOAT),
    MeterRole.LOAD: (METER, METER_FLOAT),
    MeterRole.BATTERY: (METER, METER_FLOAT),
    MeterRole.COMPUTE: (METER, METER_FLOAT),
    MeterRole.GENERATION: (INVERTER,),
}
POLLED: Mapping[str, tuple[str, ...]] = {
    INVERTER.name: ("W", "Hz", "WH"),
    METER.name: ("W", "Hz", "TotWhExp", "TotWhImp"),
    METER_FLOAT.name: ("W", "Hz", "TotWhExp", "TotWhImp"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Where the role's model lies on the device."""

    model: Model
    model_id: int
    address: int
    length: int

    @property
    def count(self) -> int:
        """Registers of one poll: the header, which shows that the map has not moved, to the last figure."""
        return min(self.model.span(POLLED[self.model.name]), self.length + HEADER)


class SunSpecMeter:
    """A meter or inverter that speaks SunSpec over Modbus.

    Parameters
    ----------
    name, role
        As configured.
    bus : ModbusBus
        Shared by the units behind one address.
    clock : Clock
        Stamps the readings.
    unit : int
        Modbus unit id.
    invert : bool
        The meter counts power out of the site as positive.
    max_power_w : float
        Largest magnitude that can be real, > 0; anything beyond is BAD.
    """

    def __init__(
        self,
        name: str,
        role: MeterRole,
        bus: ModbusBus,
        *,
        clock: Clock,
        unit: int = 1,
        invert: bool = False,
        max_power_w: float = 1e6,
    ) -> None:
        self.name = name
        self.role = role
        self._bus, self._unit = bus, unit
        self._clock = clock
        self._invert = invert
        self._max_power_w = max_power_w
        self._found: _Found | None = None

    async def poll(self) -> MeterReading:
        """Read it once; see `agent.devices.meters.Meter`."""
        if self._found is None:
            self._found = await self._discover()
        found = self._found
        try:
            registers = await self._bus.read_holding(self._unit, found.address, found.count)
        except PeerProtocolError:
            self._found = None  # some inverters drop models at night: look again next time
            raise
        if registers[:HEADER] != (found.model_id, found.length):
            self._found = None
            raise PeerProtocolError(f"{self._peer}: model {found.model_id} is no longer at {found.address}")
        return self._reading(found.model, decode(found.model, registers))

    @property
    def _peer(self) -> str:
        return f"{self._bus.peer} unit {self._unit}"

    async def _discover(self) -> _Found:
        start = await self._base() + len(SUNS)
        chain = await self._chain(start)
        for model in ROLE_MODELS[self.role]:
            for found in chain:
                if found.model is model:
                    await self._introduce(chain, found)
                    return found
        raise PeerProtocolError(f"{self._peer}: no SunSpec model for the role {self.role.value}")

    async def _base(self) -> int:
        for address in BASE_ADDRESSES:
            try:
                if await self._bus.read_holding(self._unit, address, len(SUNS)) == SUNS:
                    return address
            except PeerProtocolError:
                continue  # no registers there: the next base
        raise PeerProtocolError(f"{self._peer}: no SunSpec map at 40000, 0 or 50000")

    async def _chain(self, address: int) -> list[_Found]:
        """Walk the models; only those that we have a table for are kept."""
        chain: list[_Found] = []
        for _ in range(MAX_MODELS):
            if address + HEADER > MAX_ADDRESS:
                break
            model_id, length = await self._bus.read_holding(self._unit, address, HEADER)
            if model_id == END_OF_MAP:
                return chain
            if model_id in MODELS:
                chain.append(
                    _Found(model=MODELS[model_id], model_id=model_id, address=address, length=length)
                )
            address += HEADER + length
        raise PeerProtocolError(f"{self._peer}: the SunSpec map has no end")

    async def _introduce(self, chain: list[_Found], found: _Found) -> None:
        common: dict[str, Value] = {}
        for block in chain:
            if block.model is COMMON:
                count = min(block.length, COMMON.length) + HEADER
                common = decode(COMMON, await self._bus.read_holding(self._unit, block.address, count))
                break
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

    def _reading(self, model: Model, values: Mapping[str, Value]) -> MeterReading:
        power_w = _number(values["W"])
        fault = plausible(power_w, max_power_w=self._max_power_w)
        if fault is not None or power_w is None:
            return self._stamped(Quality.BAD, None, fault=fault)
        sign = -1.0 if self._invert else 1.0
        hz = _hz(values["Hz"])
        if model is INVERTER:
            # An inverter that sleeps draws some watts: that is load, not negative production.
            produced_w = max(0.0, sign * power_w)
            return self._stamped(Quality.OK, produced_w, exported_wh=_energy(values["WH"]), hz=hz)
        energies = (_energy(values["TotWhImp"]), _energy(values["TotWhExp"]))
        imported_wh, exported_wh = energies[::-1] if self._invert else energies
        return self._stamped(
            Quality.OK, sign * power_w, imported_wh=imported_wh, exported_wh=exported_wh, hz=hz
        )

    def _stamped(
        self,
        quality: Quality,
        power_w: float | None,
        *,
        imported_wh: float | None = None,
        exported_wh: float | None = None,
        hz: float | None = None,
        fault: str | None = None,
    ) -> MeterReading:
        return MeterReading(
            meter=self.name,
            role=self.role,
            measured_at=self._clock.now(),
            measured_boottime_s=self._clock.boottime_s(),
            quality=quality,
            active_power_w=power_w,
            energy_import_wh=imported_wh,
            energy_export_wh=exported_wh,
            frequency_hz=hz,
            fault=fault,
        )


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _energy(value: Value) -> float | None:
    number = _number(value)
    return abs(number) if number is not None and math.isfinite(number) else None


def _hz(value: Value) -> float | None:
    number = _number(value)
    return number if number is not None and 0 < number < MAX_HZ else None
