import asyncio
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.core import manifest as manifests
from agent.jobs import checkpoint_copies as copies
from agent.jobs import checkpoint_files as disk
from agent.jobs.checkpoints import CheckpointStore
from sterna.clock import FakeClock
from sterna.errors import CorruptError, PermanentError, StaleEpochError, TransientError

JOB = "job-1"
CHUNK_BYTES = 64 * 1024


def a_clock() -> FakeClock:
    return FakeClock(datetime(2026, 6, 1, 12, tzinfo=UTC))


def a_store(root: Path) -> CheckpointStore:
    return CheckpointStore(root / "store", a_clock(), CHUNK_BYTES)


def write_tree(folder: Path, sizes: dict[str, int]) -> Path:
    for name, size in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


SIZES = {"weights.npz": 200_000, "optim/m.bin": CHUNK_BYTES, "optim/v.bin": 70_001, "empty": 0, "z.json": 17}


async def test_seal_and_materialize_a_folder(tmp_path):
    source = write_tree(tmp_path / "step-100", SIZES)
    store = a_store(tmp_path)
    sealed = await store.seal(JOB, 3, 100, source, None)
    assert sealed.manifest.size_bytes == sum(SIZES.values())
    assert manifests.faults(sealed.manifest) == ()
    assert manifests.checkpoint_id(sealed.manifest) == sealed.checkpoint_id
    before = tree(source)
    (source / "weights.npz").write_bytes(b"overwritten in place")
    resumed = await store.materialize(sealed.checkpoint_id, tmp_path / "run")
    assert resumed == tmp_path / "run" / "step-100"
    assert tree(resumed) == before
    (resumed / "z.json").write_bytes(b"the trainer may write its private copy")
    assert tree(await store.materialize(sealed.checkpoint_id, tmp_path / "run")) == before


async def test_seal_a_single_file_and_materialize_a_file(tmp_path):
    source = write_tree(tmp_path, {"last.ckpt": 100_000}) / "last.ckpt"
    store = a_store(tmp_path)
    sealed = await store.seal(JOB, 1, 5, source, None)
    resumed = await store.materialize(sealed.checkpoint_id, tmp_path / "run")
    assert resumed.is_file()
    assert resumed.read_bytes() == source.read_bytes()


async def test_seal_takes_only_the_files_that_are_named(tmp_path):
    source = write_tree(tmp_path / "out", SIZES)
    sealed = await a_store(tmp_path).seal(JOB, 1, 5, source, ["optim/m.bin", "z.json"])
    assert [file.path for file in sealed.manifest.files] == ["out/optim/m.bin", "out/z.json"]


async def test_newest_first_survives_a_restart_and_repeating_a_seal_changes_nothing(tmp_path):
    store = a_store(tmp_path)
    ids = []
    for epoch, step in ((1, 10), (1, 20), (2, 15)):
        source = write_tree(tmp_path / f"step-{step}", {"w": 1000})
        ids.append((await store.seal(JOB, epoch, step, source)).checkpoint_id)
    again = await store.seal(JOB, 2, 15, tmp_path / "step-15")
    assert again.checkpoint_id == ids[-1]
    for opened in (store, a_store(tmp_path)):
        assert [item.checkpoint_id for item in await opened.checkpoints(JOB)] == ids[::-1]
        assert await opened.checkpoints("job-2") == ()
    with pytest.raises(StaleEpochError):
        await store.seal(JOB, 1, 30, tmp_path / "step-20")
    await store.keep_newest(JOB, 2)
    for opened in (store, a_store(tmp_path)):
        assert [item.checkpoint_id for item in await opened.checkpoints(JOB)] == ids[:0:-1]
    await store.keep_newest(JOB, 0)
    assert await a_store(tmp_path).checkpoints(JOB) == ()
    assert not tree(tmp_path / "store")


@pytest.mark.parametrize("damage", ["flip", "shorten", "remove"])
async def test_a_damaged_checkpoint_never_reaches_a_trainer(tmp_path, damage):
    source = write_tree(tmp_path / "step-1", SIZES)
    store = a_store(tmp_path)
    sealed = await store.seal(JOB, 1, 1, source)
    stored = await store.files_folder(sealed.checkpoint_id) / "step-1" / "optim" / "v.bin"
    if damage == "flip":
        data = bytearray(stored.read_bytes())
        data[70_000] ^= 1
        stored.write_bytes(data)
    elif damage == "shorten":
        stored.write_bytes(stored.read_bytes()[:-1])
    else:
        stored.unlink()
    with pytest.raises(CorruptError, match=r"optim/v\.bin"):
        await store.materialize(sealed.checkpoint_id, tmp_path / "run")
    assert tree(tmp_path / "run") == {}
    assert await store.get(sealed.checkpoint_id) is None
    assert await a_store(tmp_path).checkpoints(JOB) == ()
    assert list((tmp_path / "store" / "quarantine" / JOB).iterdir())


