"""Checkpoints that look whole and are not: after a power cut, and at a holder that sealed rubbish."""

import asyncio
import signal
import threading
from pathlib import Path

import pytest

from agent.core import manifest as manifests
from agent.jobs.checkpoint_taking import Taking, Wanted
from agent.jobs.runner import Run
from agent.model.jobs import Checkpoint
from agent.model.jobs import JobPhase as P
from agent.model.orders import Fetch, Offer, OrderResult, Start
from agent.shim import files
from agent.simulator import steplog
from sterna.clock import SystemClock
from sterna.errors import CorruptError, PermanentError
from tests.agent.jobs import sites
from tests.agent.jobs.conftest import Site, SpecMaker
from tests.waiting import until


async def with_an_unsealed_checkpoint(site: Site, spec_of: SpecMaker) -> tuple[Run, int]:
    """Have a job train on while the agent is away; return its run and the step that was sealed last."""
    await site.order(Start(spec=spec_of(steps=400), checkpoint_id=None, lease_ttl_s=None))
    await until(lambda: (one := site.report()) and one.checkpoints, "a sealed checkpoint")
    await site.down()
    sealed_step = max(one.manifest.step for one in await site.checkpoints.checkpoints("j1"))
    (run_id,) = site.run_ids()
    run = Run(site.jobs / "j1" / "runs" / run_id)
    await until(lambda: (run.look().progress.saved or 0) and newest_saved(run) > sealed_step, "another save")
    return run, sealed_step


def newest_saved(run: Run) -> int:
    saved = run.look().progress.saved
    return saved.step if saved is not None else 0


async def cut_the_power(run: Run) -> None:
    """End shim and trainer at once: nobody gets to write anything any more."""
    who = run.identity()
    assert who is not None
    files.signal_process(who.pid, who.start_ticks, signal.SIGSTOP)
    for pid, ticks in files.processes_of_run(run.run_id):
        files.signal_process(pid, ticks, signal.SIGKILL)
    files.signal_process(who.pid, who.start_ticks, signal.SIGKILL)
    await until(lambda: not run.is_alive(), "the shim is gone")


async def test_what_was_not_sealed_before_a_power_cut_is_not_gone_on_from(
    site: Site, trainer: SpecMaker, tmp_path: Path
) -> None:
    run, sealed_step = await with_an_unsealed_checkpoint(site, trainer)
    await cut_the_power(run)
    saved = run.look().progress.saved
    assert saved is not None and saved.step > sealed_step
    for path in (one for one in saved.path.rglob("*") if one.is_file() and one.suffix != ".json"):
        path.write_bytes(bytes(path.stat().st_size))  # what a file system may leave of what nobody synced
    site.boot_id = "another-boot"
    await site.up()
    report = await site.phase(P.SEALED)
    assert "last checkpoint not sealed: it was written before the machine went down" in report.message
    newest = report.checkpoints[0]
    assert newest.manifest.step == sealed_step
    assert saved.path.exists(), "it stays for a look"
    await site.down()
    site.boot_id = files.boot_id()  # shims cannot be made to believe in another boot
    await site.up()
    ack = await site.order(
        Start(spec=trainer(steps=sealed_step + 5), checkpoint_id=newest.checkpoint_id, lease_ttl_s=None),
        epoch=2,
    )
    assert ack.result is OrderResult.ACCEPTED
    await site.phase(P.COMPLETED)
    entries = steplog.parse((tmp_path / "steps.jsonl").read_text().splitlines())
    assert min(entry.step for entry in entries if entry.epoch == 2) == sealed_step + 1


async def test_what_an_orderly_end_of_the_machine_left_is_sealed(site: Site, trainer: SpecMaker) -> None:
    run, sealed_step = await with_an_unsealed_checkpoint(site, trainer)
    assert run.nudge(signal.SIGTERM)
    await until(lambda: not run.is_alive(), "the shim has stopped its job")
    site.boot_id = "another-boot"
    await site.up()
    report = await site.phase(P.SEALED)
    assert "not sealed" not in report.message
    assert report.checkpoints[0].manifest.step == newest_saved(run) > sealed_step
    await until(lambda: not run.checkpoint_dir.exists(), "what the trainer left is dropped")


async def rubbish(site: sites.Site, folder: Path) -> Checkpoint:
    """Have a holder keep what an agent of another version might have taken for a checkpoint."""
    source = folder / "step-9"
    source.mkdir()
    (source / "notes.txt").write_bytes(b"x" * 1000)
    staging = await site.store.fetch_staging(sites.JOB, "0" * 64)
    wanted = Wanted(job_id=sites.JOB, epoch=1, step=9, source=source, files=None, left_in=None)
    take = Taking(chunk_bytes=sites.CHUNK_BYTES, clock=SystemClock())
    manifest = take(wanted, staging / "files", threading.Event())
    torn = staging / "files" / "step-9" / "model.safetensors"
    (staging / "files" / "step-9" / "notes.txt").rename(torn)
    renamed = manifests.from_dict(
        {
            **manifests.to_dict(manifest),
            "files": [{"path": "step-9/model.safetensors", "size_bytes": 1000}],
        }
    )
    return await site.store.publish(staging, renamed)


@pytest.mark.parametrize("dials", ["receiver", "holder"])
async def test_what_no_trainer_could_load_is_never_held(tmp_path: Path, dials: str) -> None:
    harbor, ridge = sites.Site("harbor", tmp_path), sites.Site("ridge", tmp_path)
    checkpoint = await rubbish(harbor, tmp_path)
    async with harbor.serving(), ridge.serving():
        if dials == "receiver":
            token = sites.ticket("harbor", checkpoint.checkpoint_id)
            order = sites.fetch_order(checkpoint.checkpoint_id, harbor.address, token)
            with pytest.raises(CorruptError, match=r"cannot be loaded: model\.safetensors is cut off"):
                await ridge.transfers.fetch(sites.JOB, order, lambda *_: None)
        else:
            token = sites.ticket("ridge", checkpoint.checkpoint_id)
            offer = sites.offer_order(checkpoint.checkpoint_id, ridge.address, token)
            order = sites.fetch_order(checkpoint.checkpoint_id, None, "")
            async with asyncio.TaskGroup() as group:
                fetching = group.create_task(refused(ridge, order))
                offering = group.create_task(refused_offer(harbor, offer))
            assert "cannot be loaded" in fetching.result()
            assert "cannot be loaded" in offering.result()
    assert await ridge.store.checkpoints(sites.JOB) == ()


async def refused(site: sites.Site, order: Fetch) -> str:
    with pytest.raises(CorruptError) as caught:
        await site.transfers.fetch(sites.JOB, order, lambda *_: None)
    return str(caught.value)


async def refused_offer(site: sites.Site, order: Offer) -> str:
    with pytest.raises(PermanentError) as caught:
        await site.transfers.offer(sites.JOB, order)
    return str(caught.value)
