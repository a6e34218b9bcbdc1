"""A modelled GPU: it draws what its jobs would, within its cap, and tells the simulated plant so.

A legal kind in the shipped binary, for sites without hardware and for tests. It knows nothing of the jobs
but their watts.
"""

import math
import threading
from collections.abc import Mapping
from pathlib import Path

from agent.devices.gpu_ports import GpuCapabilities
from agent.model.gpu import Scope
from agent.model.readings import GpuReading
from sterna.clock import Clock
from sterna.errors import TransientError


class FakeGpu:
    """One device with ``power = idle + min(sum of the jobs, cap - idle)``, behind a first-order lag.

    Parameters
    ----------
    clock : Clock
        Stamps the readings and drives the lag.
    idle_w : float
        Draw in watts with no job, >= 0; no cap goes below it.
    max_w : float or None
        Highest cap that can be set, in watts; None: it cannot be told.
    lag_s : float
        Time constant in seconds with which the draw follows its target; 0: at once.
    compute_power_path : pathlib.Path or None
        File that holds the present draw as plain text watts, replaced atomically whenever it changes.
    rail_frac : float
        Part of the draw that the readings state, > 0: sensors that under-read, as a real module's do.
    name : str
        Name of the device.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        idle_w: float = 5.0,
        max_w: float | None = None,
        lag_s: float = 0.0,
        compute_power_path: Path | None = None,
        rail_frac: float = 1.0,
        name: str = "gpu0",
    ) -> None:
        self._clock = clock
        self._idle_w = idle_w
        self._max_w = max_w
        self._lag_s = lag_s
        self._path = compute_power_path
        self._rail_frac = rail_frac
        self._name = name
        self._lock = threading.Lock()
        self._jobs_w: dict[str, float] = {}
        self._cap_w: float | None = None
        self._power_w = idle_w
        self._settled_s = clock.boottime_s()
        self._written: str | None = None

    def capabilities(self) -> GpuCapabilities:
        """Power can be read and capped down to idle."""
        return GpuCapabilities(
            names=(self._name,),
            can_read_power=True,
            can_cap=True,
            cap_min_w=self._idle_w,
            cap_max_w=self._max_w,
            scope=Scope.MODEL,
            source="a modelled GPU",
        )

    def read(self) -> list[GpuReading]:
        """Return the modelled draw now, and bring the plant's file up to date."""
        with self._lock:
            self._settle()
            self._tell_plant()
            return [
                GpuReading(
                    name=self._name,
                    measured_at=self._clock.now(),
                    power_w=self._power_w * self._rail_frac,
                    utilization_frac=1.0 if self._jobs_w else 0.0,
                    power_cap_w=self._cap_w,
                )
            ]

    def set_power_cap_w(self, cap_w: float | None) -> None:
        """Cap the draw in watts, not below idle; None: no cap."""
        with self._lock:
            self._settle()
            self._cap_w = None if cap_w is None else max(cap_w, self._idle_w)
            self._settle()
            self._tell_plant()

    def set_jobs(self, powers_w: Mapping[str, float]) -> None:
        """Draw for these jobs from now on."""
        with self._lock:
            self._settle()
            self._jobs_w = dict(powers_w)
            self._settle()
            self._tell_plant()

    def close(self) -> None:
        """Leave the file as it is: the jobs outlive the agent and go on drawing."""

    def _target_w(self) -> float:
        full_w = self._idle_w + sum(self._jobs_w.values())
        return full_w if self._cap_w is None else min(full_w, self._cap_w)

    def _settle(self) -> None:
        """Let the draw approach its target for the time that has passed."""
        now_s = self._clock.boottime_s()
        elapsed_s = max(0.0, now_s - self._settled_s)
        self._settled_s = now_s
        target_w = self._target_w()
        left_frac = math.exp(-elapsed_s / self._lag_s) if self._lag_s > 0 else 0.0
        self._power_w = target_w + (self._power_w - target_w) * left_frac

    def _tell_plant(self) -> None:
        text = f"{self._power_w:.1f}\n"
        if self._path is None or text == self._written:
            return
        # The reader polls: it must find the old figure or the new one, never half of one. No fsync: the
        # figure is worth nothing after a crash.
        scratch = self._path.with_name(self._path.name + ".tmp")
        try:
            scratch.write_text(text)
            scratch.replace(self._path)
        except OSError as error:
            raise TransientError(f"{self._path}: cannot tell the modelled draw: {error}") from error
        self._written = text
