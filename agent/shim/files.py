"""The run directory: what the agent and the shim write to each other, and how.

One directory per run of a job. Stdlib only: the shim imports this, and it must start fast. Each file has one
writer and is replaced by rename, so that a reader never sees half of one.

================ ======== =====================================================================
file             writer   content
================ ======== =====================================================================
``run.json``     agent    what to run; never changes
``control.json`` agent    epoch, lease, paused; replaced as they change, gone: nothing may run
``stop.json``    either   STERNA_STOP_FILE: reason and deadline; its presence is the request
``shim.json``    shim     who the shim and its child are: pids, start ticks, boot id, epoch
``exit.json``    shim     how it ended; durable before the shim lets go of the lock
``lock``         shim     flock: held by the shim for as long as it lives
``progress.json`` trainer last step, last checkpoint
``result.json``  trainer  STERNA_RESULT_FILE: how it says that it ended
``log``          trainer  its stdout and stderr
================ ======== =====================================================================

Where the trainer runs in a container, what it reads and writes lies in the folder ``shared``, which is all
that it sees: the rest is not its to change.
"""

import json
import os
import time
from contextlib import suppress

RUN = "run.json"
CONTROL = "control.json"
STOP = "stop.json"
SHIM = "shim.json"
EXIT = "exit.json"
LOCK = "lock"
PROGRESS = "progress.json"
RESULT = "result.json"
LOG = "log"

RUN_ID_VARIABLE = "STERNA_RUN_ID"
TAKEN = b"taken"
"""What the shim of a unit answers to whoever hands it a run."""

Record = dict[str, object]


def write_record(directory: str, name: str, record: Record, *, durable: bool = True) -> None:
    """Replace a file of the run directory at once.

    Parameters
    ----------
    directory, name : str
        Where.
    record : dict
        JSON content.
    durable : bool
        Whether it must survive a power cut: file and directory are then fsynced before this returns.

    Raises
    ------
    OSError
        A full disk, for one; what was there before is still there.
    """
    path = os.path.join(directory, name)  # noqa: PTH118 - pathlib costs the shim's start
    temporary = f"{path}.{os.getpid()}.tmp"
    # A link that somebody laid in its way would lead elsewhere.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(temporary, flags, 0o600)
    try:
        data = json.dumps(record).encode()
        while data:  # a disk that fills up takes a part first, and refuses the next
            data = data[os.write(fd, data) :]
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)  # noqa: PTH105
    if durable:
        sync_directory(directory)


def read_record(directory: str, name: str) -> Record | None:
    """Read a file of the run directory; None when it is not there or holds no JSON object."""
    try:
        with open(os.path.join(directory, name), "rb") as file:  # noqa: PTH118, PTH123
            record = json.load(file)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def sync_directory(directory: str) -> None:
    """Make renames and new names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def boot_id() -> str:
    """Return the kernel's name for this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
        return file.read().strip()


def boottime_s() -> float:
    """Return seconds since boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def process_stat(pid: int) -> tuple[int, int, int] | None:
    """Return (process group, session, start ticks since boot) of a process; None when it is gone.

    A zombie is gone: it holds nothing but its number. Fields 3, 5, 6 and 22 of proc_pid_stat(5).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[2]), int(fields[3]), int(fields[19])


def signal_process(pid: int, start_ticks: int, signum: int) -> bool:
    """Signal a process that is known by pid and start time; never another that got its number.

    Returns
    -------
    bool
        Whether that very process was there to be signalled.
    """
    import signal

    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # Checked after the pidfd is open: from here on it can only mean the process that we looked at.
        stat = process_stat(pid)
        if stat is None or stat[2] != start_ticks:
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signum)
            return True
        return False
    finally:
        os.close(fd)


def processes_of_run(run_id: str) -> list[tuple[int, int]]:
    """Return (pid, start ticks) of every process whose environment carries this run's id.

    The id is random and given to the child by the shim alone, so this finds a run's processes by identity,
    also those that left its process group.
    """
    token = f"{RUN_ID_VARIABLE}={run_id}".encode()
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                environ = file.read()
        except OSError:
            continue
        stat = process_stat(int(name)) if token in environ.split(b"\0") else None
        if stat is not None:
            found.append((int(name), stat[2]))
    return found


def stop_request(reason: str, grace_s: float) -> Record:
    """Return what the stop file holds.

    Parameters
    ----------
    reason : str
        For the trainer, and for people.
    grace_s : float
        Seconds until SIGKILL.
    """
    at = time.gmtime(time.time() + grace_s)
    return {
        "reason": reason,
        "deadline": time.strftime("%Y-%m-%dT%H:%M:%SZ", at),
        "deadline_boottime_s": boottime_s() + grace_s,
    }
