"""What the service manager is told, over a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterna.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        yield listener


def test_says_when_it_is_ready_and_that_it_lives(manager: socket.socket) -> None:
    notifier = Notifier(str(manager.getsockname()))
    notifier.ready("12 loops")
    notifier.watchdog()
    notifier.stopping()
    said = [manager.recv(100) for _ in range(3)]
    assert said == [b"READY=1\nSTATUS=12 loops", b"WATCHDOG=1", b"STOPPING=1"]


def test_a_manager_that_hangs_or_is_gone_stops_nothing(
    manager: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(manager.getsockname()))
    for _ in range(10_000):  # far more than the socket holds
        notifier.watchdog()
        if caplog.records:
            break
    assert "does not listen" in caplog.text
    caplog.clear()
    manager.close()
    notifier.status("alone")
    assert "does not listen" in caplog.text


def test_without_a_manager_nothing_is_said() -> None:
    notifier = Notifier.from_environment({})
    notifier.ready("")
    assert notifier.watchdog_s is None


def test_the_watchdog_is_for_the_process_that_it_names() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}
    assert Notifier.from_environment(environ).watchdog_s is None
    mine = {**environ, "WATCHDOG_PID": str(os.getpid())}
    assert Notifier.from_environment(mine).watchdog_s == 30.0
