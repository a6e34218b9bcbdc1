"""The daemon's own memory and processor time, from /proc."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from sterna.clock import Clock
from sterna.exposition.families import Sample, counter, gauge

CPU = counter("process_cpu_seconds", "User and system time of the daemon.")
MEMORY = gauge("process_resident_memory_bytes", "Resident memory of the daemon.")
FILES = gauge("process_open_fds", "Open file descriptors of the daemon.")
START = gauge("process_start_time_seconds", "When the daemon was started, as Unix time.")
PROCESS = (CPU, MEMORY, FILES, START)

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
    yield from CPU.of(used.ru_utime + used.ru_stime)
    yield from MEMORY.of(pages * os.sysconf("SC_PAGE_SIZE"))
    yield from FILES.of(sum(1 for _ in (proc / "fd").iterdir()))
    yield from START.of(start_s)
