"""Whether somebody keeps the machine's calendar. `sterna.clock` tells the time; this, whether to believe it.

The kernel knows (adjtimex(2)); a service whose sandbox forbids the call asks systemd-timedated, which makes
the same call for it, and where there is none looks for the mark of systemd-timesyncd.
"""

import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

STA_UNSYNC, TIME_ERROR = 0x40, 5
TIMEX_HEAD = "@Illlli"
"""How struct timex begins: modes, offset, freq, maxerror, esterror, status."""
TIMEX_BYTES = 512
ASK_TIMEDATED = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
TIMEDATED_TIMEOUT_S = 2.0
KEPT_SINCE_BOOT = Path("/run/systemd/timesync/synchronized")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelClock:
    """What the kernel says of its calendar; `max_error_s` is its own bound of how far it is off."""

    synced: bool
    max_error_s: float


def ask_kernel() -> KernelClock | None:
    """Ask the kernel; None: it has no such call, or does not let us ask."""
    import ctypes  # few parts need it

    timex = ctypes.create_string_buffer(TIMEX_BYTES)  # zero modes: nothing is set
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    _modes, _offset, _freq, max_error_us, _error, status = struct.unpack_from(TIMEX_HEAD, timex)
    synced = state != TIME_ERROR and not status & STA_UNSYNC
    return KernelClock(synced=synced, max_error_s=max_error_us / 1e6)


def ask_timedated() -> bool | None:
    """Ask systemd-timedated, a process for each answer; None: there is none that answers."""
    try:
        said = subprocess.run(
            ASK_TIMEDATED, capture_output=True, text=True, timeout=TIMEDATED_TIMEOUT_S, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return {"yes": True, "no": False}.get(said)


def ask_systemd() -> bool | None:
    """Ask timedated, else look for the mark of systemd-timesyncd; None: neither tells."""
    said = ask_timedated()
    return True if said is None and KEPT_SINCE_BOOT.exists() else said


def synchronised() -> bool | None:
    """Say whether the calendar is kept; None: nobody can tell. It may take `TIMEDATED_TIMEOUT_S`."""
    kernel = ask_kernel()
    return ask_systemd() if kernel is None else kernel.synced
