"""The child's own cgroup, below the one that systemd delegated to the shim's unit.

A freeze stops every process of the job in one step, also those that left its process group, and no process
can see or refuse it; a kill misses none. cgroup v2 only: Linux 5.2 for the freeze, 5.14 for the kill.
"""

import os
import signal
from contextlib import suppress

MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
NAME = "job"


class Group:
    """A cgroup v2 directory of ours.

    Parameters
    ----------
    path : str
        The directory; it exists and may be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def open_door(self) -> int:
        """Return an open file; a process that writes ``0`` to it is a member from then on."""
        return os.open(f"{self.path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def set_frozen(self, frozen: bool) -> bool:
        """Freeze or thaw all members; False when the kernel did not take it."""
        return self._write("cgroup.freeze", b"1" if frozen else b"0")

    def kill(self) -> None:
        """Kill all members, frozen ones too."""
        if self._write("cgroup.kill", b"1"):
            return
        self.set_frozen(True)  # an older kernel: whoever forks meanwhile would be missed
        with suppress(OSError), open(f"{self.path}/cgroup.procs", encoding="ascii") as members:  # noqa: PTH123
            for pid in members.read().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> None:
        """Remove the directory, once all members are gone; systemd removes what stays."""
        with suppress(OSError):
            os.rmdir(self.path)  # noqa: PTH106

    def _write(self, name: str, value: bytes) -> bool:
        try:
            fd = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.write(fd, value)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True


def make(name: str = NAME) -> Group | None:
    """Make a cgroup for the child below this process's own.

    Parameters
    ----------
    name : str
        Of the directory.

    Returns
    -------
    Group or None
        None where that is not possible: cgroup v1, nothing delegated, a kernel that cannot freeze. The job
        then runs in the unit's cgroup and is paused by SIGSTOP.
    """
    mine = own_path()
    if mine is None:
        return None
    path = f"{mine}/{name}"
    try:
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
    except OSError:
        return None
    group = Group(path)
    if os.access(f"{path}/cgroup.freeze", os.W_OK) and os.access(f"{mine}/cgroup.procs", os.W_OK):
        return group
    group.remove()
    return None


def own_path() -> str | None:
    """Return the directory of this process's cgroup v2; None where there is none."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except OSError:
        return None
    name = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if name is None:
        return None
    for mount in MOUNTS:
        if os.path.exists(f"{mount}/cgroup.controllers"):  # noqa: PTH110
            return f"{mount}{name.rstrip('/')}"
    return None
