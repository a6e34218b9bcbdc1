"""Passes over chunks, links out of a run that has ended, and what is trusted after it was verified."""

import errno
import mmap
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.manifest import Layout, chunk_count
from agent.jobs import checkpoint_copies as copies
from agent.jobs import checkpoint_files as disk
from agent.jobs.checkpoint_pass import ChunkPass, threads_at_rest
from agent.jobs.checkpoint_trust import TRUST_S
from agent.jobs.checkpoints import CheckpointStore
from agent.model.jobs import Checkpoint, CheckpointFile, Manifest
from sterna.clock import FakeClock
from sterna.errors import CorruptError, TransientError

JOB = "job-1"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
CHUNK_BYTES = 64 * 1024
NEVER = threading.Event()


def laid_out(sizes: list[int], chunk_bytes: int) -> Layout:
    files = tuple(CheckpointFile(path=f"step/{i:03d}", size_bytes=size) for i, size in enumerate(sizes))
    chunks = chunk_count(sum(sizes), chunk_bytes)
    return Layout.of(
        Manifest(
            job_id=JOB,
            epoch=1,
            step=1,
            files=files,
            chunk_bytes=chunk_bytes,
            chunk_hashes=(b"",) * chunks,
            sealed_at=NOW,
        )
    )


def write_files(folder: Path, layout: Layout) -> bytes:
    whole = b""
    for file in layout.manifest.files:
        data = os.urandom(file.size_bytes)
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_bytes(data)
        whole += data
    return whole


@given(
    sizes=st.lists(st.integers(0, 900_000), min_size=1, max_size=4),
    chunk_bytes=st.sampled_from([100, 4096, 300_000, 1_000_000]),
    threads=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_a_pass_copies_and_hashes_every_byte_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], chunk_bytes: int, threads: int
) -> None:
    sizes = [size % 20_000 for size in sizes] if chunk_bytes < 4096 else sizes
    folder = tmp_path_factory.mktemp("pass")
    layout = laid_out(sizes, chunk_bytes)
    whole = write_files(folder / "from", layout)
    made = ChunkPass(layout, (folder / "from").joinpath, target=folder / "to").run(NEVER, threads)
    cut = [whole[start : start + chunk_bytes] for start in range(0, len(whole), chunk_bytes)]
    assert made == tuple(blake3.blake3(part).digest() for part in cut)
    assert b"".join((folder / "to" / file.path).read_bytes() for file in layout.manifest.files) == whole
    assert ChunkPass(layout, (folder / "to").joinpath).run(NEVER, threads) == made
    ChunkPass(layout, (folder / "to").joinpath, target=folder / "again", hashing=False).run(NEVER, threads)
    assert ChunkPass(layout, (folder / "again").joinpath).run(NEVER, threads) == made


@pytest.mark.parametrize("threads", [1, 3])
def test_a_pass_that_is_stopped_or_finds_less_ends(tmp_path: Path, threads: int) -> None:
    layout = laid_out([500_000, 500_000], CHUNK_BYTES)
    write_files(tmp_path, layout)
    stop = threading.Event()
    stop.set()
    with pytest.raises(disk.Abandoned):
        ChunkPass(layout, tmp_path.joinpath).run(stop, threads)
    os.truncate(tmp_path / "step/001", 499_999)
    with pytest.raises(CorruptError, match="step/001 is too short"):
        ChunkPass(layout, tmp_path.joinpath).run(NEVER, threads)
    with pytest.raises(CorruptError, match="step/001 is too short"):
        unhashed = ChunkPass(layout, tmp_path.joinpath, target=tmp_path / "to", hashing=False)
        unhashed.run(NEVER, threads)
    (tmp_path / "step/000").unlink()
    with pytest.raises(FileNotFoundError):
        ChunkPass(layout, tmp_path.joinpath).run(NEVER, threads)


def test_where_the_kernel_does_not_copy_we_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    layout = laid_out([500_000], CHUNK_BYTES)
    whole = write_files(tmp_path / "from", layout)
    ChunkPass(layout, (tmp_path / "from").joinpath, target=tmp_path / "to", hashing=False).run(NEVER)
    assert (tmp_path / "to/step/000").read_bytes() == whole
    monkeypatch.setattr(os, "copy_file_range", _full)
    with pytest.raises(OSError, match="full"):
        ChunkPass(layout, (tmp_path / "from").joinpath, target=tmp_path / "b", hashing=False).run(NEVER)


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "full")


def test_there_is_always_a_thread() -> None:
    assert 1 <= threads_at_rest() <= 4


