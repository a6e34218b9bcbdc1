"""The shim as systemd starts it: one connection, one request with the run's lock, one answer."""

import fcntl
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.shim import files
from agent.shim.files import TAKEN
from agent.shim.unit import STOP_MARGIN_S
from tests.agent.shim.door import Door

RUN_ID = f"r{os.getpid()}"
"""Of these tests alone: a shim ends every process of its run, and other tests run beside these."""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What NOTIFY_SOCKET names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(20)
        yield heard


@pytest.fixture
def door(tmp_path: Path, manager: socket.socket) -> Iterator[Door]:
    with Door(tmp_path / "door", notify=tmp_path / "notify") as door:
        yield door


def prepare(directory: Path, script: str, *, expires_s: float | None = None) -> int:
    """Write what the agent writes; return the lock, held."""
    directory.mkdir()
    run = {
        "run_id": RUN_ID,
        "job_id": "j7",
        "argv": ["/bin/sh", "-c", script],
        "env": {"PATH": os.environ["PATH"], files.RUN_ID_VARIABLE: RUN_ID},
        "working_dir": str(directory),
        "stop_signal": "TERM",
        "stop_grace_s": 5.0,
        "parent_death_signal": "TERM",
    }
    control: files.Record = {"epoch": 1, "boot_id": files.boot_id(), "expires_s": expires_s, "paused": False}
    files.write_record(str(directory), files.RUN, dict(run))
    files.write_record(str(directory), files.CONTROL, control)
    fd = os.open(directory / files.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def knock(door: Door, message: bytes, *fds: int) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(20)
        connection.connect(str(door.path))
        socket.send_fds(connection, [message], list(fds))
        return connection.recv(4096)


def request(directory: object) -> bytes:
    return json.dumps({"directory": directory}).encode()


def is_locked(directory: Path) -> bool:
    fd = os.open(directory / files.LOCK, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_runs_the_job_in_the_process_that_was_started(
    door: Door, manager: socket.socket, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    lock = prepare(directory, "trap 'exit 7' TERM; touch trapped; while :; do sleep 0.05; done")
    assert knock(door, request(str(directory)), lock) == TAKEN
    os.close(lock)
    assert is_locked(directory)  # the shim holds it now
    status = manager.recv(4096).decode()
    assert "job j7" in status
    deadline_s = files.boottime_s() + 20
    while not ((directory / "trapped").exists() and (directory / files.SHIM).exists()):
        assert files.boottime_s() < deadline_s
    who = files.read_record(str(directory), files.SHIM)
    assert who is not None
    assert who["pid"] == door.shims[0].pid  # systemd's main process is the shim itself
    door.shims[0].send_signal(signal.SIGTERM)
    assert door.shims[0].wait(20) == 0
    # It asked for the job's grace before systemd's own patience ends.
    assert manager.recv(4096).decode().splitlines() == [
        "STOPPING=1",
        f"EXTEND_TIMEOUT_USEC={int((5 + STOP_MARGIN_S) * 1e6)}",
    ]
    ended = files.read_record(str(directory), files.EXIT)
    assert ended is not None
    assert (ended["cause"], ended["code"]) == ("shutdown", 7)
    assert not is_locked(directory)


def test_expired_lease_starts_nothing(door: Door, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    lock = prepare(directory, "touch started", expires_s=files.boottime_s() - 1)
    assert knock(door, request(str(directory)), lock) == TAKEN
    os.close(lock)
    assert door.shims[0].wait(20) == 1
    ended = files.read_record(str(directory), files.EXIT)
    assert ended is not None
    assert ended["cause"] == "lease"
    assert not (directory / "started").exists()


@pytest.mark.parametrize(
    ("message", "gives_lock", "reason"),
    [
        (b"\xff not json", True, b""),
        (b"[]", True, b"directory: expected an absolute path"),
        (request("relative/run"), True, b"directory: expected an absolute path"),
        (request(7), True, b"directory: expected an absolute path"),
        (request("/nowhere/run"), True, b"/nowhere/run: No such file or directory; is it in ReadWritePaths"),
        (None, False, b"expected the lock of the run as one open file"),
    ],
)
def test_refuses_with_a_reason(
    door: Door, tmp_path: Path, message: bytes | None, gives_lock: bool, reason: bytes
) -> None:
    directory = tmp_path / "run"
    lock = prepare(directory, "touch started")
    answer = knock(door, message or request(str(directory)), *([lock] if gives_lock else []))
    assert answer.startswith(b"refused: ")
    assert reason in answer
    os.close(lock)
    assert door.shims[0].wait(20) == 1
    assert not is_locked(directory)
    assert not (directory / "started").exists()


def test_refuses_a_lock_of_another_run(door: Door, tmp_path: Path) -> None:
    mine, other = prepare(tmp_path / "run", "touch started"), prepare(tmp_path / "other", "touch started")
    answer = knock(door, request(str(tmp_path / "run")), other)
    assert b"the open file is not its lock" in answer
    os.close(mine)
    os.close(other)


def test_caller_that_left_is_not_served(door: Door, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    lock = prepare(directory, "touch started")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(door.path))
        socket.send_fds(connection, [request(str(directory))], [lock])
        connection.shutdown(socket.SHUT_RD)
    os.close(lock)
    deadline_s = files.boottime_s() + 20
    while not door.shims:
        assert files.boottime_s() < deadline_s
    assert door.shims[0].wait(20) == 1
    assert not (directory / "started").exists()
    assert not is_locked(directory)
