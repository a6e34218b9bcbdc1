"""Which checkpoint of a run is sealed next: complete, settled, newer than what there is."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.runner import Progress, Run, Saved
from agent.jobs.sealing import Sealer
from agent.model.jobs import Checkpoint, CheckpointFile, Manifest
from agent.model.records import JobRecord
from sterna.clock import FakeClock
from sterna.errors import PermanentError, TransientError
from tests.agent.jobs.conftest import shell
from tests.sterna.trainers import files

NOW_S = 1_000_000.0
AT = datetime.fromtimestamp(NOW_S, UTC)


def newest(step: int, *, epoch: int = 2, age_s: float = 10.0) -> Checkpoint:
    manifest = Manifest(
        job_id="j1",
        epoch=epoch,
        step=step,
        files=(CheckpointFile(path="x", size_bytes=1),),
        chunk_bytes=1,
        chunk_hashes=(b"h",),
        sealed_at=datetime.fromtimestamp(NOW_S - age_s, UTC),
    )
    return Checkpoint(checkpoint_id="c", manifest=manifest)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.run = Run(folder / "r1")
        self.run.checkpoint_dir.mkdir(parents=True)
        self.clock = FakeClock(AT)
        self.store = folder / "store"
        store = CheckpointStore(self.store, self.clock)
        self.sealer = Sealer(checkpoints=store, clock=self.clock, interval_s=60.0, keep=2)

    def put(self, name: str, age_s: float, *, whole: bool = True) -> Path:
        path = files.torch_zip(self.run.checkpoint_dir / name)
        if not whole:
            files.cut(path)
        os.utime(path, (NOW_S - age_s, NOW_S - age_s))
        return path

    def pick(
        self,
        known: Checkpoint | None = None,
        progress: Progress = Progress(),  # noqa: B008 - frozen
        *,
        glob: str = "*.pt",
        ended: bool = False,
    ) -> tuple[str, int] | None:
        record = JobRecord(job_id="j1", epoch=2, run_id="r1", spec=shell("", checkpoint_glob=glob))
        found = self.sealer.candidate(record, self.run, progress, known, ended=ended)
        return None if found is None else (found.source.name, found.step)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("ages", "known", "ended", "picked"),
    [
        ({}, None, False, None),
        ({"step-1.pt": 9.0}, None, False, ("step-1.pt", 1)),
        ({"step-1.pt": 9.0, "step-2.pt": 5.0}, None, False, ("step-2.pt", 2)),
        ({"step-1.pt": 9.0, "step-2.pt": 1.0}, None, False, ("step-1.pt", 1)),  # still warm
        ({"step-1.pt": 9.0, "step-2.pt": 1.0}, None, True, ("step-2.pt", 2)),  # nobody writes any more
        ({"step-1.pt": 9.0}, newest(1, age_s=8.0), False, None),
        ({"step-1.pt": 9.0}, newest(1, age_s=9.5), False, ("step-1.pt", 1)),  # written again
        ({"step-2.pt": 9.0}, newest(1, age_s=8.0), False, ("step-2.pt", 2)),  # finished during the seal
        ({"step-2.pt": 9.0}, newest(5, age_s=9.5), False, ("step-2.pt", 6)),  # it counts anew: keep the order
        ({"step-2.pt": 9.0}, newest(5, epoch=1, age_s=8.0), False, ("step-2.pt", 2)),
        ({"w.pt": 9.0}, None, False, ("checkpoints", 1)),
        ({"w.pt": 9.0}, newest(5, age_s=9.5), False, ("checkpoints", 6)),
        ({"w.pt": 9.0}, newest(5, age_s=8.0), False, None),
    ],
)
def test_found_by_glob(
    bench: Bench,
    ages: dict[str, float],
    known: Checkpoint | None,
    ended: bool,
    picked: tuple[str, int] | None,
) -> None:
    for name, age_s in ages.items():
        bench.put(name, age_s)
    assert bench.pick(known, ended=ended) == picked


def test_half_of_one_means_the_one_before(bench: Bench) -> None:
    bench.put("step-1.pt", 9.0)
    bench.put("step-2.pt", 8.0, whole=False)
    assert bench.pick(ended=True) == ("step-1.pt", 1)
    assert bench.pick(newest(1, age_s=7.0), ended=True) is None


def test_a_reported_one_comes_first(bench: Bench) -> None:
    bench.put("step-9.pt", 5.0)
    saved = Progress(step=4, saved=Saved(path=bench.put("named.pt", 9.0), step=4))
    assert bench.pick(progress=saved) == ("named.pt", 4)
    assert bench.pick(newest(4), saved) is None, "what it names is sealed: the glob is not asked"
    gone = Progress(saved=Saved(path=bench.run.checkpoint_dir / "gone.pt", step=4))
    assert bench.pick(progress=gone) is None


def test_a_reported_one_that_is_not_whole(bench: Bench) -> None:
    saved = Progress(step=4, saved=Saved(path=bench.put("step-4.pt", 9.0, whole=False), step=4))
    assert bench.pick(progress=saved) is None, "it may become whole"
    with pytest.raises(PermanentError, match=r"step-4\.pt is not complete: step-4\.pt is cut off"):
        bench.pick(progress=saved, glob="", ended=True)
    bench.put("step-3.pt", 9.0)
    assert bench.pick(progress=saved, ended=True) == ("step-3.pt", 3)


async def test_one_that_the_disk_did_not_take_is_tried_again_soon(bench: Bench) -> None:
    bench.put("step-1.pt", 9.0)
    record = JobRecord(job_id="j1", epoch=2, run_id="r1", spec=shell("", checkpoint_glob="*.pt"))
    found = bench.sealer.candidate(record, bench.run, Progress(), None, ended=False)
    assert found is not None and bench.sealer.is_due("j1")
    bench.store.write_text("no folder can be made here")
    with pytest.raises(TransientError):
        await bench.sealer.seal(record, found)
    bench.clock.advance(5.9)
    assert not bench.sealer.is_due("j1"), "each try reads all of it"
    bench.clock.advance(0.2)
    assert bench.sealer.is_due("j1")
    bench.store.unlink()
    assert (await bench.sealer.seal(record, found)).manifest.step == 1
    bench.clock.advance(59.9)
    assert not bench.sealer.is_due("j1")
    bench.clock.advance(0.2)
    assert bench.sealer.is_due("j1")
