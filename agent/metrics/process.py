"""The agent's own memory and processor time, from /proc."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from agent.metrics import families as names
from agent.metrics.families import Sample
from sterna.clock import Clock

PROC = Path("/proc/self")
_START_FIELD = 19
"""Of ``stat``, counted from the state: start after boot, in clock ticks."""


def started_at_s(clock: Clock, proc: Path = PROC) -> float:
    """Return when this process was started, as Unix time in seconds, to a tick of the kernel."""
    ticks = int((proc / "stat").read_text().rpartition(")")[2].split()[_START_FIELD])
    return clock.now().timestamp() - clock.boottime_s() + ticks / os.sysconf("SC_CLK_TCK")


def process_samples(start_s: float, proc: Path = PROC) -> Iterator[Sample]:
    """Tell what the process takes now.

    Parameters
    ----------
    start_s : float
        See `started_at_s`.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int((proc / "statm").read_text().split()[1])
    yield from names.PROCESS_CPU.of(used.ru_utime + used.ru_stime)
    yield from names.PROCESS_MEMORY.of(pages * os.sysconf("SC_PAGE_SIZE"))
    yield from names.PROCESS_FILES.of(sum(1 for _ in (proc / "fd").iterdir()))
    yield from names.PROCESS_START.of(start_s)
