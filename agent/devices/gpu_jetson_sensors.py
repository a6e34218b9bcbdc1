"""A Jetson's GPU in sysfs: where its clocks, load and temperature are. Finds and reads, never writes."""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from agent.devices.gpu_sysfs import read_int, read_text

# devfreq names of the GPU, tried in order: Thor; Orin with JetPack 6 and 5; Xavier, TX2, Nano.
GPU_PATTERNS = ("gpu-gpc-*", "*.gpu", "*.ga10b", "*.gv11b", "*.gp10b", "*.gm20b", "*.gpu.0")
_MILLI = 1000
_LOAD_FULL_SCALE = 1000  # the driver states load per mille


@dataclass(frozen=True, slots=True, kw_only=True)
class JetsonGpuFiles:
    """Where the figures of one GPU are; None: the machine has no such file.

    Parameters
    ----------
    devfreq : pathlib.Path or None
        Folder with ``cur_freq``, ``max_freq`` and ``available_frequencies`` in hertz.
    zone : pathlib.Path or None
        Thermal zone of the GPU.
    """

    devfreq: Path | None
    zone: Path | None

    def clocks_hz(self) -> list[int]:
        """Return the clocks that the GPU offers in hertz, ascending; none where it does not say."""
        text = None if self.devfreq is None else read_text(self.devfreq / "available_frequencies")
        return sorted(int(word) for word in (text or "").split() if word.isdigit() and int(word) > 0)

    def clock_hz(self) -> float | None:
        """Return the clock now in hertz."""
        clock_hz = None if self.devfreq is None else read_int(self.devfreq / "cur_freq")
        return None if clock_hz is None else float(clock_hz)

    def load_frac(self) -> float | None:
        """Return how busy the GPU is, 0 to 1."""
        load = None if self.devfreq is None else read_int(self.devfreq / "device/load")
        return None if load is None else min(load / _LOAD_FULL_SCALE, 1.0)

    def temperature_degc(self) -> float | None:
        """Return the GPU's temperature in degrees Celsius."""
        milli_degc = None if self.zone is None else read_int(self.zone / "temp")
        return None if milli_degc is None else milli_degc / _MILLI


def find_gpu_files(root: Path) -> JetsonGpuFiles:
    """Find the GPU's files below `root` (``/``, or a captured tree)."""
    return JetsonGpuFiles(
        devfreq=_devfreq(root / "sys/class/devfreq"), zone=_zone(root / "sys/class/thermal")
    )


def board_name(root: Path) -> str | None:
    """Return the board's name as its device tree states it; None: it does not."""
    return read_text(root / "proc/device-tree/model") or read_text(
        root / "sys/firmware/devicetree/base/model"
    )


def _zone(thermal: Path) -> Path | None:
    for zone in sorted(thermal.glob("thermal_zone*")):
        if (read_text(zone / "type") or "").lower().startswith("gpu"):
            return zone
    return None


def _devfreq(devfreq: Path) -> Path | None:
    present = sorted(devfreq.iterdir()) if devfreq.is_dir() else []
    for pattern in GPU_PATTERNS:
        for path in present:
            if fnmatch(path.name, pattern):
                return path
    return None
