"""A site whose plant and battery take set-points as SunSpec says, reversion timer included."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.modbus_server import RegisterDevice, RegisterServer
from agent.model.sunspec import (
    COMMON,
    DER_CONTROLS,
    END_OF_MAP,
    INVERTER,
    METER,
    SUNS,
    Model,
    Value,
    decode,
    encode,
)
from sterna.clock import SystemClock

HOST, BASE = "127.0.0.1", 40000
PLANT, GRID, BATTERY = 1, 2, 3
RATED_W = 20_000.0
CONTROLS: Mapping[str, Value] = {
    "WMaxLimPctEna": 0, "WMaxLimPct": 100.0, "WMaxLimPct_SF": -1, "WMaxLimPctRvrtTms": 0,
    "WMaxLimPctEnaRvrt": 0,
    "WSetEna": 0, "WSetMod": 0, "WSet": 0.0, "WSet_SF": 0, "WSetRvrtTms": 0, "WSetEnaRvrt": 0,
}  # fmt: skip


@dataclass
class Controls:
    """Model 704 of one device: what was written, and how long ago."""

    registers: list[int] = field(default_factory=lambda: encode(DER_CONTROLS, CONTROLS))
    writes: int = 0
    written_s: float = 0.0

    def take(self, offset: int, values: Sequence[int]) -> None:
        self.registers[offset : offset + len(values)] = values
        self.writes += 1
        self.written_s = SystemClock().boottime_s()

    def value(self, name: str, switch: str, timer: str) -> float | None:
        """What is in force; None: nothing, or the timer has run out since the last write."""
        values = decode(DER_CONTROLS, self.registers)
        wish, seconds = values[name], values[timer]
        assert isinstance(wish, float) and isinstance(seconds, int)
        if not values[switch] or (seconds and SystemClock().boottime_s() - self.written_s > seconds):
            return None
        return wish


@dataclass
class ObedientSite:
    """Sun and load in watts; everything else follows, at the moment of each read."""

    sun_w: float = 15_000.0
    load_w: float = 2_000.0
    plant: Controls = field(default_factory=Controls)
    battery: Controls = field(default_factory=Controls)
    grid_dead: bool = False
    functions: set[tuple[int, int]] = field(default_factory=set)
    """Unit and function of every request seen."""

    @property
    def plant_w(self) -> float:
        percent = self.plant.value("WMaxLimPct", "WMaxLimPctEna", "WMaxLimPctRvrtTms")
        return self.sun_w if percent is None else min(self.sun_w, RATED_W * percent / 100)

    @property
    def battery_w(self) -> float:
        """Charging is positive."""
        set_w = self.battery.value("WSet", "WSetEna", "WSetRvrtTms")
        return 0.0 if set_w is None else -set_w

    @property
    def grid_w(self) -> float:
        return self.load_w + self.battery_w - self.plant_w

    def server(self) -> RegisterServer:
        units = (PLANT, GRID, BATTERY)
        return RegisterServer(HOST, 0, [self._device(unit) for unit in units], outgoing=self._outgoing)

    def _outgoing(self, unit: int, frame: bytes) -> bytes:
        self.functions.add((unit, frame[7]))
        return b"" if self.grid_dead and unit == GRID else frame

    def _image(self, unit: int) -> list[int]:
        blocks = {
            PLANT: [_model(INVERTER, self.plant_w), self.plant.registers],
            GRID: [_model(METER, self.grid_w)],
            BATTERY: [_model(METER, self.battery_w), self.battery.registers],
        }[unit]
        common = encode(COMMON, {"Mn": "Maker"})
        return [*SUNS, *common, *(register for block in blocks for register in block), END_OF_MAP, 0]

    def _device(self, unit: int) -> RegisterDevice:
        image = self._image(unit)

        async def read(address: int, count: int) -> Sequence[int]:
            return self._image(unit)[address - BASE : address - BASE + count]

        async def write(address: int, values: Sequence[int]) -> None:
            controls = self.plant if unit == PLANT else self.battery
            controls.take(address - BASE - (len(image) - 2 - len(controls.registers)), values)

        return RegisterDevice(
            unit=unit, spans={BASE: len(image)}, read=read, write=None if unit == GRID else write
        )


def _model(model: Model, power_w: float) -> list[int]:
    return encode(model, {"W": round(power_w), "W_SF": 0, "Hz": 50.0, "Hz_SF": -2}, model_id=model.ids[-1])
