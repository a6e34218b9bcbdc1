"""What becomes of a run's lock when its launch does not go through."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from agent.jobs.launch import Launcher
from agent.jobs.runner import Run
from agent.model.records import JobRecord, Lease
from agent.shim import files
from sterna.errors import TransientError
from tests.agent.jobs.conftest import shell


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "runs" / "r1")


@pytest.fixture
def record() -> JobRecord:
    lease = Lease(ttl_s=None, expires_s=None, boot_id=files.boot_id())
    return JobRecord(job_id="j1", epoch=1, run_id="r1", spec=shell("sleep 60"), lease=lease)


async def test_cancelled_while_it_takes_the_lock(
    run: Run, record: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, go = threading.Event(), threading.Event()
    take = run.try_lock

    def slowly() -> int | None:
        here.set()
        go.wait(10.0)
        return take()

    monkeypatch.setattr(run, "try_lock", slowly)
    launcher = Launcher(site_id="a", environ=os.environ)
    async with asyncio.TaskGroup() as group:
        launching = group.create_task(launcher.launch(run, record, None))
        await asyncio.to_thread(here.wait, 10.0)
        launching.cancel()
        await asyncio.sleep(0)
        go.set()
    assert launching.cancelled()
    assert not run.is_alive()
    assert files.read_record(str(run.directory), files.RUN) is not None  # it had got that far


async def test_disk_that_takes_the_lock_but_no_record(
    run: Run, record: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_fields: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_record", full)
    launcher = Launcher(site_id="a", environ=os.environ)
    for _ in range(2):
        with pytest.raises(TransientError, match="No space left"):
            await launcher.launch(run, record, None)
        assert not run.is_alive()
