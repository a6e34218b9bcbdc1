"""A checkpoint is hashed while its trainer ends; what has changed since is hashed again."""

import dataclasses
import os
import sys
import threading
from datetime import timedelta
from pathlib import Path

import blake3
import pytest

from agent.jobs import checkpoint_files as disk
from agent.jobs.checkpoint_pass import ChunkPass
from agent.jobs.checkpoint_taking import Wanted
from agent.model.jobs import Checkpoint
from agent.model.jobs import JobPhase as P
from agent.model.orders import Start, Stop
from tests.agent.jobs.conftest import Site, shell
from tests.agent.jobs.test_checkpoint_copies import CHUNK_BYTES, JOB, NOW, Shore
from tests.waiting import until

LITTLE_BYTES = CHUNK_BYTES
"""More than a seal reads beside the chunks: ends of files, manifests."""


def dated(shore: Shore, at_s: float) -> None:
    for path in shore.source.iterdir():
        os.utime(path, (at_s, at_s))


@pytest.fixture
def shore(tmp_path: Path) -> Shore:
    shore = Shore(tmp_path)
    dated(shore, (NOW - timedelta(seconds=10)).timestamp())
    return shore


def read_bytes() -> int:
    """Return what this process has read until now."""
    first = Path("/proc/self/io").read_text().splitlines()[0]
    return int(first.removeprefix("rchar:"))


async def look_ahead(shore: Shore) -> None:
    await shore.store.look_ahead(JOB, 1, 7, shore.source)


async def sealed(shore: Shore) -> tuple[Checkpoint, int]:
    """Seal; return what came of it, every hash of it being right, and the bytes that were read for it."""
    before = read_bytes()
    checkpoint = await shore.seal()
    took = read_bytes() - before
    whole = b"".join((shore.source / name).read_bytes() for name in ("rng", "weights"))
    pieces = [whole[at : at + CHUNK_BYTES] for at in range(0, len(whole), CHUNK_BYTES)]
    assert list(checkpoint.manifest.chunk_hashes) == [blake3.blake3(piece).digest() for piece in pieces]
    return checkpoint, took


async def test_what_was_hashed_ahead_is_not_read_again(shore: Shore) -> None:
    await look_ahead(shore)
    checkpoint, took = await sealed(shore)
    assert took < LITTLE_BYTES
    assert (await shore.stored(checkpoint)).samefile(shore.source / "weights")


@pytest.mark.parametrize("change", ["written", "replaced", "added"])
async def test_what_has_changed_since_is_hashed_again(shore: Shore, change: str) -> None:
    await look_ahead(shore)
    weights = shore.source / "weights"
    if change == "written":
        with weights.open("r+b") as file:
            file.write(b"other")
    elif change == "replaced":
        (shore.source / "new").write_bytes(os.urandom(200_000))
        (shore.source / "new").rename(weights)
    else:
        (shore.source / "rng").unlink()
        (shore.source / "rng").write_bytes(os.urandom(300))
    _, took = await sealed(shore)
    assert took > 200_000


@pytest.mark.parametrize("why", ["open", "young"])
async def test_what_may_still_change_is_left_alone(shore: Shore, why: str) -> None:
    with (shore.source / "rng").open("r+b"):
        if why == "young":
            dated(shore, NOW.timestamp())
        await look_ahead(shore)
    if why == "open":
        dated(shore, (NOW - timedelta(seconds=10)).timestamp())
    _, took = await sealed(shore)
    assert took > 200_000


async def test_what_there_was_no_time_for_is_hashed_by_the_seal(
    shore: Shore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, chunk = threading.Event(), ChunkPass._chunk

    def once(self: ChunkPass, index: int, buffer: memoryview, stop: threading.Event) -> None:
        chunk(self, index, buffer, stop)
        stop.set()

    wanted = Wanted(job_id=JOB, epoch=1, step=7, source=shore.source, files=None, left_in=None)
    with monkeypatch.context() as patch:
        patch.setattr(ChunkPass, "_chunk", once)
        with pytest.raises(disk.Abandoned):
            shore.store._take.look_ahead(wanted, stop)
    _, took = await sealed(shore)
    assert LITTLE_BYTES < took < 200_000


async def test_a_job_that_takes_its_time_to_end(site: Site) -> None:
    script = (
        "from sterna import job; import os, pathlib, time; folder = job.checkpoint_dir(); job.report(5)\n"
        "path = folder / 'w.bin'; pathlib.Path('ready').touch()\n"
        "while not job.should_stop(): time.sleep(0.02)\n"
        "path.write_bytes(os.urandom(200_000)); job.checkpoint_saved(path, 5); job.stopped(5)\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.02)"
    )
    spec = dataclasses.replace(shell("", stop_grace_s=20), argv=(sys.executable, "-c", script))
    await site.order(Start(spec=spec, checkpoint_id=None, lease_ttl_s=None))
    await site.phase(P.RUNNING)
    (run,) = (site.jobs / "j1" / "runs").iterdir()
    await until((run / "ready").exists, "it trains")
    await site.order(Stop(reason="moves", cancel=False))
    ahead = site.checkpoints._take._ahead
    await until(lambda: "j1" in ahead and all(ahead["j1"].digests), "its checkpoint is hashed")
    (run / "go").touch()
    checkpoint = (await site.phase(P.SEALED)).checkpoints[0]
    assert ahead == {}
    resumed = await site.checkpoints.materialize(checkpoint.checkpoint_id, site.root / "resumed")
    assert resumed.name == "w.bin"
