"""A machine for `sterna-power`: a sysfs tree with links as the kernel makes them, and the helper itself."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.power.clocks import Clocks
from agent.power.held import Held
from agent.power.tree import Tree
from tests.agent.devices.sysfs_trees import orin_nano
from tests.waiting import wait_until

GPU = "17000000.gpu"
BOOT = "0ddba11"


def machine(folder: Path) -> Path:
    """An Orin Nano with one cpufreq policy; returns its ``sys``."""
    sys_root = orin_nano(folder) / "sys"
    device = sys_root / "devices/platform" / GPU / "devfreq" / GPU
    device.parent.mkdir(parents=True)
    (sys_root / "class/devfreq" / GPU).rename(device)
    (sys_root / "class/devfreq" / GPU).symlink_to(f"../../devices/platform/{GPU}/devfreq/{GPU}")
    policy = sys_root / "devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    for name, khz in {
        "cpuinfo_min_freq": "115200",
        "cpuinfo_max_freq": "1728000",
        "scaling_min_freq": "115200",
        "scaling_max_freq": "1728000",
        "scaling_available_frequencies": "115200 729600 1036800 1728000",
    }.items():
        (policy / name).write_text(khz + "\n")
    return sys_root


def clocks_of(sys_root: Path, held: Held) -> Clocks:
    return Clocks(Tree(sys_root), held)


def held_in(folder: Path) -> Held:
    return Held(folder / "held.json", BOOT)


def gpu_file(sys_root: Path, name: str = "max_freq") -> Path:
    return sys_root / "class/devfreq" / GPU / name


@contextmanager
def helper(folder: Path, *arguments: str, sys_root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The shipped command on its own socket ``folder/sock``."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "agent.power", "serve", "--socket", str(folder / "sock")),
            *("--sys", str(sys_root), "--state", str(folder / "held.json"), *arguments),
        ],
        stderr=(folder / "said").open("ab"),
    )
    try:
        wait_until(lambda: answers(folder / "sock"))
        yield process
    finally:
        process.kill()
        process.wait(10)


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def connect(path: Path) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(10)
    line.connect(str(path))
    return line


def receive(line: socket.socket) -> Any:
    """One answer and no byte of the next; None: hung up."""
    data = b""
    while not data.endswith(b"\n"):
        try:
            seen = line.recv(65536, socket.MSG_PEEK)
            piece = line.recv(seen.find(b"\n") + 1 or len(seen)) if seen else b""
        except ConnectionResetError:
            piece = b""
        if not piece:
            assert not data
            return None
        data += piece
    return json.loads(data)


def ask(line: socket.socket, verb: str, **fields: object) -> Any:
    line.sendall(json.dumps({"verb": verb, **fields}).encode() + b"\n")
    return receive(line)
