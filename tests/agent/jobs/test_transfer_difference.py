"""Checkpoints that travel as differences, between two sites with real stores, servers and codec workers."""

import asyncio
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from agent.core import codec_plan
from agent.jobs.codec_worker import CodecWorker
from agent.jobs.transfer_difference import PACE_LIFE_S, DifferenceDesk, Pace
from tests.agent.jobs.codec.checkpoints import safetensors
from tests.agent.jobs.sites import CHUNK_BYTES, JOB, Site, fetch_order, ticket, tree
from tests.faults.proxy import proxy_to

WEIGHTS = 400_000
SLOW_BPS = 30e6
"""A link on which a difference pays for these checkpoints."""
PATIENT = {"stall_s": 30.0, "give_up_s": 60.0}
"""A codec's process takes seconds to start on a busy machine."""


def saved(folder: Path, step: int) -> Path:
    """A trainer's checkpoint: a frozen half and one that moved a little with each step."""
    path = folder / f"step-{step}"
    path.mkdir(parents=True)
    frozen = np.random.default_rng(1).standard_normal(WEIGHTS).astype("f4")
    weights = (0.02 * np.random.default_rng(2).standard_normal(WEIGHTS)).astype("f4")
    weights *= np.float32(1.0 + 1e-4 * step)
    safetensors(path / "model.safetensors", {"base": ("F32", frozen), "adapter": ("F32", weights)})
    return path


def ignore(done: int, total: int) -> None:
    pass


@pytest.fixture
def worker() -> CodecWorker:
    return CodecWorker(timeout_s=60.0)


@pytest.fixture
def harbor(tmp_path: Path, worker: CodecWorker) -> Site:
    return Site("harbor", tmp_path, settings=PATIENT, worker=worker)


@pytest.fixture
def ridge(tmp_path: Path, worker: CodecWorker) -> Site:
    return Site("ridge", tmp_path, settings=PATIENT, worker=worker)


@pytest.fixture(autouse=True)
def no_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """These checkpoints are small: let them be worth a worker's start."""
    monkeypatch.setattr(codec_plan, "WORKER_START_S", 0.0)


async def seal(site: Site, source: Path, step: int):
    return await site.store.seal(JOB, 1, step, source)


def order(site: Site, checkpoint, *, max_bps: float | None = SLOW_BPS, address: str | None = None):
    token = ticket("harbor", checkpoint.checkpoint_id, max_bps=None)
    return fetch_order(checkpoint.checkpoint_id, address or site.address, token, max_bps)


async def same_bytes(one: Site, other: Site, checkpoint) -> bool:
    folders = [await site.store.files_folder(checkpoint.checkpoint_id) for site in (one, other)]
    return tree(folders[0]) == tree(folders[1])


async def test_what_the_destination_has_is_not_sent(harbor, ridge, tmp_path):
    first = await seal(harbor, saved(tmp_path / "a", 100), 100)
    async with harbor.serving():
        before = await ridge.transfers.fetch(JOB, order(harbor, first, max_bps=None), ignore)
        last = await seal(harbor, saved(tmp_path / "b", 200), 200)
        after = await ridge.transfers.fetch(JOB, order(harbor, last), ignore)
    assert before.transferred_bytes == first.manifest.size_bytes
    # Half is the same, and of the other half the bytes that carry sign and exponent hardly moved.
    assert after.transferred_bytes < 0.45 * last.manifest.size_bytes
    assert after.goodput_bps is None
    assert after.checkpoint == last
    assert await same_bytes(harbor, ridge, last)
    ridge.restart()
    assert [c.manifest.step for c in await ridge.store.checkpoints(JOB)] == [200, 100]
    assert not tree(tmp_path / "ridge" / "staging")


async def test_a_fast_or_unknown_link_gets_the_checkpoint_as_it_is(harbor, ridge, tmp_path):
    first = await seal(harbor, saved(tmp_path / "a", 100), 100)
    last = await seal(harbor, saved(tmp_path / "b", 200), 200)
    async with harbor.serving():
        await ridge.transfers.fetch(JOB, order(harbor, first, max_bps=None), ignore)
        assert ridge.transfers._link_bps["harbor"] > 0
        ridge.transfers._link_bps["harbor"] = 50e9
        after = await ridge.transfers.fetch(JOB, order(harbor, last, max_bps=None), ignore)
    assert after.transferred_bytes == last.manifest.size_bytes


