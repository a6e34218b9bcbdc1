"""What is rotten, cut short, forged or stale is refused by name, and the last good checkpoint is still there.

Also a disk that is full or read-only under a running job: what cannot be sealed is said, the job trains on,
and goes on from what was sealed before.
"""

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.core import manifest as manifests
from agent.core.manifest import Layout
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.runner import Run
from agent.model.jobs import Checkpoint
from agent.model.jobs import JobPhase as P
from agent.model.orders import OrderResult, Release, Start, Stop
from agent.simulator import steplog
from sterna.clock import SystemClock
from sterna.errors import CorruptError
from tests.agent.jobs.conftest import Site, SpecMaker
from tests.agent.jobs.disks import mounted
from tests.waiting import until

JOB = "job-1"
CHUNK_BYTES = 16 * 1024
SIZES = {"a.bin": 40_000, "deep/b.bin": CHUNK_BYTES, "c.bin": 5, "empty": 0, "z.bin": 60_001}


def a_store(root: Path) -> CheckpointStore:
    return CheckpointStore(root / "store", SystemClock(), CHUNK_BYTES)


async def two_sealed(root: Path) -> tuple[CheckpointStore, Checkpoint, Checkpoint]:
    """Return a store with a good checkpoint, and a newer one that is to be harmed."""
    store, found = a_store(root), []
    for step in (10, 20):
        source = root / f"step-{step}"
        for name, size in SIZES.items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(size))
        found.append(await store.seal(JOB, 1, step, source))
    return store, found[0], found[1]


