"""A simulated site on Modbus TCP: an inverter, a grid meter and, where wanted, a load meter, as SunSpec says.

It turns the plant's watts into registers each tick and applies the faults; it decides nothing about energy.
"""

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent.modbus_server import RegisterDevice, RegisterServer
from agent.model.sunspec import (
    BASE_ADDRESSES,
    COMMON,
    END_OF_MAP,
    INVERTER,
    METER,
    METER_FLOAT,
    SUNS,
    Model,
    Value,
)
from agent.model.sunspec import encode as encode_model
from agent.simulator.faults import ComputeFile, Fault, FaultFile
from agent.simulator.plant import Plant, PlantState, SimTime
from sterna.clock import Clock
from sterna.supervise import Heart
from sterna.units import joules_to_wh

log = logging.getLogger(__name__)

UNITS: Mapping[str, int] = {"inverter": 1, "grid": 2, "load": 3}
MODEL_IDS: Mapping[str, int] = {"inverter": 103, "grid": 203, "load": 213}
PRODUCTS: Mapping[str, str] = {
    "inverter": "Simulated plant",
    "grid": "Simulated grid meter",
    "load": "Simulated load",
}
BASE = BASE_ADDRESSES[0]
MAINS_HZ, WOBBLE_HZ, WOBBLE_S = 60.0, 0.03, 7.0
PHASE_V = 277.0
INT16_MAX = 32767
# Counters of real devices do not start at 0, which SunSpec reads as "never counted".
FIRST_WH = 1000.0
PEAK_MARGIN_W = 10_000.0
STATE_SLEEPING, STATE_MPPT, STATE_THROTTLED = 2, 4, 5


@dataclass(slots=True)
class _Energy:
    """Two counters, watt-hours of real time."""

    import_wh: float = FIRST_WH
    export_wh: float = FIRST_WH

    def add(self, power_w: float, duration_s: float) -> None:
        """Count a power, positive into the site."""
        energy_wh = joules_to_wh(abs(power_w) * duration_s)
        if power_w >= 0:
            self.import_wh += energy_wh
        else:
            self.export_wh += energy_wh


