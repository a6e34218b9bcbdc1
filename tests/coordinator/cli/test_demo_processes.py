"""The demo's processes: a daemon that somebody ends comes back; anything else that ends is named."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.cli.demo.processes import Processes, adopt_orphans
from sterna.errors import PermanentError
from tests.waiting import wait_until

SLEEP = ("sh", "-c", "echo $$; exec sleep 60")


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.stop()
    adopt_orphans(False)


def pids(tmp_path: Path, name: str, count: int) -> list[int]:
    """Return what the processes of a name said that they are, once so many have."""

    def said() -> list[str]:
        return (tmp_path / f"{name}.log").read_text().split()

    wait_until(lambda: len(said()) == count, f"{name} started {count} times")
    return [int(pid) for pid in said()]


def ended(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_daemon_that_somebody_kills_is_started_again(tmp_path: Path, children: Processes) -> None:
    children.spawn_daemon("agent-north", SLEEP)
    children.check()
    assert children.revived == []
    ended(pids(tmp_path, "agent-north", 1)[0])
    children.check()
    assert children.revived == ["agent-north"]
    first, second = pids(tmp_path, "agent-north", 2)
    assert first != second
    os.kill(second, 0)


def test_any_other_process_that_ends_is_named_with_its_last_words(
    tmp_path: Path, children: Processes
) -> None:
    children.spawn("broker", SLEEP)
    ended(pids(tmp_path, "broker", 1)[0])
    with pytest.raises(PermanentError, match="broker was ended by SIGKILL"):
        children.check()


def test_a_daemon_that_fails_by_itself_is_not_started_for_ever(tmp_path: Path, children: Processes) -> None:
    children.spawn_daemon("coordinator", ("sh", "-c", "echo no such file; exit 2"))

    def failed() -> bool:
        children.check()
        return False

    with pytest.raises(PermanentError, match=r"coordinator ended with 2(.|\n)*no such file"):
        wait_until(failed)
    assert children.revived == []
