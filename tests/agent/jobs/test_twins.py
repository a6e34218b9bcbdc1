"""The copy that a trainer resumes from, made while its checkpoint arrives, over real transfers."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.core import manifest as manifests
from agent.core.bitmap import Bitmap
from agent.jobs import checkpoint_files as disk
from agent.jobs.checkpoint_pass import ChunkPass
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.twins import TRUST_S, Twin, Twins
from agent.model.jobs import Checkpoint
from sterna.clock import FakeClock, SystemClock
from sterna.errors import PermanentError
from tests.agent.jobs.sites import CHUNK_BYTES, JOB, Site, fetch_order, sealed, ticket, tree
from tests.faults.proxy import proxy_to
from tests.waiting import until


@pytest.fixture
def harbor(tmp_path):
    return Site(name="harbor", root=tmp_path)


@pytest.fixture
def ridge(tmp_path):
    return Site(name="ridge", root=tmp_path)


@pytest.fixture
def twins(ridge):
    return Twins(store=ridge.store, clock=SystemClock())


def order_to(checkpoint, address: str):
    identity = checkpoint.checkpoint_id
    return replace(fetch_order(identity, address, ticket("harbor", identity)), for_start=True)


def twin_folder(tmp_path: Path, checkpoint) -> Path:
    return tmp_path / "ridge" / "staging" / JOB / f"twin-{checkpoint.checkpoint_id}"


async def brought(twins: Twins, ridge: Site, order) -> None:
    async with twins.beside(JOB, order) as arrived:
        await ridge.transfers.fetch(JOB, order, lambda _done, _total: arrived())


async def test_a_start_moves_the_copy_that_was_made_meanwhile(harbor, ridge, twins, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    async with harbor.serving():
        await brought(twins, ridge, order_to(checkpoint, harbor.address))
    made = twin_folder(tmp_path, checkpoint) / "step-7" / "w.npz"
    inode = made.stat().st_ino
    at = await twins.materialize(checkpoint.checkpoint_id, tmp_path / "resume")
    assert at == tmp_path / "resume" / "step-7"
    assert (at / "w.npz").stat().st_ino == inode, "moved, not copied"
    stored = await ridge.store.files_folder(checkpoint.checkpoint_id)
    assert tree(at) == tree(stored / "step-7")
    assert not twin_folder(tmp_path, checkpoint).exists()
    (at / "w.npz").write_bytes(b"the trainer goes on")
    again = await twins.materialize(checkpoint.checkpoint_id, tmp_path / "again")
    assert tree(again) == tree(stored / "step-7"), "what is stored is out of the trainer's reach"


async def test_it_follows_while_the_checkpoint_arrives(harbor, ridge, twins, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    wanted = (await harbor.store.files_folder(checkpoint.checkpoint_id)) / "step-7" / "w.npz"
    order = replace(order_to(checkpoint, ""), max_bps=4e6)
    followed = asyncio.Event()
    made = twin_folder(tmp_path, checkpoint) / "step-7" / "w.npz"

    def look() -> bool:
        return made.exists() and made.read_bytes()[:CHUNK_BYTES] == wanted.read_bytes()[:CHUNK_BYTES]

    async with harbor.serving(), asyncio.TaskGroup() as group:
        order = replace(order, holder_address=harbor.address)
        bringing = group.create_task(brought(twins, ridge, order))
        await until(look, "the first chunk is copied")
        assert await ridge.store.get(checkpoint.checkpoint_id) is None, "most of it is still to come"
        followed.set()
        bringing.cancel()
    assert not twin_folder(tmp_path, checkpoint).exists(), "dropped with the fetch"


async def test_cuts_do_not_matter_to_it(harbor, ridge, twins, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    async with harbor.serving(), proxy_to(harbor.port) as proxy:
        proxy.faults.cut_after_bytes = checkpoint.manifest.size_bytes // 3
        await brought(twins, ridge, order_to(checkpoint, proxy.address))
        assert proxy.faults.connections > 2
    inode = (twin_folder(tmp_path, checkpoint) / "step-7" / "w.npz").stat().st_ino
    at = await twins.materialize(checkpoint.checkpoint_id, tmp_path / "resume")
    stored = await ridge.store.files_folder(checkpoint.checkpoint_id)
    assert tree(at) == tree(stored / "step-7")
    assert (at / "w.npz").stat().st_ino == inode


async def test_what_is_sent_ahead_is_not_copied(harbor, ridge, twins, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    async with harbor.serving():
        order = replace(order_to(checkpoint, harbor.address), for_start=False)
        await brought(twins, ridge, order)
    assert not twin_folder(tmp_path, checkpoint).exists()
    at = await twins.materialize(checkpoint.checkpoint_id, tmp_path / "resume")
    assert tree(at) == tree((await ridge.store.files_folder(checkpoint.checkpoint_id)) / "step-7")


async def test_a_start_waits_for_the_rest_of_it(harbor, ridge, twins, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    order = order_to(checkpoint, "")
    async with harbor.serving(), asyncio.TaskGroup() as group:
        order = replace(order, holder_address=harbor.address)
        async with twins.beside(JOB, order) as arrived:
            await ridge.transfers.fetch(JOB, order, lambda _done, _total: arrived())
            start = group.create_task(twins.materialize(checkpoint.checkpoint_id, tmp_path / "resume"))
            await asyncio.sleep(0)
            assert not start.done()
    assert tree(start.result()) == tree((await ridge.store.files_folder(checkpoint.checkpoint_id)) / "step-7")
    assert not twin_folder(tmp_path, checkpoint).exists()


async def test_an_old_copy_is_not_believed(harbor, ridge, tmp_path):
    clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    twins = Twins(store=ridge.store, clock=clock)
    checkpoint = await sealed(harbor, tmp_path)
    async with harbor.serving():
        await brought(twins, ridge, order_to(checkpoint, harbor.address))
    made = twin_folder(tmp_path, checkpoint) / "step-7" / "w.npz"
    made.write_bytes(b"rotten")
    clock.advance(TRUST_S + 1)
    at = await twins.materialize(checkpoint.checkpoint_id, tmp_path / "resume")
    assert tree(at) == tree((await ridge.store.files_folder(checkpoint.checkpoint_id)) / "step-7")
    assert not twin_folder(tmp_path, checkpoint).exists()


async def test_a_checkpoint_in_quarantine_has_no_copy_either(harbor, ridge, twins, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    async with harbor.serving():
        await brought(twins, ridge, order_to(checkpoint, harbor.address))
    await ridge.store.quarantine(checkpoint.checkpoint_id, "for a trial")
    with pytest.raises(PermanentError, match="no checkpoint"):
        await twins.materialize(checkpoint.checkpoint_id, tmp_path / "resume")
    assert not twin_folder(tmp_path, checkpoint).exists()


async def test_without_room_for_two_there_is_none(harbor, ridge, twins, tmp_path, monkeypatch):
    checkpoint = await sealed(harbor, tmp_path)
    room_bytes = 2 * checkpoint.manifest.size_bytes - 1
    monkeypatch.setattr(CheckpointStore, "free_bytes", lambda _: room_bytes)
    async with harbor.serving():
        await brought(twins, ridge, order_to(checkpoint, harbor.address))
    assert not twin_folder(tmp_path, checkpoint).exists()
    at = await twins.materialize(checkpoint.checkpoint_id, tmp_path / "resume")
    assert tree(at) == tree((await ridge.store.files_folder(checkpoint.checkpoint_id)) / "step-7")


async def test_a_new_fetch_drops_the_copy_of_the_last(harbor, ridge, twins, tmp_path):
    first, second = [await sealed(harbor, tmp_path, step=step) for step in (7, 8)]
    async with harbor.serving():
        for checkpoint in (first, second):
            await brought(twins, ridge, order_to(checkpoint, harbor.address))
    assert not twin_folder(tmp_path, first).exists()
    assert twin_folder(tmp_path, second).exists()


async def test_a_restart_of_the_agent_drops_it(harbor, ridge, twins, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    async with harbor.serving():
        await brought(twins, ridge, order_to(checkpoint, harbor.address))
    assert twin_folder(tmp_path, checkpoint).exists()
    ridge.restart()
    await ridge.store.checkpoints(JOB)
    assert not twin_folder(tmp_path, checkpoint).exists()
    fresh = Twins(store=ridge.store, clock=SystemClock())
    at = await fresh.materialize(checkpoint.checkpoint_id, tmp_path / "resume")
    assert tree(at) == tree((await ridge.store.files_folder(checkpoint.checkpoint_id)) / "step-7")


async def staged(harbor: Site, folder: Path) -> tuple[Checkpoint, Path]:
    """Lay a checkpoint out as if it were arriving, its first chunk verified."""
    checkpoint = await sealed(harbor, folder)
    staging = folder / "fetch-x"
    staging.mkdir()
    (await harbor.store.files_folder(checkpoint.checkpoint_id)).rename(staging / "files")
    (staging / "manifest.json").write_bytes(manifests.encode(checkpoint.manifest))
    received = Bitmap(len(checkpoint.manifest.chunk_hashes))
    received.add(0)
    staging.with_name("fetch-x.received").write_bytes(received.to_bytes())
    return checkpoint, staging


def twin_of(checkpoint: Checkpoint, staging: Path) -> Twin:
    return Twin(
        checkpoint_id=checkpoint.checkpoint_id,
        staging=staging,
        folder=staging.with_name("twin-x"),
        free_bytes=lambda: 2**40,
    )


async def test_a_chunk_that_differs_from_the_manifest_ends_it(harbor, tmp_path):
    checkpoint, staging = await staged(harbor, tmp_path)
    twin = twin_of(checkpoint, staging)
    _flip(staging / "files", checkpoint.manifest, checkpoint.manifest.size_bytes - CHUNK_BYTES)
    twin.nudge()
    try:
        assert not await asyncio.to_thread(twin.complete, staging / "files", threading.Event())
        assert not (tmp_path / "twin-x").exists()
        assert twin.move_to(tmp_path / "resume") is None
    finally:
        twin.end()


@pytest.mark.parametrize("before", [b"", None], ids=["one ends, the next begins", "one begins"])
async def test_what_a_difference_wrote_over_meanwhile_is_copied_again(harbor, tmp_path, monkeypatch, before):
    checkpoint, staging = await staged(harbor, tmp_path)
    marker = staging.with_name("fetch-x.difference")
    if before is not None:
        marker.write_bytes(before)
    twin, run = twin_of(checkpoint, staging), ChunkPass.run

    def overwritten(self: ChunkPass, stop: threading.Event, threads: int = 1) -> tuple[bytes, ...]:
        monkeypatch.setattr(ChunkPass, "run", run)
        _flip(staging / "files", checkpoint.manifest, 0)
        disk.write_durable(marker, b"")
        digests = run(self, stop, threads)
        _flip(staging / "files", checkpoint.manifest, 0)
        return digests

    monkeypatch.setattr(ChunkPass, "run", overwritten)
    twin.nudge()
    try:
        assert await asyncio.to_thread(twin.complete, staging / "files", threading.Event())
    finally:
        twin.end()
    assert tree(tmp_path / "twin-x") == tree(staging / "files")


def _flip(files: Path, manifest: manifests.Manifest, place: int) -> None:
    extent = manifests.Layout.of(manifest).extents(place // manifest.chunk_bytes)[0]
    path = files / extent.path
    data = bytearray(path.read_bytes())
    data[extent.offset_bytes] ^= 1
    path.write_bytes(data)
