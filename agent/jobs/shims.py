"""Two ways to start a shim: as a process of the agent's own, or by systemd as a unit of its own.

Either way the lock of the run directory is handed over as an open file; see `agent.jobs.launch`. How the
second is permitted without any privilege is written in docs/adr/0007.
"""

import asyncio
import json
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Protocol

import agent.shim
from agent.shim.files import TAKEN
from sterna.errors import TransientError

START_TIMEOUT_S = 20.0
SHIM = str(Path(agent.shim.__file__).parent)
SYSTEMD_RUNS = Path("/run/systemd/system")
"""Exists where systemd is the init process: sd_booted(3)."""


class ShimStarter(Protocol):
    """Starts the shim of one prepared run."""

    async def start(self, directory: Path, lock_fd: int) -> None:
        """Start it.

        Parameters
        ----------
        directory : Path
            The run directory.
        lock_fd : int
            Its lock, held; stays the caller's to close.

        Raises
        ------
        TransientError
            No shim was started, or none that said so in time.
        """
        ...


class ForkedShims:
    """Shims that the agent starts itself, in its own cgroup and sandbox."""

    async def start(self, directory: Path, lock_fd: int) -> None:
        """Start the shim, which forks and leaves our process tree; see `ShimStarter.start`."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-S", SHIM, str(directory), str(lock_fd)),
                    pass_fds=(lock_fd,),
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                )
                status = await process.wait()
        except (OSError, TimeoutError) as error:
            raise TransientError(f"run {directory.name}: the shim could not be started: {error}") from error
        if status != 0:
            raise TransientError(f"run {directory.name}: the shim left with {status}")


class UnitShims:
    """Shims that systemd starts, each as an instance of sterna-job@.service: own cgroup, own sandbox.

    Parameters
    ----------
    door : Path
        Socket of sterna-job.socket.
    timeout_s : float
        How long systemd and the shim may take together.
    """

    def __init__(self, door: Path, *, timeout_s: float = START_TIMEOUT_S) -> None:
        self._door = door
        self._timeout_s = timeout_s

    async def start(self, directory: Path, lock_fd: int) -> None:
        """Knock, hand over the lock, and wait for the shim's word; see `ShimStarter.start`."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as door:
            try:
                async with asyncio.timeout(self._timeout_s):
                    loop = asyncio.get_running_loop()
                    await loop.sock_connect(door, str(self._door))
                    socket.send_fds(door, [_request(directory)], [lock_fd])
                    answer = await loop.sock_recv(door, 4096)
            except (OSError, TimeoutError) as error:
                what = str(error) or "no answer in time"
                raise TransientError(f"run {directory.name}: {self._door}: {what}") from error
        if answer != TAKEN:
            said = answer.decode(errors="replace") or "closed without an answer"
            raise TransientError(f"run {directory.name}: {self._door}: {said}")


def _request(directory: Path) -> bytes:
    """Return what the shim is asked; it runs in another folder, so the path is whole."""
    return json.dumps({"directory": str(directory.absolute())}).encode()


def units_are_possible(door: Path, systemd_runs: Path = SYSTEMD_RUNS) -> bool:
    """Tell whether systemd runs here and lets us knock at `door`."""
    try:
        is_socket = stat.S_ISSOCK(door.stat().st_mode)
    except OSError:
        return False
    return is_socket and systemd_runs.is_dir() and os.access(door, os.W_OK)
