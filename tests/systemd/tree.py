"""A Debian tree that is booted with systemd as its init, in namespaces of its own."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from agent.shim.files import boottime_s

PACKAGES = "systemd,systemd-sysv,dbus,python3,ca-certificates,iproute2,procps"
TOOLS = ("debootstrap", "unshare", "nsenter", "dpkg-deb", "pivot_root")
ENTERED = ("-m", "-u", "-i", "-n", "-p", "-C")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

BOOT = r"""
set -e
cd "$1"
mount --bind . .
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
  set -- $node
  mknod -m 666 "dev/$1" c "$2" "$3"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p .old
pivot_root . .old
umount -l /.old
# In a container systemd leaves this to its caller; it mounts credentials in a namespace of their own.
mount --make-rshared /
exec env -i container=sterna-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --log-target=console --show-status=no </dev/null
"""


class UnavailableError(Exception):
    """This machine cannot boot a tree; the message says why."""


def why_not() -> str | None:
    """Say what this machine lacks; None when nothing."""
    if os.geteuid() != 0:
        return "not root"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if _cgroup_mount() is None:
        return "no cgroup v2 is mounted"
    done = subprocess.run(
        ["unshare", "-mpfuinC", "true"], capture_output=True, text=True, check=False, timeout=30
    )
    return None if done.returncode == 0 else f"no namespaces: {done.stderr.strip()}"


def prepare(base: Path, suite: str) -> None:
    """Make the tree that is copied for each boot, once."""
    if (base / "usr/lib/systemd/systemd").exists() or (base / "lib/systemd/systemd").exists():
        return
    unfinished = base.with_name(f"{base.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, unfinished],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    if done.returncode != 0:
        raise UnavailableError(f"debootstrap: {done.stdout[-500:]} {done.stderr[-500:]}")
    unfinished.rename(base)


class Tree:
    """One boot of a copy of the base tree.

    Parameters
    ----------
    base : Path
        From `prepare`.
    folder : Path
        Made and removed here.
    """

    def __init__(self, base: Path, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self._base = base
        mount = _cgroup_mount()
        assert mount is not None
        self._cgroup = mount / f"sterna-test-{os.getpid()}"
        self._boot: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> "Tree":
        self.folder.mkdir(parents=True)
        subprocess.run(["cp", "-a", self._base, self.root], check=True, timeout=300)
        (self.folder / "boot.sh").write_text(BOOT)
        self._cgroup.mkdir()
        with (self.folder / "console.log").open("wb") as console:
            # A cgroup of its own first: the namespace's root, and all that systemd gets to write to.
            self._boot = subprocess.Popen(
                [
                    *("sh", "-c", 'echo 0 >"$1"/cgroup.procs; shift; exec "$@"', "sh", str(self._cgroup)),
                    *("unshare", "-mpfuinC", "--kill-child", "--propagation", "private", "--"),
                    *("sh", str(self.folder / "boot.sh"), str(self.root)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self._has_booted, "systemd is up", 60.0)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._boot is not None:
            self._boot.send_signal(signal.SIGKILL)  # --kill-child: the kernel ends the whole PID namespace
            self._boot.wait()
            until(self._is_empty, "the tree's processes are gone", 30.0)
        for path in sorted(self._cgroup.rglob("*"), key=lambda path: -len(path.parts)):
            if path.is_dir():
                path.rmdir()
        self._cgroup.rmdir()
        shutil.rmtree(self.folder)

    def run(self, *command: str, check: bool = True, timeout_s: float = 300.0) -> str:
        """Run a command inside; return what it wrote to stdout."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._init), *ENTERED, "--", "env", "-i", f"PATH={PATH}", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside, as root."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def _has_booted(self) -> bool:
        assert self._boot is not None
        assert self._boot.poll() is None, (self.folder / "console.log").read_text()
        children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children").read_text().split()
        self._init = int(children[0]) if children else 0
        if not self._init or "systemd" not in Path(f"/proc/{self._init}/comm").read_text():
            return False
        return self.run("systemctl", "is-system-running", check=False) in {"running", "degraded"}

    def _is_empty(self) -> bool:
        return "populated 0" in (self._cgroup / "cgroup.events").read_text()


def until(condition: Callable[[], object], what: str, timeout_s: float) -> float:
    """Poll until it holds; return the seconds that it took."""
    began_s = boottime_s()
    while not condition():
        waited_s = boottime_s() - began_s
        assert waited_s < timeout_s, f"{what}: not within {timeout_s} s"
        time.sleep(0.1)
    return boottime_s() - began_s


def _cgroup_mount() -> Path | None:
    for mount in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (mount / "cgroup.controllers").exists():
            return mount
    return None
