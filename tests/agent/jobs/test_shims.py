"""Starting shims through the door of systemd, and what becomes of a launch that it does not serve."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.jobs.launch import Launcher
from agent.jobs.runner import Run
from agent.jobs.shims import UnitShims, units_are_possible
from agent.model.records import JobRecord, Lease
from agent.shim import files
from sterna.errors import TransientError
from tests.agent.jobs.conftest import shell
from tests.agent.shim.door import Door
from tests.waiting import until


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with Door(tmp_path / "door") as door:
        yield door


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "runs" / "r1")


@pytest.fixture
def record() -> JobRecord:
    lease = Lease(ttl_s=None, expires_s=None, boot_id=files.boot_id())
    return JobRecord(job_id="j1", epoch=1, run_id="r1", spec=shell("sleep 60"), lease=lease)


async def test_launched_once_and_stopped_by_file(door: Door, run: Run, record: JobRecord) -> None:
    launcher = Launcher(site_id="a", environ=os.environ, shims=UnitShims(door.path))
    assert await launcher.launch(run, record, None)
    await until(run.identity, "the shim says who it is")
    identity = run.identity()
    assert identity is not None
    assert identity.pid == door.shims[0].pid
    assert not await launcher.launch(run, record, None)  # its lock is taken
    run.request_stop("test", 0.5)
    await until(lambda: not run.is_alive(), "the run ended")
    assert run.look().exit is not None


async def test_nobody_at_the_door(tmp_path: Path, run: Run, record: JobRecord) -> None:
    launcher = Launcher(site_id="a", environ=os.environ, shims=UnitShims(tmp_path / "none"))
    with pytest.raises(TransientError, match=r"run r1: .*none: .*No such file"):
        await launcher.launch(run, record, None)
    assert not run.is_alive()


@pytest.mark.parametrize(
    ("says", "reason"), [(b"", "closed without an answer"), (b"refused: x", "refused: x")]
)
async def test_door_that_refuses(
    tmp_path: Path, run: Run, record: JobRecord, says: bytes, reason: str
) -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            if says:
                connection.send(says)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "door"))
        listener.listen()
        launcher = Launcher(site_id="a", environ=os.environ, shims=UnitShims(tmp_path / "door"))
        serving = asyncio.get_running_loop().run_in_executor(None, serve, listener)
        with pytest.raises(TransientError, match=reason):
            await launcher.launch(run, record, None)
        await serving
    assert not run.is_alive()


async def test_door_that_never_answers(tmp_path: Path, run: Run, record: JobRecord) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "door"))
        listener.listen()
        shims = UnitShims(tmp_path / "door", timeout_s=0.1)
        with pytest.raises(TransientError, match="no answer in time"):
            await Launcher(site_id="a", environ=os.environ, shims=shims).launch(run, record, None)
        # The lock waits in the listener's queue: until that is known to be gone, the run counts as alive.
        assert run.is_alive()
    await until(lambda: not run.is_alive(), "the kernel gave the lock back")


def test_possible_only_where_systemd_runs_and_listens(tmp_path: Path, door: Door) -> None:
    assert units_are_possible(door.path, systemd_runs=tmp_path)
    assert not units_are_possible(door.path, systemd_runs=tmp_path / "none")
    assert not units_are_possible(tmp_path / "none", systemd_runs=tmp_path)
    (tmp_path / "file").touch()
    assert not units_are_possible(tmp_path / "file", systemd_runs=tmp_path)