class Shore:
    """A store, and the folder of a run that has ended beside it."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(NOW)
        self.store = CheckpointStore(folder / "store", self.clock, CHUNK_BYTES)
        self.run = folder / "run" / "checkpoints"
        self.source = self.run / "step-7"
        self.source.mkdir(parents=True)
        (self.source / "weights").write_bytes(os.urandom(200_000))
        (self.source / "rng").write_bytes(os.urandom(100))
        self.resumed = folder / "resume"

    async def seal(self) -> Checkpoint:
        return await self.store.seal(JOB, 1, 7, self.source, left_in=self.run)

    async def stored(self, checkpoint: Checkpoint, name: str = "weights") -> Path:
        folder = await self.store.files_folder(checkpoint.checkpoint_id)
        assert folder is not None
        return folder / "step-7" / name


@pytest.fixture
def shore(tmp_path: Path) -> Shore:
    return Shore(tmp_path)


async def test_what_a_run_has_left_behind_is_not_copied(shore: Shore, tmp_path: Path) -> None:
    sealed = await shore.seal()
    stored = await shore.stored(sealed)
    assert stored.samefile(shore.source / "weights")
    before = stored.read_bytes()
    disk.remove(shore.run)
    shutdown = CheckpointStore(tmp_path / "store", shore.clock, CHUNK_BYTES)
    resumed = await shutdown.materialize(sealed.checkpoint_id, shore.resumed)
    assert (resumed / "weights").read_bytes() == before
    assert not stored.samefile(resumed / "weights")


async def test_a_crash_after_the_links_loses_nothing(shore: Shore, tmp_path: Path) -> None:
    target = tmp_path / "store" / "staging" / JOB / "seal-dead" / "files"
    found = disk.scan(shore.source, None)
    assert copies.link_out(found, target, shore.run)
    sealed = await shore.seal()  # the store clears away what a dead process left, then takes it again
    assert await shore.store.checkpoints(JOB) == (sealed,)
    assert not target.exists()
    assert (await shore.stored(sealed)).samefile(shore.source / "weights")


@pytest.mark.parametrize("why", ["open", "mapped", "second name", "elsewhere", "no such run"])
async def test_what_somebody_could_still_write_to_is_copied(shore: Shore, why: str, tmp_path: Path) -> None:
    left_in = shore.run
    writer = (shore.source / "weights").open("r+b")
    mapped = mmap.mmap(writer.fileno(), 0) if why == "mapped" else None
    if why != "open":
        writer.close()
    if why == "second name":
        os.link(shore.source / "weights", tmp_path / "latest")
    elif why == "elsewhere":
        left_in = tmp_path / "another-run"
        left_in.mkdir()
    elif why == "no such run":
        left_in = tmp_path / "absent"
    sealed = await shore.store.seal(JOB, 1, 7, shore.source, left_in=left_in)
    for name in ("weights", "rng"):
        stored = await shore.stored(sealed, name)
        assert not stored.samefile(shore.source / name)
        assert stored.read_bytes() == (shore.source / name).read_bytes()
    if mapped is not None:
        mapped.close()
    writer.close()


async def test_a_file_system_without_links_is_copied_from(
    shore: Shore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    sealed = await shore.seal()
    assert not (await shore.stored(sealed)).samefile(shore.source / "weights")


async def hashed_again(shore: Shore, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tell whether a copy for a trainer was verified while it was made."""
    seen: list[bool] = []
    copy = copies.copy

    def watch(*arguments: object, **options: object) -> tuple[bytes, ...]:
        seen.append(bool(options["hashing"]))
        return copy(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(copies, "copy", watch)
        resumed = await shore.store.materialize(checkpoint.checkpoint_id, shore.resumed)
    assert (resumed / "weights").read_bytes() == (await shore.stored(checkpoint)).read_bytes()
    return seen.pop()


async def test_what_was_verified_a_moment_ago_is_not_hashed_again(
    shore: Shore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = await shore.store.seal(JOB, 1, 7, shore.source)
    assert not await hashed_again(shore, sealed, monkeypatch)
    shore.clock.advance(TRUST_S + 1)
    assert await hashed_again(shore, sealed, monkeypatch)
    assert not await hashed_again(shore, sealed, monkeypatch)
    (await shore.stored(sealed)).touch()
    assert await hashed_again(shore, sealed, monkeypatch)
    shore.store = CheckpointStore(tmp_path / "store", shore.clock, CHUNK_BYTES)
    assert await hashed_again(shore, sealed, monkeypatch)


async def test_a_linked_one_is_verified_before_a_start(shore: Shore, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = await shore.seal()
    assert await hashed_again(shore, sealed, monkeypatch)
    disk.remove(shore.run)
    assert await hashed_again(shore, sealed, monkeypatch)
    assert not await hashed_again(shore, sealed, monkeypatch)


@pytest.mark.parametrize("keeps", ["nothing", "length", "times"])
async def test_a_change_right_after_the_seal_is_found_before_a_start(shore: Shore, keeps: str) -> None:
    sealed = await shore.store.seal(JOB, 1, 7, shore.source)
    stored = await shore.stored(sealed)
    status = stored.stat()
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(data if keeps != "nothing" else data[:-1])
    if keeps == "times":
        os.utime(stored, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(CorruptError):
        await shore.store.materialize(sealed.checkpoint_id, shore.resumed)
    assert await shore.store.checkpoints(JOB) == ()


async def test_half_a_checkpoint_is_refused_by_link_too(shore: Shore) -> None:
    (shore.source / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(TransientError, match="cut off"):
        await shore.seal()
    assert await shore.store.checkpoints(JOB) == ()


async def test_what_cannot_be_marked_is_stored_and_not_trusted(
    shore: Shore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", _full)
        sealed = await shore.store.seal(JOB, 1, 7, shore.source)
    assert await shore.store.checkpoints(JOB) == (sealed,)
    assert await hashed_again(shore, sealed, monkeypatch)
