"""Freezing and killing a real cgroup; where this process may make one."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.shim import cgroup, child
from tests.waiting import wait_until


@pytest.fixture
def group() -> Iterator[cgroup.Group]:
    made = cgroup.make(f"sterna-test-{os.getpid()}")
    if made is None:
        pytest.skip("no cgroup v2 that this process may write")
    yield made
    made.kill()
    wait_until(lambda: made.remove() or not Path(made.path).exists())


def is_frozen(group: cgroup.Group) -> bool:
    return "frozen 1" in (Path(group.path) / "cgroup.events").read_text()


def start(group: cgroup.Group, folder: Path, script: str) -> int:
    return child.start(
        ["/bin/sh", "-c", script],
        {"PATH": os.environ["PATH"]},
        str(folder),
        str(folder / "log"),
        signal.SIGKILL,
        group=group,
    )


def test_whole_tree_is_frozen_thawed_and_killed(group: cgroup.Group, tmp_path: Path) -> None:
    # The second process leaves the child's process group: SIGSTOP to the group would miss it.
    script = "setsid sh -c 'while :; do date +%N >beat; sleep 0.01; done' & wait"
    pid = start(group, tmp_path, script)
    beat = tmp_path / "beat"
    wait_until(beat.exists)
    members = (Path(group.path) / "cgroup.procs").read_text().split()
    assert str(pid) in members
    assert len(members) >= 2

    assert group.set_frozen(True)
    wait_until(lambda: is_frozen(group))
    at = beat.stat().st_mtime_ns
    time.sleep(0.2)  # long enough for twenty beats, were it not frozen
    assert beat.stat().st_mtime_ns == at

    assert group.set_frozen(False)
    wait_until(lambda: beat.stat().st_mtime_ns != at)

    assert group.set_frozen(True)
    child.end_all(pid, group)  # frozen processes die too, and the cgroup goes with them
    wait_until(lambda: group.remove() or not Path(group.path).exists())


def test_kernel_without_a_kill_file_kills_each(
    group: cgroup.Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = cgroup.Group._write
    monkeypatch.setattr(
        cgroup.Group,
        "_write",
        lambda self, name, value: name != "cgroup.kill" and write(self, name, value),
    )
    pid = start(group, tmp_path, "sleep 60 & sleep 60")
    group.kill()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_nothing_is_delegated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A folder that is no cgroup: what the kernel would have made there is missing.
    monkeypatch.setattr(cgroup, "own_path", lambda: str(tmp_path))
    assert cgroup.make() is None
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(cgroup, "own_path", lambda: str(tmp_path / "file" / "below"))
    (tmp_path / "file").touch()
    assert cgroup.make() is None
    monkeypatch.setattr(cgroup, "own_path", lambda: None)
    assert cgroup.make() is None


def test_gone_cgroup_takes_nothing(tmp_path: Path) -> None:
    group = cgroup.Group(str(tmp_path / "gone"))
    assert not group.set_frozen(True)
    group.kill()
    group.remove()
