"""NVIDIA GPUs with NVML: discrete cards, Thor, Spark. The one module that imports pynvml.

Every query may be unsupported on some device (Orin answers init and name, and nothing else): what a device
does not say is None, and only an NVML that answers nothing at all is an error.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from agent.devices.gpu_ports import GpuCapabilities
from agent.model.readings import GpuReading
from sterna.clock import Clock
from sterna.errors import ConfigError, PermanentError, TransientError

T = TypeVar("T")

_MW_PER_W = 1000


class NvmlGpu:
    """All NVML devices of this node, named ``gpu0``, ``gpu1`` … in NVML's order.

    Parameters
    ----------
    clock : Clock
        Stamps the readings.
    nvml : module or None
        Stands in for pynvml; None: the real one.
    privileged : bool or None
        Whether power limits may be set, for NVML wants root; None: ask the process.

    Raises
    ------
    ConfigError
        When nvidia-ml-py is not installed.
    TransientError
        When the driver does not answer.
    """

    def __init__(self, *, clock: Clock, nvml: Any = None, privileged: bool | None = None) -> None:
        self._clock = clock
        self._nvml = _import_pynvml() if nvml is None else nvml
        self._privileged = os.geteuid() == 0 if privileged is None else privileged
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except self._nvml.NVMLError as error:
            raise TransientError(f"nvml: {error}") from error
        self._limits_w = [self._constraints_w(handle) for handle in self._handles]

    @property
    def names(self) -> tuple[str, ...]:
        """``gpu<index>`` of every device."""
        return tuple(f"gpu{index}" for index in range(len(self._handles)))

    def capabilities(self) -> GpuCapabilities:
        """Probe what the devices answer; capping wants limits on every device and root."""
        limits_w = [limit for limit in self._limits_w if limit is not None]
        can_cap = self._privileged and bool(self._handles) and len(limits_w) == len(self._handles)
        return GpuCapabilities(
            names=self.names,
            can_read_power=any(self._power_w(handle) is not None for handle in self._handles),
            can_cap=can_cap,
            cap_min_w=sum(low for low, _ in limits_w) if can_cap else None,
            cap_max_w=sum(high for _, high in limits_w) if can_cap else None,
        )

    def read(self) -> list[GpuReading]:
        """Look at every device."""
        return [self._reading(name, handle) for name, handle in zip(self.names, self._handles, strict=True)]

    def set_power_cap_w(self, cap_w: float | None) -> None:
        """Share a cap evenly among the devices, each within its own limits; None: the factory's default."""
        if not self.capabilities().can_cap:
            raise PermanentError("nvml: the power limit cannot be set on this node")
        for name, handle, limits_w in zip(self.names, self._handles, self._limits_w, strict=True):
            if limits_w is None:
                continue
            try:
                if cap_w is None:
                    limit_mw = self._nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle)
                else:
                    low_w, high_w = limits_w
                    limit_mw = round(min(max(cap_w / len(self._handles), low_w), high_w) * _MW_PER_W)
                self._nvml.nvmlDeviceSetPowerManagementLimit(handle, limit_mw)
            except self._nvml.NVMLError as error:
                raise TransientError(f"nvml: {name}: power limit not set: {error}") from error

    def set_jobs(self, powers_w: Mapping[str, float]) -> None:
        """Measured, not modelled: nothing to do."""

    def close(self) -> None:
        """Shut NVML down for this process."""
        self._ask(self._nvml.nvmlShutdown)

    def _reading(self, name: str, handle: Any) -> GpuReading:
        nvml = self._nvml
        rates = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        temperature = self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        return GpuReading(
            name=name,
            measured_at=self._clock.now(),
            power_w=self._power_w(handle),
            utilization_frac=None if rates is None else float(rates.gpu) / 100,
            temperature_degc=None if temperature is None else float(temperature),
            power_cap_w=self._cap_w(handle),
        )

    def _power_w(self, handle: Any) -> float | None:
        power_mw = self._ask(lambda: self._nvml.nvmlDeviceGetPowerUsage(handle))
        return None if power_mw is None else float(power_mw) / _MW_PER_W

    def _cap_w(self, handle: Any) -> float | None:
        """Return the limit in force; None where it is the factory's default: that is no cap."""
        limit_mw = self._ask(lambda: self._nvml.nvmlDeviceGetPowerManagementLimit(handle))
        default_mw = self._ask(lambda: self._nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
        return None if limit_mw is None or limit_mw == default_mw else float(limit_mw) / _MW_PER_W

    def _constraints_w(self, handle: Any) -> tuple[float, float] | None:
        limits = self._ask(lambda: self._nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle))
        return None if limits is None else (limits[0] / _MW_PER_W, limits[1] / _MW_PER_W)

    def _ask(self, query: Callable[[], T]) -> T | None:
        try:
            return query()
        except self._nvml.NVMLError:
            return None


def _import_pynvml() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise ConfigError("gpu: kind nvml needs the extra: pip install sterna[nvidia]") from error
    return pynvml
