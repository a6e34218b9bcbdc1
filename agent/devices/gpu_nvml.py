"""NVIDIA GPUs with NVML: discrete cards, DGX Spark, Thor. The one module that imports pynvml.

Every query may be unsupported on some device (Orin answers init and name, and nothing else; Spark no power
limit): what a device does not say is None. A GPU may fall off its bus and come back; it keeps its name, is
unknown in between, and gets its cap again when it returns.
"""

import ctypes
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

from agent.core.gpu_share import share_cap_w
from agent.devices.gpu_nvml_helper import LimitHelper
from agent.devices.gpu_ports import GpuCapabilities
from agent.model.gpu import Scope
from agent.model.readings import GpuReading
from sterna.clock import Clock
from sterna.errors import ConfigError, PermanentError, TransientError

log = logging.getLogger(__name__)

T = TypeVar("T")

RESCAN_S = 5.0
_LIBRARY = "libnvidia-ml.so.1"
_MW_PER_W = 1000
_HZ_PER_MHZ = 1_000_000
# After one of these the handle is worth nothing: look for the devices anew.
_LOST = (
    "GPU_IS_LOST",
    "GPU_NOT_FOUND",
    "UNINITIALIZED",
    "DRIVER_NOT_LOADED",
    "RESET_REQUIRED",
)


@dataclass(slots=True)
class _Device:
    """One GPU, found again by its UUID after it was lost."""

    name: str
    uuid: str
    handle: Any
    """None: it is to be looked for."""
    index: int = 0
    """NVML's at the last scan, and the helper's."""
    limits_w: tuple[float, float] | None = None
    can_cap: bool = False
    by_helper: bool = False
    spoke: bool = False
    """It stated something once."""
    lost: bool = False


