"""Jetson figures through jtop's service. The one module that imports jtop (AGPL-3.0, an extra); read only.

`gpu_jetson` reads the same sensors without a service; this is for nodes whose operators run jtop anyway.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agent.devices.gpu_ports import GpuCapabilities
from agent.model.gpu import Scope
from agent.model.readings import GpuReading
from sterna.clock import Clock
from sterna.errors import ConfigError, PermanentError, TransientError

_SOCKET = Path("/run/jtop.sock")
_OFFLINE_DEGC = -256
_MW_PER_W = 1000
_HZ_PER_KHZ = 1000
# ok() waits for the next publication: shorter than our own second, so that a reading seldom waits.
_INTERVAL_S = 0.5


class JtopGpu:
    """The board as jtop sees it: one device whose power is the board's total.

    Parameters
    ----------
    clock : Clock
        Stamps the readings.
    session : object or None
        Stands in for a ``jtop.jtop()``; None: a real one.

    Raises
    ------
    ConfigError
        When jetson-stats is not installed.
    TransientError
        When jtop's service does not answer.
    """

    def __init__(self, *, clock: Clock, session: Any = None) -> None:
        self._clock = clock
        self._session = _start() if session is None else session

    def capabilities(self) -> GpuCapabilities:
        """Read only: jtop's setters give no answer, so nothing may rest on them."""
        power = self._session.power.get("tot", {})
        return GpuCapabilities(
            names=("gpu0",),
            can_read_power=self._power_w() is not None,
            can_cap=False,
            scope=Scope.PARTS,
            source=f"jtop: {power.get('name', 'total')}",
        )

    def read(self) -> list[GpuReading]:
        """Return what the service last published.

        Raises
        ------
        TransientError
            When the service has ended, or has published nothing for a few of its intervals.
        """
        try:
            alive = self._session.ok()
        except Exception as error:  # it raises whatever its thread had, of any type
            raise TransientError(f"jtop: {error}") from error
        if not alive:
            raise TransientError("jtop: the service went away")
        return [
            GpuReading(
                name="gpu0",
                measured_at=self._clock.now(),
                power_w=self._power_w(),
                utilization_frac=self._load_frac(),
                temperature_degc=self._temperature_degc(),
                clock_hz=self._clock_hz(),
            )
        ]

    def set_power_cap_w(self, cap_w: float | None) -> None:
        """Refuse."""
        raise PermanentError("jtop: read only, it cannot cap power")

    def set_jobs(self, powers_w: Mapping[str, float]) -> None:
        """Measured, not modelled: nothing to do."""

    def close(self) -> None:
        """Leave the service."""
        self._session.close()

    def _power_w(self) -> float | None:
        power_mw = self._session.power.get("tot", {}).get("power")
        return None if power_mw is None else float(power_mw) / _MW_PER_W

    def _load_frac(self) -> float | None:
        for gpu in self._session.gpu.values():
            load = gpu.get("status", {}).get("load")
            if load is not None:
                return float(load) / 100
        return None

    def _clock_hz(self) -> float | None:
        for gpu in self._session.gpu.values():
            clock_khz = gpu.get("freq", {}).get("cur")
            if clock_khz is not None:
                return float(clock_khz) * _HZ_PER_KHZ
        return None

    def _temperature_degc(self) -> float | None:
        for name, zone in self._session.temperature.items():
            degc = zone.get("temp")
            if name.lower().startswith("gpu") and degc is not None and degc > _OFFLINE_DEGC:
                return float(degc)
        return None


def _start() -> Any:
    if find_spec("jtop") is None:
        raise ConfigError("gpu: kind jtop needs the extra: pip install sterna[jetson]")
    # Making a client costs memory, threads and commands: not before there is a service.
    if not _SOCKET.exists():
        raise TransientError(f"jtop: its service does not run: no {_SOCKET}")
    from jtop import jtop

    session = jtop(interval=_INTERVAL_S)
    try:
        session.start()
    except Exception as error:  # its own, the sockets', and an empty queue where the service hangs
        raise TransientError(f"jtop: {error}") from error
    return session
