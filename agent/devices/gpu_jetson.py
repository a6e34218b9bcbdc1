"""A Jetson module through sysfs: its power, GPU load, clock and temperature, and a cap by clock. No library.

There is no power cap on these boards, only clock caps; `clock_frac` says how watts become clocks. Reading
needs no privileges, writing ``max_freq`` does: `gpu_jetson_cap` has who writes it. Where the sensors are is
in `gpu_jetson_rails` and `gpu_jetson_sensors`.
"""

from collections.abc import Mapping
from pathlib import Path

from agent.devices.gpu_jetson_cap import ClockHand, FileHand, HelperHand
from agent.devices.gpu_jetson_rails import find_module_power
from agent.devices.gpu_jetson_sensors import board_name, find_gpu_files
from agent.devices.gpu_ports import GpuCapabilities
from agent.devices.gpu_sysfs import is_writable, read_int
from agent.devices.power_client import DEFAULT_SOCKET, PowerClient
from agent.model.readings import GpuReading
from sterna.clock import Clock
from sterna.errors import PermanentError, TransientError


class JetsonGpu:
    """The one GPU of a Jetson; its power is the whole module's, for jobs use CPU and memory as well.

    Parameters
    ----------
    clock : Clock
        Stamps the readings.
    root : pathlib.Path
        Where ``sys`` is found: ``/``, or a captured tree.
    idle_w, max_w : float
        The module's draw in watts with no job and, more, at full clocks; they turn a cap into a clock.
    power_socket : pathlib.Path or None
        Of ``sterna-power``, which then caps; None: this process where it may, else the helper at its usual
        place.

    Raises
    ------
    TransientError
        When there is neither a rail nor a GPU below `root`; drivers may come late.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        root: Path = Path("/"),
        idle_w: float = 5.0,
        max_w: float = 60.0,
        power_socket: Path | None = None,
    ) -> None:
        self._clock = clock
        self._idle_w = idle_w
        self._max_w = max_w
        self._power = find_module_power(root)
        self._files = find_gpu_files(root)
        self._board = board_name(root)
        self._devfreq = self._files.devfreq
        if self._power is None and self._devfreq is None:
            raise TransientError("gpu: kind jetson finds neither power rails nor a GPU on this machine")
        self._clocks_hz = self._files.clocks_hz()
        self._hand = self._find_hand(power_socket)
        if self._hand is not None:
            self._hand.probe()

    def capabilities(self) -> GpuCapabilities:
        """Probe what can be read; whether it can be capped was probed before, and lately."""
        can_cap = self._hand is not None and self._hand.ready
        return GpuCapabilities(
            names=("gpu0",),
            can_read_power=self._power_w() is not None,
            can_cap=can_cap,
            cap_min_w=self._at_clock_w(self._clocks_hz[0]) if can_cap else None,
            cap_max_w=self._max_w if can_cap else None,
            scope=None if self._power is None else self._power.scope,
            source=self._source(),
        )

    def read(self) -> list[GpuReading]:
        """Read the sensors; each may vanish by itself, and is None then."""
        if self._hand is not None:
            self._hand.probe()
        return [
            GpuReading(
                name="gpu0",
                measured_at=self._clock.now(),
                power_w=self._power_w(),
                utilization_frac=self._files.load_frac(),
                temperature_degc=self._files.temperature_degc(),
                power_cap_w=self._cap_w(),
                clock_hz=self._files.clock_hz(),
            )
        ]

    def set_power_cap_w(self, cap_w: float | None) -> None:
        """Set the highest clock that keeps the module below the cap; None: uncapped."""
        if self._hand is None:
            raise PermanentError("gpu0: no GPU clock: it cannot be capped")
        if not self._hand.ready:
            raise TransientError("gpu0: max_freq is not writable now: it cannot be capped")
        if cap_w is None:
            self._hand.set_max_hz(None)
            return
        ceiling_hz = clock_frac(cap_w, self._idle_w, self._max_w) * self._clocks_hz[-1]
        below_hz = [clock_hz for clock_hz in self._clocks_hz if clock_hz <= ceiling_hz]
        self._hand.set_max_hz(max(below_hz, default=self._clocks_hz[0]))

    def set_jobs(self, powers_w: Mapping[str, float]) -> None:
        """Measured, not modelled: nothing to do."""

    def close(self) -> None:
        """Hang up on the helper; a cap stays in force."""
        if self._hand is not None:
            self._hand.close()

    def _find_hand(self, power_socket: Path | None) -> ClockHand | None:
        """Choose who sets the clock; None: there is none to set."""
        if self._devfreq is None or not self._clocks_hz:
            return None
        if power_socket is None and is_writable(self._devfreq / "max_freq"):
            return FileHand(self._devfreq, self._clocks_hz[-1])
        return HelperHand(PowerClient(power_socket or DEFAULT_SOCKET), self._devfreq.name, self._clock)

    def _power_w(self) -> float | None:
        """Return the module's draw in watts; None when one of its rails cannot be read."""
        return None if self._power is None else self._power.power_w()

    def _source(self) -> str:
        rails = "no power rails" if self._power is None else " + ".join(self._power.labels)
        gpu = "no GPU clock" if self._devfreq is None else self._devfreq.name
        return f"{self._board or 'Jetson'}: {rails}; {gpu}"

    def _cap_w(self) -> float | None:
        """Return the cap in watts that the clock in force stands for; None when it is uncapped."""
        clock_hz = None if self._devfreq is None else read_int(self._devfreq / "max_freq")
        if clock_hz is None or not self._clocks_hz:
            return None
        ceiling_hz = None if self._hand is None else self._hand.ceiling_hz
        if clock_hz >= min(ceiling_hz or self._clocks_hz[-1], self._clocks_hz[-1]):
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
