"""A Jetson through NVIDIA's tegrastats, run as a child process: the last resort, read only.

For boards whose sensors are not where `gpu_jetson` looks. The pipe is drained at each reading and the newest
whole line is what counts.
"""

import os
import select
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from agent.devices.gpu_ports import GpuCapabilities
from agent.devices.gpu_tegrastats_line import TegraLine, parse_line
from agent.model.readings import GpuReading
from sterna.clock import Clock
from sterna.errors import ConfigError, PermanentError, TransientError

INTERVAL_MS = 1000
FIRST_LINE_S = 3.0
SILENT_S = 5.0
_MAX_BYTES = 64 * 1024
_END_S = 2.0


class TegrastatsGpu:
    """One device, read from the lines of a child process.

    Parameters
    ----------
    clock : Clock
        Stamps the readings and tells how old a line is.
    command : sequence of str or None
        The tool and its arguments; None: ``tegrastats`` from the path, a line per second.

    Raises
    ------
    ConfigError
        When there is no such tool.
    TransientError
        When it says nothing readable within `FIRST_LINE_S`.
    """

    def __init__(self, *, clock: Clock, command: Sequence[str] | None = None) -> None:
        self._clock = clock
        self._command = tuple(command) if command is not None else _command()
        self._child: subprocess.Popen[bytes] | None = None
        self._pending = b""
        self._line: TegraLine | None = None
        self._line_s = clock.boottime_s()
        self._start()
        self._await_line(FIRST_LINE_S)
        if self._line is None:
            self.close()
            raise TransientError("tegrastats: it says nothing that can be read")

    def capabilities(self) -> GpuCapabilities:
        """Read only."""
        line = self._line
        return GpuCapabilities(
            names=("gpu0",),
            can_read_power=line is not None and line.power_w is not None,
            can_cap=False,
            scope=None if line is None else line.scope,
            source="tegrastats: " + ("no power rails" if line is None else " + ".join(line.labels)),
        )

    def read(self) -> list[GpuReading]:
        """Return the newest line's figures.

        Raises
        ------
        TransientError
            When the tool ended, or has said nothing for `SILENT_S`.
        """
        self._drain()
        line = self._line
        if line is None or self._clock.boottime_s() - self._line_s > SILENT_S:
            raise TransientError("tegrastats: it says nothing any more")
        return [
            GpuReading(
                name="gpu0",
                measured_at=self._clock.now(),
                power_w=line.power_w,
                utilization_frac=line.utilization_frac,
                temperature_degc=line.temperature_degc,
                clock_hz=line.clock_hz,
            )
        ]

    def set_power_cap_w(self, cap_w: float | None) -> None:
        """Refuse."""
        raise PermanentError("tegrastats: read only, it cannot cap power")

    def set_jobs(self, powers_w: Mapping[str, float]) -> None:
        """Measured, not modelled: nothing to do."""

    def close(self) -> None:
        """End the child process. Should we die first, its next line ends it: nobody reads its pipe."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()

    def _start(self) -> None:
        try:
            self._child = subprocess.Popen(  # fixed argv, no shell
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise TransientError(f"tegrastats: {error}") from error
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdout.fileno(), False)

    def _await_line(self, wait_s: float) -> None:
        """Wait for the first line; the tool's own interval passes before it."""
        deadline_s = self._clock.boottime_s() + wait_s
        while self._child is not None and self._child.stdout is not None and self._line is None:
            left_s = deadline_s - self._clock.boottime_s()
            ready, _, _ = select.select([self._child.stdout.fileno()], [], [], max(0.0, left_s))
            if not ready or not self._drain():
                return

    def _drain(self) -> bool:
        """Take what the pipe holds now; False: its end is reached, the tool has ended."""
        if self._child is None or self._child.stdout is None:
            return False
        ended = False
        while not ended:
            try:
                chunk = os.read(self._child.stdout.fileno(), _MAX_BYTES)
            except BlockingIOError:
                break
            ended = not chunk
            # A tool that never ends its line must not fill our memory.
            self._pending = (self._pending + chunk)[-_MAX_BYTES:]
        *whole, self._pending = self._pending.split(b"\n")
        for text in reversed(whole):
            line = parse_line(text.decode("utf-8", "replace"))
            if line is not None:
                self._line, self._line_s = line, self._clock.boottime_s()
                break
        return not ended


def _command() -> tuple[str, ...]:
    # /usr/bin is where it is; services may run without it in their path.
    tool = shutil.which("tegrastats") or shutil.which("tegrastats", path="/usr/bin:/usr/local/bin")
    if tool is None:
        raise ConfigError("gpu: kind tegrastats: the tool is not on this machine")
    return (tool, "--interval", str(INTERVAL_MS))
