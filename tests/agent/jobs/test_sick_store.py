"""A store whose folder cannot be read when the agent starts: jobs go on, and nothing is lost."""

import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.jobs import checkpoint_access
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.runner import Run
from agent.model.jobs import JobPhase as P
from agent.model.orders import OrderResult, Prepare, Start, Stop
from agent.simulator import steplog
from sterna.clock import FakeClock
from sterna.errors import TransientError
from tests.agent.jobs import sites
from tests.agent.jobs.conftest import Site, SpecMaker
from tests.waiting import until


@pytest.fixture
def sicken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | None], list[int]]:
    """Have listing one folder fail as on a disk that lost its block; None: no more. Returns each try."""
    real, sick, tries = os.listdir, None, []

    def listdir(path: object = ".") -> list[str]:
        if sick is not None and isinstance(path, (str, Path)) and Path(path) == sick:
            tries.append(1)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path)  # type: ignore[arg-type,return-value]

    def lose(folder: Path | None) -> list[int]:
        nonlocal sick
        sick = folder
        return tries

    monkeypatch.setattr(os, "listdir", listdir)
    return lose


async def test_a_job_that_runs_goes_on_and_is_told_of_when_the_folder_is_back(
    site: Site,
    trainer: SpecMaker,
    tmp_path: Path,
    sicken: Callable[[Path | None], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint_access, "RETRY_S", 0.2)
    await site.order(Start(spec=trainer(steps=150), checkpoint_id=None, lease_ttl_s=60.0))
    await until(lambda: (one := site.report()) and one.checkpoints, "a sealed checkpoint")
    await site.down()
    kept = {path.name for path in (site.root / "checkpoints" / "sealed" / "j1").iterdir()}
    sicken(site.root / "checkpoints" / "sealed" / "j1")
    site.reports.clear()
    await site.up()
    fault = site.keeper.storage_fault
    assert str(site.root / "checkpoints") in fault and "Input/output error" in fault
    assert (site.keeper.slots, site.checkpoints.free_bytes()) == (0, 0)
    (report,) = site.keeper.reports()
    assert report.checkpoints_unknown and report.checkpoints == ()
    assert report.phase is P.RUNNING and report.pid
    for action in (
        Prepare(spec=trainer(), checkpoint_bytes=1, expires_after_s=9.0),
        Start(spec=trainer(), checkpoint_id=None, lease_ttl_s=None),
    ):
        ack = await site.order(action, job_id="j2", epoch=1, migration="m")
        assert ack.result is OrderResult.REFUSED and "Input/output error" in ack.reason
    assert (
        await site.order(Stop(reason="asked", cancel=False), migration="m")
    ).result is OrderResult.REFUSED, "it trains on"

    sicken(None)
    await until(lambda: not site.keeper.storage_fault, "the store is read again")
    await until(lambda: (one := site.report()) and one.checkpoints, "its checkpoints in a report")
    assert site.keeper.slots == 2
    done = await site.phase(P.COMPLETED)
    assert not done.checkpoints_unknown and done.epoch == 1
    entries = steplog.parse((tmp_path / "steps.jsonl").read_text().splitlines())
    assert len(steplog.stints(entries)) == 1, "one process, from the first step to the last"
    quarantine = site.root / "checkpoints" / "quarantine"
    assert kept and not list(quarantine.rglob("manifest.json"))


async def test_a_job_that_ends_meanwhile_is_judged_with_all_that_is_there(
    site: Site,
    trainer: SpecMaker,
    sicken: Callable[[Path | None], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint_access, "RETRY_S", 0.2)
    await site.order(Start(spec=trainer(steps=60), checkpoint_id=None, lease_ttl_s=60.0))
    await until(lambda: (one := site.report()) and one.checkpoints, "a sealed checkpoint")
    await site.down()
    sicken(site.root / "checkpoints" / "sealed")
    await site.up()
    await site.order(Stop(reason="asked", cancel=False))
    await site.phase(P.STOPPING)
    run = Run(site.jobs / "j1" / "runs" / site.run_ids()[0])
    await until(lambda: not run.look().alive, "the end of the process")
    assert site.keeper.reports()[0].phase is P.STOPPING, "nobody knows yet what it can go on from"
    sicken(None)
    sealed = await site.phase(P.SEALED)
    assert sealed.checkpoints and sealed.checkpoints[0].manifest.step == sealed.step


async def test_a_sick_disk_is_not_asked_all_the_time(
    tmp_path: Path, sicken: Callable[[Path | None], list[int]]
) -> None:
    clock = FakeClock(datetime(2026, 6, 1, 12, tzinfo=UTC))
    store = CheckpointStore(tmp_path / "checkpoints", clock)
    tries = sicken(tmp_path / "checkpoints" / "sealed")
    for _ in range(3):
        with pytest.raises(TransientError, match=r"folder .* cannot be read: .*Input/output error"):
            await store.checkpoints(sites.JOB)
    assert len(tries) == 1
    sicken(None)
    clock.advance(checkpoint_access.RETRY_S)
    assert await store.checkpoints(sites.JOB) == ()
    assert store.fault == ""
