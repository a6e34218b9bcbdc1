"""A Jetson module read from sysfs: INA3221 rails, thermal zones, GPU load and clocks. No library, no root.

Boards are data: a new one is a line in `TOTAL_RAILS` or `GPU_PATTERNS`. There is no power cap on these
boards, only clock caps; `clock_frac` says how watts become clocks. Reading needs no privileges, writing
``max_freq`` does: a file that is not writable makes `can_cap` False.
"""

import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

from agent.devices.gpu_ports import GpuCapabilities
from agent.model.readings import GpuReading
from sterna.clock import Clock
from sterna.errors import ConfigError, PermanentError, TransientError

# Rails whose sum is the module's input, tried in order. Where none matches, all rails are summed.
TOTAL_RAILS: tuple[tuple[str, ...], ...] = (
    ("VDD_IN",),  # Orin NX and Nano, Xavier NX
    ("POM_5V_IN",),  # Nano
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin; VDDQ_VDD2_1V8AO hangs below VIN_SYS_5V0
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),  # Thor
)
# devfreq names of the GPU, tried in order.
GPU_PATTERNS = ("gpu-gpc-*", "*.gpu", "*.ga10b", "*.gv11b", "*.gp10b", "*.gm20b")
_UNUSED_LABELS = frozenset({"", "NC"})
_INA3221_CHANNELS = (1, 2, 3)  # in7 is the sum of shunt voltages, no rail
_MILLI = 1000
_LOAD_FULL_SCALE = 1000  # the driver states load per mille


class JetsonGpu:
    """The one GPU of a Jetson; its power is the whole module's, for jobs use CPU and memory as well.

    Parameters
    ----------
    clock : Clock
        Stamps the readings.
    root : pathlib.Path
        Where ``sys`` is found: ``/``, or a captured tree.
    idle_w, max_w : float
        The module's draw in watts with no job and at full clocks; they turn a cap into a clock.
    calibration : float
        Watts at the site's meter per watt at the rails, > 0 (1.3 to 2.3 were seen on boards).

    Raises
    ------
    ConfigError
        When there is neither a rail nor a GPU below `root`, or `idle_w` is not below `max_w`.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        root: Path = Path("/"),
        idle_w: float = 5.0,
        max_w: float = 60.0,
        calibration: float = 1.0,
    ) -> None:
        if not 0 <= idle_w < max_w:
            raise ConfigError(f"gpu: idle_w must be below max_w, got {idle_w:g} and {max_w:g}")
        self._clock = clock
        self._idle_w = idle_w
        self._max_w = max_w
        self._calibration = calibration
        self._rails = _total_rails(dict(_rails(root / "sys/bus/i2c/drivers/ina3221")))
        self._zone = _gpu_zone(root / "sys/class/thermal")
        self._devfreq = _gpu_devfreq(root / "sys/class/devfreq")
        if not self._rails and self._devfreq is None:
            raise ConfigError("gpu: kind jetson finds neither power rails nor a GPU on this machine")
        self._clocks_hz = _clocks_hz(self._devfreq)

    @property
    def names(self) -> tuple[str, ...]:
        """The one device."""
        return ("gpu0",)

    def capabilities(self) -> GpuCapabilities:
        """Probe what can be read and whether the clock may be written."""
        can_cap = (
            self._devfreq is not None and bool(self._clocks_hz) and _writable(self._devfreq / "max_freq")
        )
        return GpuCapabilities(
            names=self.names,
            can_read_power=self._power_w() is not None,
            can_cap=can_cap,
            cap_min_w=self._at_clock_w(self._clocks_hz[0]) if can_cap else None,
            cap_max_w=self._max_w if can_cap else None,
        )

    def read(self) -> list[GpuReading]:
        """Read the sensors; each may vanish by itself, and is None then."""
        load = None if self._devfreq is None else _integer(self._devfreq / "device/load")
        temperature = None if self._zone is None else _integer(self._zone / "temp")
        return [
            GpuReading(
                name="gpu0",
                measured_at=self._clock.now(),
                power_w=self._power_w(),
                utilization_frac=None if load is None else min(load / _LOAD_FULL_SCALE, 1.0),
                temperature_degc=None if temperature is None else temperature / _MILLI,
                power_cap_w=self._cap_w(),
            )
        ]

    def set_power_cap_w(self, cap_w: float | None) -> None:
        """Write the highest clock that keeps the module below the cap; None: full clocks."""
        if not self.capabilities().can_cap or self._devfreq is None:
            raise PermanentError("gpu0: max_freq is not writable: it cannot be capped")
        target_hz = self._clocks_hz[-1]
        if cap_w is not None:
            ceiling_hz = clock_frac(cap_w, self._idle_w, self._max_w) * target_hz
            target_hz = max([hz for hz in self._clocks_hz if hz <= ceiling_hz], default=self._clocks_hz[0])
        try:
            (self._devfreq / "max_freq").write_text(f"{target_hz}\n")
        except OSError as error:
            raise TransientError(f"gpu0: max_freq not written: {error}") from error

    def set_jobs(self, powers_w: Mapping[str, float]) -> None:
        """Measured, not modelled: nothing to do."""

    def close(self) -> None:
        """Nothing is held open."""

    def _power_w(self) -> float | None:
        """Return the module's input in watts; None when one of its rails cannot be read."""
        total_w = 0.0
        for voltage, current in self._rails:
            voltage_mv, current_ma = _integer(voltage), _integer(current)
            if voltage_mv is None or current_ma is None:
                return None
            total_w += voltage_mv * current_ma / _MILLI**2
        return total_w * self._calibration if self._rails else None

    def _cap_w(self) -> float | None:
        """Return the cap in watts that the clock in force stands for; None at full clocks."""
        clock_hz = None if self._devfreq is None else _integer(self._devfreq / "max_freq")
        if clock_hz is None or not self._clocks_hz or clock_hz >= self._clocks_hz[-1]:
            return None
        return self._at_clock_w(clock_hz)

    def _at_clock_w(self, clock_hz: int) -> float:
        return self._idle_w + (self._max_w - self._idle_w) * clock_hz / self._clocks_hz[-1]


