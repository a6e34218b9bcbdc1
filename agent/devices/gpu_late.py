"""GPUs that may come late or go away: the agent starts without them, says so, and takes them when they come.

It also probes at a slow pace: `capabilities` answers from what was found last, so that it may be asked often.
"""

import logging
import threading
from collections.abc import Callable, Mapping

from agent.devices.gpu_ports import GpuCapabilities, GpuProvider
from agent.model.readings import GpuReading
from sterna.clock import Clock
from sterna.errors import SternaError, TransientError

log = logging.getLogger(__name__)

RETRY_S = 5.0
PROBE_S = 10.0
NOTHING = GpuCapabilities(names=(), can_read_power=False, can_cap=False)


class LateGpu:
    """A provider that is opened when it can be, and opened anew when it has gone.

    Parameters
    ----------
    open_provider : callable
        Opens it; TransientError: not now, try again. Other errors are raised to whoever makes this.
    clock : Clock
        Paces trying again and probing.
    """

    def __init__(self, open_provider: Callable[[], GpuProvider], *, clock: Clock) -> None:
        self._open_provider = open_provider
        self._clock = clock
        self._lock = threading.Lock()
        self._gpu: GpuProvider | None = None
        self._found = NOTHING
        self._fault = ""
        self._cap_w: float | None = None
        self._jobs_w: dict[str, float] = {}
        self._tried_s = self._probed_s = clock.boottime_s()
        self._try_to_open()

    def capabilities(self) -> GpuCapabilities:
        """Tell what was found at the last probe, at most `PROBE_S` before the last reading."""
        return self._found

    def read(self) -> list[GpuReading]:
        """Look at every device; one that is not there is looked for every `RETRY_S`.

        Raises
        ------
        TransientError
            While there is none, with the reason.
        """
        now_s = self._clock.boottime_s()
        with self._lock:
            if self._gpu is None and now_s - self._tried_s >= RETRY_S:
                self._tried_s = now_s
                self._open_again()
            gpu = self._gpu
        if gpu is None:
            raise TransientError(self._fault)
        # Not under the lock: a reading may take a while, and a cap must not wait for it.
        try:
            readings = gpu.read()
        except TransientError as error:
            with self._lock:
                self._drop(str(error))
            raise
        if now_s - self._probed_s >= PROBE_S:
            self._found, self._probed_s = gpu.capabilities(), now_s
        return readings

    def set_power_cap_w(self, cap_w: float | None) -> None:
        """Cap the devices; the cap is put in force again on those that were away."""
        self._cap_w, gpu = cap_w, self._gpu
        if gpu is None:
            raise TransientError(self._fault)
        gpu.set_power_cap_w(cap_w)

    def set_jobs(self, powers_w: Mapping[str, float]) -> None:
        """Pass on which jobs run."""
        self._jobs_w, gpu = dict(powers_w), self._gpu
        if gpu is not None:
            gpu.set_jobs(powers_w)

    def close(self) -> None:
        """Let go of the devices."""
        with self._lock:
            if self._gpu is not None:
                self._gpu.close()
            self._gpu = None

    def _open_again(self) -> None:
        """Open it as at the start; what would have ended the agent there is no reason to end it now."""
        try:
            self._try_to_open()
        except SternaError as error:
            if str(error) != self._fault:
                log.error("the GPU cannot be opened; looking for it", extra={"fault": str(error)})
            self._fault = str(error)

    def _try_to_open(self) -> None:
        try:
            self._gpu = self._open_provider()
        except TransientError as error:
            if str(error) != self._fault:
                log.warning("the GPU is not there; looking for it", extra={"fault": str(error)})
            self._fault = str(error)
            return
        self._found, self._probed_s = self._gpu.capabilities(), self._clock.boottime_s()
        log.info(
            "GPU found",
            extra={
                "source": self._found.source,
                "gpus": ",".join(self._found.names),
                "reads_power": self._found.can_read_power,
                "caps": self._found.can_cap,
            },
        )
        self._gpu.set_jobs(self._jobs_w)
        if self._cap_w is not None:
            try:
                self._gpu.set_power_cap_w(self._cap_w)
            except SternaError as error:
                log.error("the cap was not put in force again", extra={"fault": str(error)})

    def _drop(self, fault: str) -> None:
        """Let go of a provider that fails, to open it anew."""
        log.warning("the GPU is gone; looking for it", extra={"fault": fault})
        self._fault, self._found = fault, NOTHING
        self._tried_s = self._clock.boottime_s()
        if self._gpu is not None:
            self._gpu.close()
        self._gpu = None
