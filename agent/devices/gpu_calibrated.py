"""GPUs as the site's meter sees them: what the devices state, times a factor that is learnt elsewhere."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from agent.core.known import total
from agent.devices.gpu_ports import GpuCapabilities, GpuProvider
from agent.model.readings import GpuReading
from sterna.errors import TransientError


class CalibratedGpu:
    """A provider whose watts are watts at the meter.

    Parameters
    ----------
    gpu : GpuProvider
        States watts at its own sensors.
    factor : callable
        Watts at the meter per watt there, now, > 0.
    """

    def __init__(self, gpu: GpuProvider, *, factor: Callable[[], float]) -> None:
        self._gpu = gpu
        self._factor = factor
        self.rail_w: float | None = None
        """What the devices stated together at the last reading, before the factor; None: unknown."""

    def capabilities(self) -> GpuCapabilities:
        """Tell what can be read and capped, a cap's range in watts at the meter."""
        found = self._gpu.capabilities()
        if found.cap_covers_node:
            return found
        factor = self._factor()
        return replace(
            found,
            cap_min_w=None if found.cap_min_w is None else found.cap_min_w * factor,
            cap_max_w=None if found.cap_max_w is None else found.cap_max_w * factor,
            cap_covers_node=True,
        )

    def read(self) -> list[GpuReading]:
        """Look at every device and calibrate its power."""
        try:
            readings = self._gpu.read()
        except TransientError:
            self.rail_w = None
            raise
        self.rail_w = total(reading.power_w for reading in readings)
        factor, cap_covers_node = self._factor(), self._gpu.capabilities().cap_covers_node
        return [_calibrated(reading, factor, cap_covers_node) for reading in readings]

    def set_power_cap_w(self, cap_w: float | None) -> None:
        """Cap the devices so that the meter sees at most so many watts; None: no cap."""
        if cap_w is not None and not self._gpu.capabilities().cap_covers_node:
            cap_w /= self._factor()
        self._gpu.set_power_cap_w(cap_w)

    def set_jobs(self, powers_w: Mapping[str, float]) -> None:
        """Pass on which jobs run."""
        self._gpu.set_jobs(powers_w)

    def close(self) -> None:
        """Let go of the devices."""
        self._gpu.close()


def _calibrated(reading: GpuReading, factor: float, cap_covers_node: bool) -> GpuReading:
    cap_w = reading.power_cap_w
    return replace(
        reading,
        power_w=None if reading.power_w is None else reading.power_w * factor,
        power_cap_w=cap_w if cap_w is None or cap_covers_node else cap_w * factor,
        calibration_factor=factor,
    )