class NvmlGpu:
    """All NVML devices of this node, named ``gpu0``, ``gpu1`` … in the order in which they were first seen.

    Parameters
    ----------
    clock : Clock
        Stamps the readings and paces the search for lost devices.
    nvml : module or None
        Stands in for pynvml; None: the real one.
    may_cap : bool
        Whether power limits may be touched. Whether they can be is tried out by setting the limit that is in
        force: no privilege is assumed.
    helper : LimitHelper or None
        Sets limits where NVML does not let us; None: there is none.

    Raises
    ------
    ConfigError
        When nvidia-ml-py is not installed.
    TransientError
        When the driver does not answer, or has no device.
    """

    def __init__(
        self, *, clock: Clock, nvml: Any = None, may_cap: bool = True, helper: LimitHelper | None = None
    ) -> None:
        self._clock = clock
        self._nvml = _import_pynvml() if nvml is None else nvml
        self._may_cap = may_cap
        self._helper = helper
        self._lost_codes = {getattr(self._nvml, f"NVML_ERROR_{name}", None) for name in _LOST} - {None}
        self._lock = threading.Lock()
        self._devices: list[_Device] = []
        self._cap_w: float | None = None
        self._scanned_s = clock.boottime_s()
        self._scan()
        if not self._devices:
            raise TransientError("nvml: the driver has no GPU")

    def capabilities(self) -> GpuCapabilities:
        """Probe what the devices answer; a cap needs every device that is there to take one."""
        with self._lock:
            present = [device for device in self._devices if device.handle is not None]
            for device in present:
                self._probe_cap(device)  # permissions and helpers may come late
            limits_w = [device.limits_w for device in present if device.limits_w is not None]
            can_cap = bool(present) and all(device.can_cap for device in present)
            models = sorted({self._model(device) for device in present})
            return GpuCapabilities(
                names=tuple(device.name for device in self._devices),
                can_read_power=any(self._power_w(device) is not None for device in present),
                can_cap=can_cap,
                cap_min_w=sum(low for low, _ in limits_w) if can_cap else None,
                cap_max_w=sum(high for _, high in limits_w) if can_cap else None,
                scope=Scope.DEVICE,
                cap_covers_node=False,
                source=f"NVML: {len(present)} of {len(self._devices)} GPUs, {', '.join(models) or 'no name'}",
            )

    def read(self) -> list[GpuReading]:
        """Look at every device; one that is lost is unknown, and is looked for every few seconds."""
        with self._lock:
            if any(device.handle is None for device in self._devices):
                self._look_again()
            return [self._reading(device) for device in self._devices]

    def set_power_cap_w(self, cap_w: float | None) -> None:
        """Share a cap among the devices that are there, each within its limits; None: the factory's default.

        Where one device refuses, the others have their share all the same.
        """
        with self._lock:
            present = [device for device in self._devices if device.handle is not None]
            if not present or not all(device.can_cap for device in present):
                raise PermanentError("nvml: the power limit cannot be set on this node")
            self._cap_w = cap_w
            self._share(present)

    def set_jobs(self, powers_w: Mapping[str, float]) -> None:
        """Measured, not modelled: nothing to do."""

    def close(self) -> None:
        """Shut NVML down for this process."""
        with self._lock:
            self._shutdown()
            if self._helper is not None:
                self._helper.close()

    def _look_again(self) -> None:
        now_s = self._clock.boottime_s()
        if now_s - self._scanned_s < RESCAN_S:
            return
        self._scanned_s = now_s
        self._shutdown()  # a driver that came back is only seen by a fresh init
        for device in self._devices:
            device.handle = None
        try:
            self._scan()
            if self._cap_w is not None:
                self._share([device for device in self._devices if device.handle and device.can_cap])
        except TransientError as error:
            log.debug("NVML does not answer", extra={"fault": str(error)})

    def _scan(self) -> None:
        """Find the devices: those that are known keep their names, new ones get the next."""
        nvml = self._nvml
        try:
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            raise TransientError(f"nvml: {error}") from error
        known = {device.uuid: device for device in self._devices}
        for index in range(count):
            handle = self._ask(lambda index=index: nvml.nvmlDeviceGetHandleByIndex(index))  # type: ignore[misc]
            if handle is None:
                continue
            uuid = self._ask(lambda handle=handle: nvml.nvmlDeviceGetUUID(handle))  # type: ignore[misc]
            uuid = f"index {index}" if uuid is None else str(uuid)
            if uuid not in known:
                self._devices.append(_Device(f"gpu{len(self._devices)}", uuid, None))
                known[uuid] = self._devices[-1]
            device = known[uuid]
            device.handle, device.index, device.can_cap = handle, index, False
            device.limits_w = self._constraints_w(device)
            self._probe_cap(device)

    def _share(self, devices: list[_Device]) -> None:
        """Put the cap in force on these devices."""
        limits_w = [device.limits_w or (0.0, 0.0) for device in devices]
        shares_w = share_cap_w(self._cap_w or 0.0, limits_w)
        refused = ""
        for device, share_w in zip(devices, shares_w, strict=True):
            try:
                self._limit(device, None if self._cap_w is None else share_w)
            except (self._nvml.NVMLError, TransientError, PermanentError) as error:
                self._note(device, error)
                refused = f"nvml: {device.name}: power limit not set: {error}"
        if refused:
            raise TransientError(refused)

    def _limit(self, device: _Device, limit_w: float | None) -> None:
        """Limit one device; None: as it was meant to be."""
        if device.by_helper and self._helper is not None:
            self._helper.set_limit_w(device.index, limit_w)
            return
        if limit_w is None:
            limit_mw = self._nvml.nvmlDeviceGetPowerManagementDefaultLimit(device.handle)
        else:
            limit_mw = round(limit_w * _MW_PER_W)
        self._nvml.nvmlDeviceSetPowerManagementLimit(device.handle, limit_mw)

    def _probe_cap(self, device: _Device) -> None:
        """Find out who can limit a device: ourselves, the helper, nobody. What was found once holds."""
        if device.can_cap or not self._may_cap or device.limits_w is None:
            return
        device.can_cap, device.by_helper = self._takes_limits(device), False
        if not device.can_cap and self._helper is not None:
            device.can_cap = device.by_helper = self._helper.takes(device.index)

    def _takes_limits(self, device: _Device) -> bool:
        """Try to set the limit that is in force: it changes nothing, and needs what a cap needs."""
        try:
            limit_mw = self._nvml.nvmlDeviceGetPowerManagementLimit(device.handle)
            self._nvml.nvmlDeviceSetPowerManagementLimit(device.handle, limit_mw)
        except self._nvml.NVMLError:
            return False
        return True

    def _reading(self, device: _Device) -> GpuReading:
        nvml = self._nvml
        rates = self._of(device, nvml.nvmlDeviceGetUtilizationRates)
        degc = self._of(
            device, lambda handle: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        )
        clock_mhz = self._of(device, lambda handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        power_w, limit_w = self._power_w(device), self._limit_w(device)
        self._listen(device, speaks=any(figure is not None for figure in (power_w, rates, degc, clock_mhz)))
        return GpuReading(
            name=device.name,
            measured_at=self._clock.now(),
            power_w=power_w,
            utilization_frac=None if rates is None else float(rates.gpu) / 100,
            temperature_degc=None if degc is None else float(degc),
            power_cap_w=limit_w,
            clock_hz=None if clock_mhz is None else float(clock_mhz) * _HZ_PER_MHZ,
        )

    def _listen(self, device: _Device, *, speaks: bool) -> None:
        """Note a device that came back, or one that has fallen silent without saying that it is lost."""
        if speaks:
            if device.lost:
                log.info("a GPU is back", extra={"gpu": device.name})
            device.spoke, device.lost = True, False
        elif device.spoke and device.handle is not None:
            self._lose(device, "it answers nothing any more")

    def _power_w(self, device: _Device) -> float | None:
        power_mw = self._of(device, self._nvml.nvmlDeviceGetPowerUsage)
        return None if power_mw is None else float(power_mw) / _MW_PER_W

    def _limit_w(self, device: _Device) -> float | None:
        """Return the limit in force; None where it is the factory's default: that is no cap."""
        limit_mw = self._of(device, self._nvml.nvmlDeviceGetPowerManagementLimit)
        default_mw = self._of(device, self._nvml.nvmlDeviceGetPowerManagementDefaultLimit)
        return None if limit_mw is None or limit_mw == default_mw else float(limit_mw) / _MW_PER_W

    def _constraints_w(self, device: _Device) -> tuple[float, float] | None:
        limits = self._of(device, self._nvml.nvmlDeviceGetPowerManagementLimitConstraints)
        return None if limits is None else (limits[0] / _MW_PER_W, limits[1] / _MW_PER_W)

    def _model(self, device: _Device) -> str:
        return str(self._of(device, self._nvml.nvmlDeviceGetName) or "unnamed")

    def _of(self, device: _Device, query: Callable[[Any], T]) -> T | None:
        """Ask a device; None where it is lost, does not support the question, or is lost by it."""
        if device.handle is None:
            return None
        try:
            return query(device.handle)
        except self._nvml.NVMLError as error:
            self._note(device, error)
            return None

    def _note(self, device: _Device, error: Exception) -> None:
        if getattr(error, "value", None) in self._lost_codes and device.handle is not None:
            self._lose(device, str(error))

    def _lose(self, device: _Device, fault: str) -> None:
        if not device.lost:
            log.warning("a GPU is lost", extra={"gpu": device.name, "fault": fault})
        device.handle, device.lost = None, True

    def _ask(self, query: Callable[[], T]) -> T | None:
        try:
            return query()
        except self._nvml.NVMLError:
            return None

    def _shutdown(self) -> None:
        self._ask(self._nvml.nvmlShutdown)


def _import_pynvml() -> Any:
    if find_spec("pynvml") is None:
        raise ConfigError("gpu: kind nvml needs the extra: pip install sterna[nvidia]")
    # pynvml takes some 14 MB: not before there is a driver that it could talk to.
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise TransientError(f"nvml: no driver: {error}") from error
    import pynvml

    return pynvml
