"""A shim that systemd started for one connection: who knocks says which run it is and hands over its lock.

The unit is an instance of sterna-job@.service, so that a job has a cgroup of its own which outlives the
agent. One request, one answer, then the connection ends: from there on the run directory is all that agent
and shim share, as with any other shim.
"""

import json
import os
import socket
from collections.abc import Mapping

from agent.shim import cgroup, files
from agent.shim.owner import Owner

REQUEST_MAX_BYTES = 4096
REQUEST_TIMEOUT_S = 20.0
STOP_MARGIN_S = 15.0
"""On top of the grace of a job: the time to kill it and to record its end."""


def main(connection: int = 0) -> int:
    """Serve the one connection, then own its run until that has ended.

    Parameters
    ----------
    connection : int
        Open file of the connected socket; systemd gives it as standard input.

    Returns
    -------
    int
        Exit status; systemd shows it.
    """
    with socket.socket(fileno=os.dup(connection)) as door:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, connection)
        os.close(null)
        try:
            directory = _take(door)
        except (OSError, ValueError) as error:
            _answer(door, f"refused: {error}".encode())
            return 1
        if not _answer(door, files.TAKEN):  # it gave up on us and takes the run for not started
            return 1
    run = files.read_record(directory, files.RUN) or {}
    manager = Manager(os.environ)
    manager.say(f"STATUS=job {run.get('job_id', 'unknown')} in {directory}")
    os.chdir(directory)
    return Owner(directory, group=cgroup.make(), stopping=manager.stopping).run()


def _take(door: socket.socket) -> str:
    """Receive one request; return its run directory, whose lock we then hold."""
    door.settimeout(REQUEST_TIMEOUT_S)
    message, locks, _, _ = socket.recv_fds(door, REQUEST_MAX_BYTES, 1)
    if not message:
        raise ValueError("nothing was asked for")
    request = json.loads(message)
    directory = request.get("directory") if isinstance(request, dict) else None
    if not isinstance(directory, str) or not os.path.isabs(directory):  # noqa: PTH117
        raise ValueError("directory: expected an absolute path")
    if len(locks) != 1:
        raise ValueError("expected the lock of the run as one open file")
    try:
        named = os.stat(f"{directory}/{files.LOCK}")  # noqa: PTH116
    except OSError as error:
        raise ValueError(f"{directory}: {error.strerror}; is it in ReadWritePaths of the unit?") from error
    if not os.path.samestat(os.fstat(locks[0]), named):
        raise ValueError(f"{directory}: the open file is not its lock")
    os.set_inheritable(locks[0], False)
    return directory


def _answer(door: socket.socket, answer: bytes) -> bool:
    """Say what came of it; False when nobody listens any more."""
    try:
        door.send(answer)
    except OSError:
        return False
    return True


class Manager:
    """What the shim tells systemd: sd_notify(3).

    Parameters
    ----------
    environ : mapping
        Where NOTIFY_SOCKET is looked up; without it every call is a no-op.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def stopping(self, grace_s: float) -> None:
        """Ask for the time that the job was promised, should it be systemd that wants it to end."""
        allowed_us = int((grace_s + STOP_MARGIN_S) * 1e6)
        self.say(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={allowed_us}")

    def say(self, message: str) -> None:
        """Send one message; a manager that does not listen is no reason to stop."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            try:
                manager.sendto(message.encode(), self._address)
            except OSError:
                return
