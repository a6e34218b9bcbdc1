"""What a disk does not give back is no better than wrong bytes: it goes to quarantine, the one before counts.

The disk is a real one, whose kernel says EIO; where none can be mounted these tests are skipped, and those at
the end have the read itself fail.
"""

import asyncio
import errno
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.jobs import checkpoint_files as disk
from agent.jobs.runner import Run
from agent.model.jobs import Checkpoint
from agent.model.jobs import JobPhase as P
from agent.model.orders import Start
from agent.simulator import steplog
from sterna.errors import CorruptError, PermanentError
from tests.agent.jobs import sites
from tests.agent.jobs.conftest import Site, SpecMaker
from tests.agent.jobs.disks import FailingDisk, failing
from tests.waiting import until

LOST = "Input/output error"


@pytest.fixture
def harbor_disk(tmp_path: Path) -> Iterator[FailingDisk]:
    with failing(tmp_path / "harbor") as mounted:
        yield mounted


async def two_sealed(root: Path) -> tuple[sites.Site, Checkpoint, Checkpoint, Path]:
    """Return a site with a good checkpoint and a newer one, and a file of the newer that is to be lost."""
    site = sites.Site("harbor", root)
    good, newer = [await sites.sealed(site, root, step=step) for step in (3, 7)]
    folder = await site.store.files_folder(newer.checkpoint_id)
    assert folder is not None
    site.restart()  # else it trusts what it has just verified
    return site, good, newer, folder / "step-7" / "w.npz"


async def as_it_was(site: sites.Site, checkpoint: Checkpoint, root: Path) -> bool:
    back = await site.store.materialize(checkpoint.checkpoint_id, root / "run")
    return sites.tree(back) == sites.tree(root / back.name)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.reason for one in caplog.records if one.message == "checkpoint is corrupt, quarantined"]  # type: ignore[attr-defined]