def chunks() -> range:
    return range(-(-sum(SIZES.values()) // CHUNK_BYTES))


@pytest.mark.parametrize("index", chunks())
async def test_a_bit_that_flips_in_any_chunk(tmp_path: Path, index: int) -> None:
    store, good, newer = await two_sealed(tmp_path)
    layout = Layout.of(newer.manifest)
    assert len(chunks()) == layout.chunks
    folder = await store.files_folder(newer.checkpoint_id)
    assert folder is not None
    extent = next(iter(layout.extents(index)))
    victim = folder / extent.path
    data = bytearray(victim.read_bytes())
    data[extent.offset_bytes + extent.length_bytes // 2] ^= 1 << (index % 8)
    victim.write_bytes(data)
    with pytest.raises(CorruptError, match=f"chunk {index} differs"):
        await store.materialize(newer.checkpoint_id, tmp_path / "run")
    assert not list((tmp_path / "run").glob("step-20*")), "no byte of it reaches a trainer"
    assert await store.checkpoints(JOB) == (good,)
    went_on = await store.materialize(good.checkpoint_id, tmp_path / "run")
    assert (went_on / "a.bin").read_bytes() == (tmp_path / "step-10" / "a.bin").read_bytes()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def emptied(_: bytes) -> bytes:
    return b""


def without_its_last_byte(data: bytes) -> bytes:
    return data[:-1]


def with_another_step(data: bytes) -> bytes:
    """A manifest that is sound in itself, and not the one that the folder is named by."""
    return data.replace(b'"step":20', b'"step":21')


@pytest.mark.parametrize("harm", [cut, emptied, without_its_last_byte, with_another_step])
async def test_a_manifest_on_disk_that_is_not_the_sealed_one(
    tmp_path: Path, harm: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    store, good, newer = await two_sealed(tmp_path)
    folder = await store.files_folder(newer.checkpoint_id)
    assert folder is not None
    manifest = folder.parent / "manifest.json"
    harmed = harm(manifest.read_bytes())
    assert harmed != manifest.read_bytes()
    manifest.write_bytes(harmed)
    with caplog.at_level(logging.ERROR):
        assert await a_store(tmp_path).checkpoints(JOB) == (good,)
    said = [record for record in caplog.records if "quarantined" in record.message]
    assert [record.checkpoint_id for record in said] == [newer.checkpoint_id]  # type: ignore[attr-defined]
    assert said[0].reason  # type: ignore[attr-defined]


@pytest.mark.parametrize("length", range(0, 400, 37))
async def test_no_beginning_of_a_manifest_is_one(tmp_path: Path, length: int) -> None:
    _, _, newer = await two_sealed(tmp_path)
    data = manifests.encode(newer.manifest)
    assert length < len(data)
    with pytest.raises(CorruptError):
        manifests.decode(data[:length])


async def test_a_lost_run_whose_newest_checkpoint_is_rotten_goes_on_from_the_one_before(
    site: Site, trainer: SpecMaker, tmp_path: Path
) -> None:
    await site.order(Start(spec=trainer(steps=60), checkpoint_id=None, lease_ttl_s=60.0))
    await until(lambda: (one := site.report()) and len(one.checkpoints) >= 2, "two sealed checkpoints")
    run = Run(next((site.jobs / "j1" / "runs").iterdir()))
    await site.down()
    run.nudge(signal.SIGKILL)  # a leased trainer goes with its shim
    await until(lambda: not run.look().alive and not run.has_processes(), "the end of the run")
    shutil.rmtree(run.checkpoint_dir)  # what it had not sealed is gone, too
    good, rotten = sorted(
        await CheckpointStore(site.root / "checkpoints", SystemClock()).checkpoints("j1"),
        key=lambda one: one.manifest.step,
    )[-2:]
    folder = site.root / "checkpoints" / "sealed" / "j1" / rotten.checkpoint_id / "files"
    victim = next(path for path in folder.rglob("*.npz"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)

    await site.up()
    assert (await site.phase(P.COMPLETED)).epoch == 1
    entries = steplog.parse((tmp_path / "steps.jsonl").read_text().splitlines())
    (_, again) = steplog.stints(entries)
    assert again.first_step == good.manifest.step + 1
    assert {entry.step for entry in entries} == set(range(1, 61))


async def test_a_released_job_s_checkpoint_that_another_site_finds_rotten_is_reported(
    site: Site, trainer: SpecMaker
) -> None:
    await site.order(Start(spec=trainer(steps=60), checkpoint_id=None, lease_ttl_s=60.0))
    await until(lambda: (one := site.report()) and len(one.checkpoints) >= 2, "two sealed checkpoints")
    await site.order(Stop(reason="", cancel=False))
    await site.phase(P.SEALED)
    await site.order(Release(keep_checkpoints=2), epoch=2)
    newest, good = (await site.phase(P.RELEASED)).checkpoints
    folder = await site.checkpoints.files_folder(newest.checkpoint_id)
    assert folder is not None
    victim = next(path for path in folder.rglob("*.npz"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    with pytest.raises(CorruptError, match="differs"):
        await site.checkpoints.recheck(newest.checkpoint_id)
    report = site.report()
    assert report is not None and report.checkpoints == (good,)


@pytest.fixture
def own_disk(tmp_path: Path) -> Iterator[Path]:
    """The site's checkpoints on a small disk of their own."""
    with mounted(tmp_path / "a" / "checkpoints", "4m") as disk:
        yield disk


def full(disk: Path, *, harmed: bool) -> None:
    """Fill the disk to its last byte, or make room."""
    ballast = disk / "ballast"
    if not harmed:
        ballast.unlink()
        return
    with ballast.open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free))


def read_only(disk: Path, *, harmed: bool) -> None:
    """Have the disk take no write, as the kernel does with one that fails."""
    subprocess.run(["mount", "-o", f"remount,{'ro' if harmed else 'rw'}", str(disk)], check=True)


@pytest.mark.parametrize(
    ("harm", "why"), [(full, "No space left on device"), (read_only, "Read-only file system")]
)
async def test_a_disk_that_takes_nothing_under_a_running_job(  # noqa: PLR0917 - fixtures and cases
    own_disk: Path,
    site: Site,
    trainer: SpecMaker,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[..., None],
    why: str,
) -> None:
    spec = trainer(steps=80)
    await site.order(Start(spec=spec, checkpoint_id=None, lease_ttl_s=None))
    await until(lambda: (one := site.report()) and len(one.checkpoints) >= 1, "a sealed checkpoint")
    harm(own_disk, harmed=True)
    refused = "checkpoint not sealed"
    await until(lambda: any(refused in record.message for record in caplog.records), refused)
    assert why in next(record.error for record in caplog.records if refused in record.message)  # type: ignore[attr-defined]
    report = site.report()
    assert report is not None and report.phase is P.RUNNING, "the job trains on"
    kept = report.checkpoints[0]

    ack = await site.order(Stop(reason="moves", cancel=False))
    assert ack.result is OrderResult.ACCEPTED
    stopped = await site.phase(P.SEALED)
    assert "last checkpoint not sealed" in stopped.message and why in stopped.message
    assert kept.checkpoint_id in [one.checkpoint_id for one in stopped.checkpoints]

    harm(own_disk, harmed=False)
    newest = stopped.checkpoints[0]
    await site.order(Start(spec=spec, checkpoint_id=newest.checkpoint_id, lease_ttl_s=None), epoch=2)
    assert (await site.phase(P.COMPLETED)).epoch == 2
    entries = steplog.parse((tmp_path / "steps.jsonl").read_text().splitlines())
    assert {entry.step for entry in entries} == set(range(1, 81))
    assert min(entry.step for entry in entries if entry.epoch == 2) == newest.manifest.step + 1
    assert steplog.double_runs(entries) == 0
