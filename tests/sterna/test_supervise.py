import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sterna.clock import FakeClock, SystemClock
from sterna.notify import Notifier
from sterna.supervise import Pulse, supervise

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(5)
        yield server


def said(systemd: socket.socket) -> list[str]:
    systemd.setblocking(False)
    messages = []
    while True:
        try:
            messages.append(systemd.recv(4096).decode())
        except BlockingIOError:
            return messages


async def forever() -> None:
    await asyncio.Event().wait()


async def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_every_task_and_is_no_failure(
    systemd: socket.socket, tmp_path: Path, signum: signal.Signals
) -> None:
    ended = []

    async def task() -> None:
        try:
            await forever()
        finally:
            ended.append("task")

    async def stop() -> None:
        await asyncio.sleep(0)
        os.kill(os.getpid(), signum)

    code = await supervise(
        {"one": task, "two": task},
        notifier=Notifier(str(tmp_path / "notify")),
        pulse=Pulse(SystemClock()),
        status="serving",
        on_ready=stop,
    )
    assert code == 0
    assert ended == ["task", "task"]
    messages = said(systemd)
    assert messages[0] == "READY=1\nSTATUS=serving"
    assert "WATCHDOG=1" in messages
    assert messages[-1] == "STOPPING=1"


@pytest.mark.parametrize("how", ["raises", "returns"])
async def test_a_lost_task_ends_the_daemon(how: str, caplog: pytest.LogCaptureFixture) -> None:
    cancelled = []

    async def other() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def lost() -> None:
        await asyncio.sleep(0)
        if how == "raises":
            raise OSError("bus gone")

    code = await supervise(
        {"lost": lost, "other": other}, notifier=Notifier(None), pulse=Pulse(SystemClock()), status=""
    )
    assert code == 1
    assert cancelled == [True]
    assert [record.message for record in caplog.records if record.levelno == logging.CRITICAL] == [
        "a root task failed"
    ]


async def test_a_failure_on_the_way_out_is_still_a_failure() -> None:
    async def clumsy() -> None:
        try:
            await forever()
        finally:
            raise OSError("could not flush")

    code = await supervise(
        {"clumsy": clumsy},
        notifier=Notifier(None),
        pulse=Pulse(SystemClock()),
        status="",
        on_ready=terminate,
    )
    assert code == 1


async def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    await supervise(
        {"t": forever}, notifier=Notifier(None), pulse=Pulse(SystemClock()), status="", on_ready=terminate
    )
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.looptime
async def test_the_watchdog_starves_while_a_loop_is_silent(
    systemd: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(NOW)
    pulse = Pulse(clock)
    pulse.heart("meters", deadline_s=10)
    clock.advance(11)

    async def stop_later() -> None:
        await asyncio.sleep(30)  # virtual: ten rounds of the feeder
        await terminate()

    code = await supervise(
        {"t": forever},
        notifier=Notifier(str(tmp_path / "notify"), watchdog_s=9),
        pulse=pulse,
        status="",
        on_ready=stop_later,
    )
    assert code == 0
    assert "WATCHDOG=1" not in said(systemd)
    complaints = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [vars(record)["loops"] for record in complaints] == [["meters"]]


def test_a_heart_lives_while_it_beats_within_its_deadline() -> None:
    clock = FakeClock(NOW)
    pulse = Pulse(clock)
    fast, slow = pulse.heart("fast", deadline_s=2), pulse.heart("slow", deadline_s=60)
    clock.advance(2)
    assert pulse.overdue() == []
    clock.step_calendar(3600)  # the calendar may jump: durations do not care
    assert pulse.overdue() == []
    clock.advance(1)
    assert pulse.overdue() == ["fast"]
    assert fast.overdue_s == pytest.approx(1)
    fast.beat()
    assert pulse.overdue() == []
    clock.advance(100)
    assert pulse.overdue() == ["fast", "slow"]
    assert slow.overdue_s == pytest.approx(43)


def test_the_notifier_reads_what_systemd_set(tmp_path: Path, systemd: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    assert Notifier.from_environment(environ).watchdog_s == 30.0
    assert Notifier.from_environment(environ | {"WATCHDOG_PID": str(os.getpid())}).watchdog_s == 30.0
    assert Notifier.from_environment(environ | {"WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.from_environment({}).watchdog_s is None
    Notifier.from_environment(environ).status("3 jobs")
    assert said(systemd) == ["STATUS=3 jobs"]


def test_an_abstract_socket_is_reached() -> None:
    name = f"sterna-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + name)
        Notifier("@" + name).stopping()
        assert said(server) == ["STOPPING=1"]


def test_without_systemd_nothing_is_said() -> None:
    Notifier(None).ready("serving")
    Notifier("").watchdog()


def test_the_system_clock_is_aware_and_does_not_run_backwards() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() is not None
    first = clock.boottime_s()
    assert clock.boottime_s() >= first > 0


def test_the_fake_clock_moves_when_told() -> None:
    clock = FakeClock(NOW, boottime_s=5)
    clock.advance(60)
    clock.step_calendar(-3600)
    assert (NOW - clock.now()).total_seconds() == 3540
    assert clock.boottime_s() == 65
