"""Container engines that tests can use: what is installed and works here, each with an image of its own.

The image holds nothing but the links of a merged /usr; Python comes as folders of the site.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.core.containers import ContainerRules, Folder
from agent.jobs.containers import rules_here
from agent.shim import files

IMAGE = "sterna-test:1"
PYTHON = os.path.realpath(sys.executable)
_TRIES = (
    (),
    ("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"),
)
"""What a run may need where this machine itself is a container."""


@dataclass(frozen=True)
class Rig:
    """An engine that works."""

    name: str
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    with_init: bool
    folders: dict[str, Folder] = field(default_factory=dict)

    def rules(self, **fields: object) -> ContainerRules:
        defaults: dict[str, object] = {
            "engines": {self.name: self.command},
            "arguments": self.arguments,
            "folders": self.folders,
            "with_init": self.with_init,
        }
        return rules_here(ContainerRules(**(defaults | fields)))  # type: ignore[arg-type]

    def listed(self) -> list[str]:
        """Names of all its containers, running or not."""
        return self("ps", "--all", "--format={{.Names}}").split()

    def status(self) -> str:
        """Of the only container."""
        (name,) = self.listed()
        return self("inspect", "--format={{.State.Status}}", name).strip()

    @property
    def pauses(self) -> bool:
        """Podman without root cannot, under cgroup v1."""
        return os.geteuid() == 0 or Path("/sys/fs/cgroup/cgroup.controllers").exists()

    def __call__(self, *words: str, data: bytes | None = None) -> str:
        done = subprocess.run(
            [*self.command, *words], input=data, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{words}: {done.stderr.decode()}"
        return done.stdout.decode()


def python_folders() -> dict[str, Folder]:
    """What a container needs to see to run this machine's Python."""
    base = sys.base_prefix
    return {"usr": Folder(path="/usr")} | ({} if base.startswith("/usr") else {"python": Folder(path=base)})


def python_mounts() -> dict[str, str]:
    return {name: folder.path for name, folder in python_folders().items()}


@contextlib.contextmanager
def podman() -> Iterator[Rig | str]:
    """Podman with a store of its own; a sentence where it does not work."""
    if shutil.which("podman") is None:
        yield "podman is not installed"
        return
    folder = tempfile.mkdtemp(prefix="sterna-podman-")
    try:
        common = ("podman", f"--root={folder}/root", f"--runroot={folder}/run", "--storage-driver=vfs")
        runtimes = [(), *(("--runtime", name) for name in ("crun", "runc") if shutil.which(name))]
        commands = [(*common, "--cgroup-manager=cgroupfs", *runtime) for runtime in runtimes]
        yield from _works("podman", commands)
    finally:
        # Without root, what it keeps belongs to other users of its namespace.
        inside = ["podman", "unshare"] if os.geteuid() != 0 else []
        subprocess.run([*inside, "rm", "-rf", folder], capture_output=True, check=False)


@contextlib.contextmanager
def docker() -> Iterator[Rig | str]:
    """A daemon of our own; a sentence where none works."""
    if shutil.which("dockerd") is None or shutil.which("docker") is None or os.geteuid() != 0:
        yield "no dockerd that may be started here"
        return
    with tempfile.TemporaryDirectory(prefix="sterna-docker-", ignore_cleanup_errors=True) as folder:
        socket = f"unix://{folder}/socket"
        words = ["dockerd", "--host", socket, f"--data-root={folder}/data", f"--exec-root={folder}/exec"]
        words += [f"--pidfile={folder}/pid", "--bridge=none", "--iptables=false", "--ip6tables=false"]
        with Path(f"{folder}/log").open("wb") as log:
            daemon = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        try:
            command = ("docker", "--host", socket)
            if not _answers(daemon, command):
                yield "dockerd does not come up: " + Path(f"{folder}/log").read_text()[-300:]
                return
            yield from _works("docker", [command])
        finally:
            daemon.terminate()
            daemon.wait(30)


def _answers(daemon: "subprocess.Popen[bytes]", command: tuple[str, ...]) -> bool:
    deadline_s = files.boottime_s() + 30
    while daemon.poll() is None and files.boottime_s() < deadline_s:
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(0.1)
    return False


def _works(name: str, commands: list[tuple[str, ...]]) -> Iterator[Rig | str]:
    """Yield the first way in which a program runs, and remove every container after it."""
    why = ""
    for command in commands:
        for more in _TRIES:
            rig = Rig(name, command, ("--network=none", *more), with_init=False, folders=python_folders())
            why = _trouble(rig)
            if not why:
                rig = replace(rig, with_init=not _trouble(rig, "--init"))
                try:
                    yield rig
                finally:
                    for one in rig.listed():
                        subprocess.run([*command, "rm", "--force", one], capture_output=True, check=False)
                return
    yield f"{name} does not run containers here: {why}"


def _trouble(rig: Rig, *more: str) -> str:
    """Say why a small program does not run; empty when it does."""
    mounts = [
        f"--mount=type=bind,source={folder.path},target={folder.path},readonly"
        for folder in rig.folders.values()
    ]
    try:
        rig("import", "-", IMAGE, data=_image())
        said = rig("run", "--rm", *more, *rig.arguments, *mounts, IMAGE, PYTHON, "-c", "print('up')")
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
        return str(error).strip().rpartition("\n")[2]
    return "" if said.strip() == "up" else f"it said {said!r}"


def _image() -> bytes:
    """Return the tree of the image."""
    tree = io.BytesIO()
    with tarfile.open(fileobj=tree, mode="w") as tar:
        for name in ("bin", "sbin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        for name in ("usr", "tmp", "proc", "sys", "dev", "etc", "run"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
    return tree.getvalue()