def clock_frac(cap_w: float, idle_w: float, max_w: float) -> float:
    """Return the fraction of the full clock that keeps a module below a cap.

    Draw above idle is taken to be proportional to the clock. In truth it rises faster (with voltage squared),
    so the module stays below the cap, by up to a third of its range: an error on the obedient side.
    """
    return min(max((cap_w - idle_w) / (max_w - idle_w), 0.0), 1.0)


def _rails(driver: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Yield each labelled rail with its voltage (mV) and current (mA) files."""
    for hwmon in sorted(driver.glob("*/hwmon/hwmon*")):
        for channel in _INA3221_CHANNELS:
            label = _text(hwmon / f"in{channel}_label")
            if label is not None and label not in _UNUSED_LABELS:
                yield label, (hwmon / f"in{channel}_input", hwmon / f"curr{channel}_input")


def _total_rails(rails: Mapping[str, tuple[Path, Path]]) -> tuple[tuple[Path, Path], ...]:
    for total in TOTAL_RAILS:
        if all(label in rails for label in total):
            return tuple(rails[label] for label in total)
    return tuple(rails.values())


def _gpu_zone(thermal: Path) -> Path | None:
    for zone in sorted(thermal.glob("thermal_zone*")):
        if (_text(zone / "type") or "").lower().startswith("gpu"):
            return zone
    return None


def _gpu_devfreq(devfreq: Path) -> Path | None:
    present = sorted(devfreq.iterdir()) if devfreq.is_dir() else []
    for pattern in GPU_PATTERNS:
        for path in present:
            if fnmatch(path.name, pattern):
                return path
    return None


def _clocks_hz(devfreq: Path | None) -> list[int]:
    """Return the clocks that the GPU offers, ascending."""
    text = None if devfreq is None else _text(devfreq / "available_frequencies")
    return sorted(int(word) for word in (text or "").split() if word.isdigit() and int(word) > 0)


def _writable(path: Path) -> bool:
    try:
        # The mode as well: root is told "yes" for a file without a write bit, and sysfs refuses it.
        return bool(path.stat().st_mode & 0o222) and os.access(path, os.W_OK)
    except OSError:
        return False


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _integer(path: Path) -> int | None:
    text = _text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