async def test_a_start_goes_on_from_the_one_before(
    harbor_disk: FailingDisk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site, good, newer, victim = await two_sealed(tmp_path)
    harbor_disk.lose(victim)
    with pytest.raises(CorruptError, match=LOST):
        await site.store.materialize(newer.checkpoint_id, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir()), "no byte of it reaches a trainer"
    (reason,) = said(caplog)
    assert LOST in reason and "w.npz" in reason
    assert await site.store.checkpoints(sites.JOB) == (good,)
    assert await as_it_was(site, good, tmp_path)


@pytest.mark.parametrize("dialler", ["receiver", "holder"])
async def test_a_holder_that_cannot_read_says_so_and_lists_it_no_longer(
    harbor_disk: FailingDisk, tmp_path: Path, dialler: str, caplog: pytest.LogCaptureFixture
) -> None:
    harbor, good, newer, victim = await two_sealed(tmp_path)
    ridge = sites.Site("ridge", tmp_path, settings={"give_up_s": 1.0})
    harbor_disk.lose(victim)
    told = []
    harbor.store.watch(lambda job_id, left: told.append((job_id, left)))
    identity = newer.checkpoint_id
    if dialler == "receiver":
        async with harbor.serving():
            order = sites.fetch_order(identity, harbor.address, sites.ticket("harbor", identity))
            # A second stream may come when the first has found it out.
            with pytest.raises(PermanentError, match=f"DATA_LOSS.*{LOST}|NOT_FOUND"):
                await ridge.transfers.fetch(sites.JOB, order, lambda _done, _total: None)
    else:
        async with ridge.serving():
            waiting = ridge.transfers.fetch(
                sites.JOB, sites.fetch_order(identity, None, ""), lambda _done, _total: None
            )
            offer = sites.offer_order(identity, ridge.address, sites.ticket("ridge", identity))
            results = await asyncio.gather(
                waiting, harbor.transfers.offer(sites.JOB, offer), return_exceptions=True
            )
        assert isinstance(results[1], CorruptError) and LOST in str(results[1])
    (reason,) = said(caplog)
    assert LOST in reason
    assert await harbor.store.checkpoints(sites.JOB) == (good,)
    assert told == [(sites.JOB, (good,))]
    assert await ridge.store.checkpoints(sites.JOB) == ()


async def test_a_manifest_that_cannot_be_read(
    harbor_disk: FailingDisk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site, good, _, victim = await two_sealed(tmp_path)
    harbor_disk.lose(victim.parents[2] / "manifest.json")
    site.restart()
    assert await site.store.checkpoints(sites.JOB) == (good,)
    (record,) = [one for one in caplog.records if "is not usable" in one.message]
    assert LOST in record.reason  # type: ignore[attr-defined]


async def test_what_has_arrived_and_cannot_be_read_again_is_fetched_anew(tmp_path: Path) -> None:
    harbor, _, newer, _ = await two_sealed(tmp_path / "else")
    identity = newer.checkpoint_id
    with failing(tmp_path / "ridge") as mounted:
        ridge = sites.Site("ridge", tmp_path)
        async with harbor.serving():
            order = sites.fetch_order(identity, harbor.address, sites.ticket("harbor", identity))
            staging = await ridge.store.fetch_staging(sites.JOB, identity)

            def half(done: int, total: int) -> None:
                if done > total // 2:
                    raise PermanentError("enough for now")

            with pytest.raises(PermanentError, match="enough"):
                await ridge.transfers.fetch(sites.JOB, order, half)
            mounted.lose(staging / "files" / "step-7" / "w.npz")
            result = await ridge.transfers.fetch(sites.JOB, order, lambda _done, _total: None)
        assert result.checkpoint == newer
        assert await as_it_was(ridge, newer, tmp_path / "else")


@pytest.fixture
def own_disk(tmp_path: Path) -> Iterator[FailingDisk]:
    """The checkpoints of `site` on a disk of their own."""
    with failing(tmp_path / "a" / "checkpoints") as mounted:
        yield mounted


async def test_a_lost_run_goes_on_from_what_the_disk_still_gives(
    own_disk: FailingDisk, site: Site, trainer: SpecMaker, tmp_path: Path
) -> None:
    await site.order(Start(spec=trainer(steps=60), checkpoint_id=None, lease_ttl_s=60.0))
    await until(lambda: (one := site.report()) and len(one.checkpoints) >= 2, "two sealed checkpoints")
    run = Run(next((site.jobs / "j1" / "runs").iterdir()))
    await site.down()
    run.nudge(signal.SIGKILL)
    await until(lambda: not run.look().alive and not run.has_processes(), "the end of the run")
    shutil.rmtree(run.checkpoint_dir)
    newest, *older = await site.checkpoints.checkpoints("j1")
    own_disk.lose(next((own_disk.folder / "sealed" / "j1" / newest.checkpoint_id).rglob("*.npz")))

    await site.up()
    assert (await site.phase(P.COMPLETED)).epoch == 1
    entries = steplog.parse((tmp_path / "steps.jsonl").read_text().splitlines())
    (_, again) = steplog.stints(entries)
    # What lay behind it on the disk is lost, too: at the worst that is all there was.
    assert again.first_step - 1 in {one.manifest.step for one in older} | {0}
    assert {entry.step for entry in entries} == set(range(1, 61))


def test_the_kernel_s_own_error() -> None:
    memory = Path("/proc/self/mem")  # nothing is at address 0
    with memory.open("rb", buffering=0) as file, pytest.raises(disk.UnreadableError, match="/proc/self/mem"):
        disk.reading(memory, lambda: os.pread(file.fileno(), 16, 0))


def failing_read(monkeypatch: pytest.MonkeyPatch, victim: Path, times: float) -> Callable[[], int]:
    """Have reads of a file fail so many times; returns what tells how often they did."""
    inode, real, failed = victim.stat().st_ino, os.preadv, 0

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal failed
        if os.fstat(fd).st_ino == inode and failed < times:
            failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    return lambda: failed


async def test_an_error_that_passes_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, good, newer, victim = await two_sealed(tmp_path)
    failed = failing_read(monkeypatch, victim, 1)
    await site.store.recheck(newer.checkpoint_id)
    assert failed() == 1
    assert await site.store.checkpoints(sites.JOB) == (newer, good)
    assert await as_it_was(site, newer, tmp_path)


async def test_one_that_lasts_is_rot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site, good, newer, victim = await two_sealed(tmp_path)
    failed = failing_read(monkeypatch, victim, float("inf"))
    with caplog.at_level(logging.ERROR), pytest.raises(CorruptError, match=LOST):
        await site.store.recheck(newer.checkpoint_id)
    assert failed() == 2
    assert str(victim) in said(caplog)[0]
    assert await site.store.checkpoints(sites.JOB) == (good,)


async def test_what_a_trainer_wrote_and_the_disk_lost_is_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, good, newer, _ = await two_sealed(tmp_path)
    source = tmp_path / "step-9"
    source.mkdir()
    (source / "w.npz").write_bytes(os.urandom(100_000))
    failing_read(monkeypatch, source / "w.npz", float("inf"))
    with pytest.raises(CorruptError, match=LOST):
        await site.store.seal(sites.JOB, 1, 9, source)
    assert await site.store.checkpoints(sites.JOB) == (newer, good)


def test_other_errors_are_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk.reading(tmp_path / "none", (tmp_path / "none").read_bytes)
    with pytest.raises(IsADirectoryError):
        disk.reading(tmp_path, tmp_path.read_bytes)