@dataclass(slots=True)
class SimulatedSite:
    """The registers of one site, renewed each tick.

    Parameters
    ----------
    name : str
        Stands in the serial numbers.
    plant, time
        What it generates and when.
    compute, faults
        The files that say what the nodes draw and what is broken.
    load_meter : bool
        Whether there is a third device that meters the base load alone.
    """

    name: str
    plant: Plant
    time: SimTime
    compute: ComputeFile
    faults: FaultFile
    load_meter: bool = False
    images: dict[str, list[int]] = field(default_factory=dict, init=False)
    state: PlantState | None = field(default=None, init=False)
    _energy: dict[str, _Energy] = field(default_factory=dict, init=False)
    _frames: int = field(default=0, init=False)

    @property
    def devices(self) -> Sequence[str]:
        """Names of the devices that it has."""
        return ("inverter", "grid", "load") if self.load_meter else ("inverter", "grid")

    def tick(self, now: datetime, elapsed_s: float) -> PlantState:
        """Move to an instant, `elapsed_s` real seconds after the last tick."""
        faults = self.faults.refresh()
        state = self.plant.state(
            self.time.trace_at(now),
            compute_w=self.compute.refresh(),
            limit_generation_w=faults.limit_generation_w,
        )
        throttled = state.generation_w < state.available_w
        # House sign for the counters: what an inverter makes leaves it.
        powers = {"inverter": -state.generation_w, "grid": state.grid_w, "load": state.base_load_w}
        for device in self.devices:
            energy = self._energy.setdefault(device, _Energy())
            energy.add(powers[device], elapsed_s)
            fault = faults.devices.get(device)
            if fault is Fault.STUCK and device in self.images:
                continue
            shown_w = None if fault is Fault.NAN else powers[device]
            self.images[device] = self._image(device, shown_w, energy, now, throttled)
        self.state = state
        return state

    def server(self, host: str, port: int) -> RegisterServer:
        """Make the server; `tick` must have run once before it is started."""
        devices = [
            RegisterDevice(
                unit=UNITS[name], spans={BASE: len(self.images[name])}, read=_Reader(self, name).read
            )
            for name in self.devices
        ]
        return RegisterServer(host, port, devices, outgoing=self._outgoing)

    def _image(
        self, device: str, power_w: float | None, energy: _Energy, now: datetime, throttled: bool
    ) -> list[int]:
        hz = MAINS_HZ + WOBBLE_HZ * math.sin(2 * math.pi * now.timestamp() / WOBBLE_S)
        common = encode_model(
            COMMON,
            {
                "Mn": "Sterna",
                "Md": PRODUCTS[device],
                "Vr": "1",
                "SN": f"{self.name}-{device}"[:32],
                "DA": UNITS[device],
            },
        )
        if device == "inverter":
            block = self._inverter(power_w, energy, hz, throttled)
        else:
            block = self._meter(METER if device == "grid" else METER_FLOAT, power_w, energy, hz)
        return [*SUNS, *common, *block, END_OF_MAP, 0]

    def _inverter(self, power_w: float | None, energy: _Energy, hz: float, throttled: bool) -> list[int]:
        made_w = None if power_w is None else max(0.0, -power_w)
        running = STATE_MPPT if made_w else STATE_SLEEPING
        values: dict[str, Value] = {
            **self._figures(made_w, hz),
            "WH": energy.export_wh % 2**32,
            "St": STATE_THROTTLED if throttled else running,
        }
        return encode_model(INVERTER, values, model_id=MODEL_IDS["inverter"])

    def _meter(self, model: Model, power_w: float | None, energy: _Energy, hz: float) -> list[int]:
        third_w = None if power_w is None else self._clamped(power_w / 3)
        values: dict[str, Value] = {
            **self._figures(power_w, hz),
            "PhV": PHASE_V,
            "WphA": third_w,
            "WphB": third_w,
            "WphC": third_w,
            "TotWhImp": energy.import_wh % 2**32,
            "TotWhExp": energy.export_wh % 2**32,
        }
        return encode_model(model, values, model_id=MODEL_IDS["grid" if model is METER else "load"])

    def _figures(self, power_w: float | None, hz: float) -> dict[str, Value]:
        phase_v: dict[str, Value] = dict.fromkeys(("PhVphA", "PhVphB", "PhVphC"), PHASE_V)
        return {
            **phase_v,
            "W": None if power_w is None else self._clamped(power_w),
            "A": None if power_w is None else abs(power_w) / PHASE_V,
            "W_SF": self._w_sf,
            "Hz": None if power_w is None else hz,
            "Hz_SF": -2,
        }

    @property
    def _w_sf(self) -> int:
        peak_w = self.plant.nameplate_w + self.plant.base_load_w + PEAK_MARGIN_W
        return max(0, math.ceil(math.log10(peak_w / INT16_MAX)))

    def _clamped(self, power_w: float) -> float:
        limit_w = INT16_MAX * 10.0**self._w_sf
        return max(-limit_w, min(limit_w, power_w))

    def _outgoing(self, unit: int, frame: bytes) -> bytes:
        fault = next(
            (fault for name, fault in self.faults.faults.devices.items() if UNITS[name] == unit), None
        )
        if fault is Fault.DEAD:
            return b""
        if fault is Fault.GARBAGE:
            self._frames += 1
            # In turn: no frame at all, and a well-formed one with wrong registers.
            return frame[::-1] if self._frames % 2 else frame[:9] + bytes(byte ^ 0xA5 for byte in frame[9:])
        return frame


@dataclass(frozen=True, slots=True)
class _Reader:
    """Answers for one device of a site."""

    site: SimulatedSite
    device: str

    async def read(self, address: int, count: int) -> Sequence[int]:
        """Read from the image of the moment."""
        faults = self.site.faults.faults
        if faults.devices.get(self.device) is Fault.SLOW:
            await asyncio.sleep(faults.slow_s)
        return self.site.images[self.device][address - BASE : address - BASE + count]


async def run_site(site: SimulatedSite, clock: Clock, tick_s: float, heart: Heart) -> None:
    """Tick for the daemon's life."""
    last_s = clock.boottime_s()
    while True:
        await asyncio.sleep(tick_s)
        now_s = clock.boottime_s()
        site.tick(clock.now(), now_s - last_s)
        last_s = now_s
        heart.beat()