async def test_a_base_that_the_holder_let_go_of_means_a_plain_fetch(harbor, ridge, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = await seal(harbor, saved(tmp_path / "a", 100), 100)
    async with harbor.serving():
        await ridge.transfers.fetch(JOB, order(harbor, first, max_bps=None), ignore)
        last = await seal(harbor, saved(tmp_path / "b", 200), 200)
        shutil.rmtree(tmp_path / "harbor" / "sealed" / JOB / first.checkpoint_id)
        harbor.store._known = None
        after = await ridge.transfers.fetch(JOB, order(harbor, last), ignore)
    assert after.transferred_bytes == last.manifest.size_bytes
    assert "difference taken" not in caplog.text


async def test_a_cut_on_the_way_costs_no_more_than_the_difference(harbor, ridge, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = await seal(harbor, saved(tmp_path / "a", 100), 100)
    async with harbor.serving(), proxy_to(harbor.port) as proxy:
        await ridge.transfers.fetch(JOB, order(harbor, first, max_bps=None), ignore)
        last = await seal(harbor, saved(tmp_path / "b", 200), 200)
        proxy.faults.cut_after_bytes = 300_000
        after = await ridge.transfers.fetch(JOB, order(harbor, last, address=proxy.address), ignore)
    assert "difference broke off" in caplog.text
    assert after.checkpoint == last
    assert await same_bytes(harbor, ridge, last)
    assert after.transferred_bytes <= last.manifest.size_bytes + 300_000 + 4 * CHUNK_BYTES


async def test_a_base_with_other_bytes_than_it_should_have(harbor, ridge, tmp_path, caplog):
    first = await seal(harbor, saved(tmp_path / "a", 100), 100)
    async with harbor.serving():
        await ridge.transfers.fetch(JOB, order(harbor, first, max_bps=None), ignore)
        last = await seal(harbor, saved(tmp_path / "b", 200), 200)
        folder = await ridge.store.files_folder(first.checkpoint_id)
        with next(folder.rglob("*.safetensors")).open("r+b") as file:
            file.seek(1_000_000)
            file.write(b"flip")
        after = await ridge.transfers.fetch(JOB, order(harbor, last), ignore)
    assert "difference broke off" in caplog.text
    assert after.checkpoint == last
    assert await same_bytes(harbor, ridge, last)


async def test_cancelled_while_a_difference_comes_in(harbor, ridge, tmp_path):
    first = await seal(harbor, saved(tmp_path / "a", 100), 100)
    async with harbor.serving():
        await ridge.transfers.fetch(JOB, order(harbor, first, max_bps=None), ignore)
        last = await seal(harbor, saved(tmp_path / "b", 200), 200)
        progress = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            fetching = group.create_task(
                ridge.transfers.fetch(
                    JOB, order(harbor, last, max_bps=4e6), lambda done, _: done and progress.set()
                )
            )
            await asyncio.wait_for(progress.wait(), 20.0)
            fetching.cancel()
        ridge.restart()
        after = await ridge.transfers.fetch(JOB, order(harbor, last), ignore)
    assert after.checkpoint == last
    assert await same_bytes(harbor, ridge, last)


async def test_the_checkpoint_that_both_have_is_kept(harbor, ridge, tmp_path):
    first = await seal(harbor, saved(tmp_path / "a", 100), 100)
    async with harbor.serving():
        await ridge.transfers.fetch(JOB, order(harbor, first, max_bps=None), ignore)
    for step in (200, 300, 400):
        await seal(harbor, saved(tmp_path / "b", step), step)
        await harbor.store.keep_newest(JOB, 2)
        harbor.restart()
    assert [c.manifest.step for c in await harbor.store.checkpoints(JOB)] == [400, 300, 100]
    await harbor.store.mark_shared((await harbor.store.checkpoints(JOB))[0].checkpoint_id)
    await harbor.store.keep_newest(JOB, 2)
    assert [c.manifest.step for c in await harbor.store.checkpoints(JOB)] == [400, 300]
    await harbor.store.keep_newest(JOB, 0)
    assert await harbor.store.checkpoints(JOB) == ()


async def test_one_difference_at_a_time(harbor, ridge, tmp_path, worker):
    desk = DifferenceDesk(worker=worker, store=harbor.store)
    await desk._busy.acquire()
    first = await seal(harbor, saved(tmp_path / "a", 100), 100)
    async with harbor.serving(differences=desk):
        await ridge.transfers.fetch(JOB, order(harbor, first, max_bps=None), ignore)
        last = await seal(harbor, saved(tmp_path / "b", 200), 200)
        after = await ridge.transfers.fetch(JOB, order(harbor, last), ignore)
    assert after.transferred_bytes == last.manifest.size_bytes


@pytest.mark.parametrize(
    ("size_bytes", "link_bps", "pays"),
    [
        (10**9, 100e6, True),
        (10**9, 10e9, False),
        (10**6, 100e6, False),
        (24 * 10**9, 1e9, True),
    ],
)
def test_when_it_pays(monkeypatch, size_bytes, link_bps, pays):
    monkeypatch.setattr(codec_plan, "WORKER_START_S", 1.5)
    assert codec_plan.difference_pays(size_bytes, link_bps) is pays


def test_a_node_that_codes_slowly_is_not_asked_again_for_a_while(monkeypatch):
    monkeypatch.setattr(codec_plan, "WORKER_START_S", 1.5)
    assert codec_plan.difference_pays(10**9, 1e9)
    # 800 MB in 26 s over a link that carries them in 6.4 s: coding held it up.
    slow = codec_plan.coding_pace_bytes_s(10**9, 800 * 10**6, 26.0, 1e9)
    assert slow == pytest.approx(10**9 / 26.0)
    assert not codec_plan.difference_pays(10**9, 1e9, slow)
    assert codec_plan.difference_pays(10**9, 1e8, slow), "over a slower link it is still worth it"
    assert codec_plan.coding_pace_bytes_s(10**9, 800 * 10**6, 7.0, 1e9) is None
    pace = Pace()
    assert pace.coding_bytes_s(0.0) is None
    pace.note(slow, 100.0)
    assert pace.coding_bytes_s(200.0) == slow
    assert pace.coding_bytes_s(100.0 + PACE_LIFE_S + 1.0) is None
