"""Opens a node's GPUs by kind; imports no hardware library whose kind is not asked for."""

from functools import partial
from pathlib import Path

from agent.devices.gpu_ports import GpuProvider
from sterna.clock import Clock
from sterna.errors import ConfigError

KINDS = ("auto", "fake", "jetson", "nvml", "jtop", "tegrastats")
_AUTO_KINDS = ("jetson", "nvml", "jtop", "tegrastats")


def open_provider(
    kind: str,
    *,
    clock: Clock,
    idle_w: float = 5.0,
    max_w: float = 60.0,
    lag_s: float = 0.0,
    compute_power_path: Path | None = None,
    rail_frac: float = 1.0,
    root: Path = Path("/"),
    power_socket: Path | None = None,
) -> GpuProvider:
    """Open the GPUs of this node.

    Parameters
    ----------
    kind : str
        One of `KINDS`; ``auto`` tries those of real hardware.
    clock : Clock
        Stamps the readings.
    idle_w, max_w : float
        The node's draw in watts with no job and at full clocks; ``fake`` and ``jetson``.
    lag_s : float
        Time constant of the modelled draw in seconds, 0 for none; ``fake``.
    compute_power_path : pathlib.Path or None
        File that tells the plant simulator the modelled draw; ``fake``.
    rail_frac : float
        Part of the modelled draw that the readings state, > 0; ``fake``.
    root : pathlib.Path
        Where ``sys`` is found; ``jetson``.
    power_socket : pathlib.Path or None
        Of ``sterna-power``, which then caps; None: this process where it may, else the helper at its usual
        place; ``jetson`` and ``nvml``.

    Raises
    ------
    ConfigError
        For an unknown kind, or one whose library is not installed.
    TransientError
        When the driver or service does not answer now.
    """
    if kind == "fake":
        from agent.devices.gpu_fake import FakeGpu

        return FakeGpu(
            clock=clock,
            idle_w=idle_w,
            max_w=max_w,
            lag_s=lag_s,
            compute_power_path=compute_power_path,
            rail_frac=rail_frac,
        )
    if kind == "jetson":
        from agent.devices.gpu_jetson import JetsonGpu

        return JetsonGpu(clock=clock, root=root, idle_w=idle_w, max_w=max_w, power_socket=power_socket)
    if kind == "nvml":
        from agent.devices.gpu_nvml import NvmlGpu
        from agent.devices.gpu_nvml_helper import LimitHelper
        from agent.devices.power_client import DEFAULT_SOCKET, PowerClient

        return NvmlGpu(clock=clock, helper=LimitHelper(PowerClient(power_socket or DEFAULT_SOCKET)))
    if kind == "jtop":
        from agent.devices.gpu_jtop import JtopGpu

        return JtopGpu(clock=clock)
    if kind == "tegrastats":
        from agent.devices.gpu_tegrastats import TegrastatsGpu

        return TegrastatsGpu(clock=clock)
    if kind == "auto":
        from agent.devices.gpu_auto import open_best

        open_it = partial(
            open_provider, clock=clock, idle_w=idle_w, max_w=max_w, root=root, power_socket=power_socket
        )
        return open_best({each: partial(open_it, each) for each in _AUTO_KINDS})
    raise ConfigError(f"gpu: kind: expected one of {', '.join(KINDS)}, got {kind}")
