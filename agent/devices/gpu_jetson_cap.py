"""The two hands that can cap a Jetson's GPU clock: its sysfs file, or ``sterna-power`` where root is needed.

Both set hertz and say what is in force then; neither knows watts. `ceiling_hz` is what an uncapped GPU may
run at: the highest clock, or less where an nvpmodel mode says so.
"""

import logging
from pathlib import Path
from typing import Protocol

from agent.devices.gpu_sysfs import is_writable, read_int
from agent.devices.power_client import PowerClient
from sterna.clock import Clock
from sterna.errors import SternaError, TransientError

log = logging.getLogger(__name__)

PROBE_PERIOD_S = 20.0
"""How often the helper is asked whether it still can; below its idle time, so that it stays awake."""


class ClockHand(Protocol):
    """Sets the GPU's highest clock. Calls block; they may overlap."""

    @property
    def ready(self) -> bool:
        """Whether the last probe or write went through."""
        ...

    @property
    def ceiling_hz(self) -> int | None:
        """Clock of the uncapped GPU in hertz; None: not known."""
        ...

    def probe(self) -> None:
        """Find out again whether the clock can be set, when it is time; nothing is written."""
        ...

    def set_max_hz(self, clock_hz: int | None) -> int:
        """Set the highest clock in hertz, None: uncapped; return what is in force then.

        Raises
        ------
        TransientError
            It may go through later.
        PermanentError
            It will not.
        """
        ...

    def close(self) -> None:
        """Let go; the clock stays."""
        ...


class FileHand:
    """Writes ``max_freq`` itself; for an agent that is allowed to.

    Parameters
    ----------
    devfreq : pathlib.Path
        The GPU's devfreq folder.
    highest_hz : int
        Its highest clock.
    """

    def __init__(self, devfreq: Path, highest_hz: int) -> None:
        self._file = devfreq / "max_freq"
        self._highest_hz = highest_hz

    @property
    def ready(self) -> bool:
        """Whether the file can be written."""
        return is_writable(self._file)

    @property
    def ceiling_hz(self) -> int | None:
        """The highest clock."""
        return self._highest_hz

    def probe(self) -> None:
        """Nothing to do: `ready` looks at the file each time."""

    def set_max_hz(self, clock_hz: int | None) -> int:
        """Write the clock and read it back."""
        wanted_hz = self._highest_hz if clock_hz is None else clock_hz
        try:
            self._file.write_text(f"{wanted_hz}\n")
        except OSError as error:
            raise TransientError(f"gpu0: max_freq not written: {error}") from error
        set_hz = read_int(self._file)
        if set_hz is None or set_hz > wanted_hz:
            raise TransientError(f"gpu0: max_freq: {wanted_hz} Hz written, {set_hz} read back")
        return set_hz

    def close(self) -> None:
        """Nothing is held open."""


class HelperHand:
    """Has ``sterna-power`` write it.

    Parameters
    ----------
    client : PowerClient
        To the helper; closed with this.
    device : str
        devfreq name of the GPU.
    clock : Clock
        Paces the probes.
    """

    def __init__(self, client: PowerClient, device: str, clock: Clock) -> None:
        self._client = client
        self._device = device
        self._clock = clock
        self._ready = False
        self._ceiling_hz: int | None = None
        self._probed_s: float | None = None
        self._fault = ""

    @property
    def ready(self) -> bool:
        """Whether the helper could last time."""
        return self._ready

    @property
    def ceiling_hz(self) -> int | None:
        """What the clock was before anybody capped it, by the helper's word."""
        return self._ceiling_hz

    def probe(self) -> None:
        """Ask the helper what it sees and whether it may write; a fault is logged once."""
        now_s = self._clock.boottime_s()
        if self._probed_s is not None and now_s - self._probed_s < PROBE_PERIOD_S / (1 if self._ready else 4):
            return
        self._probed_s = now_s
        try:
            fault = self._look()
        except SternaError as error:
            fault = str(error)
        self._ready = not fault
        if fault != self._fault:
            if fault:
                log.warning("the GPU cannot be capped", extra={"fault": fault})
            else:
                log.info("the GPU can be capped", extra={"device": self._device})
            self._fault = fault

    def set_max_hz(self, clock_hz: int | None) -> int:
        """Have it set; a failure makes us unready until a probe goes through."""
        try:
            answer = self._client.ask("set_gpu_max_hz", device=self._device, hz=clock_hz)
        except SternaError:
            self._ready = False
            raise
        set_hz = answer.get("max_hz")
        if not isinstance(set_hz, int):
            self._ready = False
            raise TransientError("gpu0: sterna-power did not say which clock is set")
        return set_hz

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _look(self) -> str:
        """Return what is in the way; empty: nothing."""
        clocks = self._client.ask("clocks").get("gpus")
        for clock in clocks if isinstance(clocks, list) else ():
            if isinstance(clock, dict) and clock.get("device") == self._device:
                original_hz, now_hz = clock.get("original_max_hz"), clock.get("max_hz")
                ceiling_hz = original_hz if isinstance(original_hz, int) else now_hz
                self._ceiling_hz = ceiling_hz if isinstance(ceiling_hz, int) else None
                if clock.get("writable") is True:
                    return ""
                return f"gpu0: sterna-power may not write the clock of {self._device}"
        return f"gpu0: sterna-power knows no clock of {self._device}"