async def test_a_trainer_that_keeps_writing_is_refused(tmp_path, monkeypatch):
    source = write_tree(tmp_path / "step-1", SIZES)
    copy = copies.copy

    def copy_while_the_trainer_writes(*arguments, **options):
        digests = copy(*arguments, **options)
        with (source / "z.json").open("ab") as file:
            file.write(b"x")
        return digests

    monkeypatch.setattr(copies, "copy", copy_while_the_trainer_writes)
    store = a_store(tmp_path)
    with pytest.raises(TransientError, match="changes while"):
        await store.seal(JOB, 1, 1, source)
    assert await store.checkpoints(JOB) == ()
    assert not tree(tmp_path / "store")


async def test_a_trainer_that_stops_writing_in_time_is_sealed_whole(tmp_path, monkeypatch):
    source = write_tree(tmp_path / "step-1", SIZES)
    copy = copies.copy
    late = iter([b"last words"])

    def copy_while_the_trainer_writes(*arguments, **options):
        digests = copy(*arguments, **options)
        for words in late:
            (source / "z.json").write_bytes(words)
        return digests

    monkeypatch.setattr(copies, "copy", copy_while_the_trainer_writes)
    store = a_store(tmp_path)
    sealed = await store.seal(JOB, 1, 1, source)
    assert tree(await store.materialize(sealed.checkpoint_id, tmp_path / "run")) == tree(source)


async def test_what_cannot_be_a_checkpoint_is_refused(tmp_path):
    store = a_store(tmp_path)
    folder = write_tree(tmp_path / "step-1", {"w": 10})
    with pytest.raises(PermanentError, match="plain name"):
        await store.seal("../up", 1, 1, folder)
    with pytest.raises(TransientError, match="vanished"):
        await store.seal(JOB, 1, 1, tmp_path / "absent")
    with pytest.raises(PermanentError, match="leads out"):
        await store.seal(JOB, 1, 1, folder, ["../secret"] if write_tree(tmp_path, {"secret": 3}) else None)
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(PermanentError, match="leads out"):
        await store.seal(JOB, 1, 1, folder)
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(PermanentError, match="not a file"):
        await store.seal(JOB, 1, 1, folder)
    (folder / "pipe").unlink()
    (folder / "checkpoint-is-incomplete.txt").touch()
    with pytest.raises(TransientError, match="incomplete"):
        await store.seal(JOB, 1, 1, folder)
    (tmp_path / "bare").mkdir()
    with pytest.raises(PermanentError, match="there are none"):
        await store.seal(JOB, 1, 1, tmp_path / "bare")
    assert await store.checkpoints(JOB) == ()
    assert not tree(tmp_path / "store")


async def test_what_a_dead_process_left_is_cleared_and_never_listed(tmp_path):
    store = a_store(tmp_path)
    source = write_tree(tmp_path / "step-1", SIZES)
    good = await store.seal(JOB, 1, 1, source)
    root = tmp_path / "store"
    write_tree(root / "staging" / JOB / "seal-dead", {"files/w": 100})
    write_tree(root / "trash" / "x", {"w": 100})
    write_tree(root / "sealed" / JOB / ("0" * 64), {"files/w": 100})
    forged = root / "sealed" / JOB / ("1" * 64)
    forged.mkdir()
    (forged / "manifest.json").write_bytes(manifests.encode(good.manifest))
    again = a_store(tmp_path)
    assert [item.checkpoint_id for item in await again.checkpoints(JOB)] == [good.checkpoint_id]
    assert not list((root / "staging" / JOB).iterdir())
    assert not list((root / "trash").iterdir())


async def test_a_cancelled_seal_leaves_no_thread_writing(tmp_path, monkeypatch):
    source = write_tree(tmp_path / "step-1", SIZES)
    started, go_on = threading.Event(), threading.Event()
    sync_folders = disk.sync_folders

    def slow(folder):
        started.set()
        go_on.wait(10)
        sync_folders(folder)

    monkeypatch.setattr(disk, "sync_folders", slow)
    store = a_store(tmp_path)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.seal(JOB, 1, 1, source))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        go_on.set()
    assert task.cancelled()
    assert not tree(tmp_path / "store")
    assert await store.checkpoints(JOB) == ()


async def test_free_bytes_before_the_store_exists(tmp_path):
    assert CheckpointStore(tmp_path / "not" / "yet", a_clock()).free_bytes() > 0
