"""Files of a checkpoint that stay where they are: not sealed, not moved, not missed; the rest is as ever."""

import os
from pathlib import Path

import pytest

from agent.jobs.runner import Progress, Run, Saved
from agent.jobs.sealing import Sealer
from agent.model.jobs import Checkpoint
from agent.model.jobs import JobPhase as P
from agent.model.orders import Fetch, Prepare, Start, Stop
from agent.model.records import JobRecord
from sterna.clock import SystemClock
from sterna.errors import PermanentError, TransientError
from tests.agent.jobs import sites
from tests.agent.jobs.conftest import Site, shell
from tests.agent.jobs.sites import JOB
from tests.sterna.trainers import files
from tests.waiting import until

STAYS = ("optimizer.pt", "cache/*")
MOVES = {"model.safetensors", "rng_state.pth", "trainer_state.json"}


def huggingface(folder: Path) -> Path:
    """A checkpoint of transformers, with a cache that its owner keeps in it."""
    path = files.huggingface(folder, 20)
    (path / "cache" / "deep").mkdir(parents=True)
    (path / "cache" / "deep" / "tokens.npz").write_bytes(b"PK\x03\x04" + os.urandom(200_000))  # no whole npz
    return path


def names(checkpoint: Checkpoint) -> set[str]:
    return {file.path.removeprefix("checkpoint-20/") for file in checkpoint.manifest.files}


async def test_it_is_neither_sealed_nor_moved_and_the_rest_is_loadable(tmp_path: Path) -> None:
    harbor, ridge = sites.Site("harbor", tmp_path), sites.Site("ridge", tmp_path)
    source = huggingface(tmp_path / "run")
    checkpoint = await harbor.store.seal(JOB, 1, 20, source, stays=STAYS)
    assert names(checkpoint) == MOVES
    size_bytes = sum((source / name).stat().st_size for name in MOVES)
    assert checkpoint.manifest.size_bytes == size_bytes, "S_effective is what moves"
    async with harbor.serving():
        token = sites.ticket("harbor", checkpoint.checkpoint_id)
        order = sites.fetch_order(checkpoint.checkpoint_id, harbor.address, token)
        result = await ridge.transfers.fetch(JOB, order, lambda _done, _total: None)
    assert result.transferred_bytes == size_bytes
    for site in (harbor, ridge):  # at home, too: a resume finds the same everywhere
        back = await site.store.materialize(checkpoint.checkpoint_id, tmp_path / f"resume-{site.name}")
        assert {path.name for path in back.iterdir()} == MOVES
        assert all((back / name).read_bytes() == (source / name).read_bytes() for name in MOVES)


async def test_what_was_hashed_ahead_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = sites.Site("harbor", tmp_path)
    left_in = tmp_path / "harbor" / "run"
    source = huggingface(left_in)
    for path in source.rglob("*"):
        os.utime(path, (1e9, 1e9))
    await site.store.look_ahead(JOB, 1, 20, source, STAYS)
    read: list[int] = []
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, *more: read.append(fd) or real(fd, *more))
    checkpoint = await site.store.seal(JOB, 1, 20, source, left_in=left_in, stays=STAYS)
    assert names(checkpoint) == MOVES and not read


@pytest.mark.parametrize(
    ("stays", "fault"),
    [
        (("*",), "there are none"),
        (("*.safetensors",), "the weights are missing"),
        (("trainer_state.json",), "trainer_state.json is missing"),
    ],
)
async def test_what_is_left_must_be_a_checkpoint(tmp_path: Path, stays: tuple[str, ...], fault: str) -> None:
    site = sites.Site("harbor", tmp_path)
    with pytest.raises((PermanentError, TransientError), match=fault):
        await site.store.seal(JOB, 1, 20, huggingface(tmp_path / "run"), stays=("cache/*", *stays))


async def test_a_library_that_says_it_still_writes_is_believed_whatever_stays(tmp_path: Path) -> None:
    source = huggingface(tmp_path / "run")
    (source / "checkpoint-is-incomplete.txt").touch()
    with pytest.raises(TransientError, match="incomplete"):
        await sites.Site("harbor", tmp_path).store.seal(JOB, 1, 20, source, stays=("*.txt",))


@pytest.mark.parametrize("reported", [True, False])
def test_half_of_a_file_that_stays_keeps_nothing_from_being_sealed(tmp_path: Path, reported: bool) -> None:
    run = Run(tmp_path / "r1")
    source = huggingface(run.checkpoint_dir)
    sealer = Sealer(
        checkpoints=sites.Site("harbor", tmp_path).store, clock=SystemClock(), interval_s=9.0, keep=2
    )
    progress = Progress(step=20, saved=Saved(path=source, step=20)) if reported else Progress()

    def found(stays: tuple[str, ...]) -> bool:
        spec = shell("", checkpoint_glob="checkpoint-*", stays=stays)
        record = JobRecord(job_id="j1", epoch=1, run_id="r1", spec=spec)
        try:
            return sealer.candidate(record, run, progress, None, ended=True) is not None
        except PermanentError as error:
            assert "tokens.npz is cut off" in str(error)
            return False

    assert found(STAYS) and not found(())


PROGRAM = """
if [ -n "$STERNA_RESUME_FROM" ]; then (cd "$STERNA_RESUME_FROM" && find . -type f) > {found}; exit 0; fi
mkdir -p "$STERNA_CHECKPOINT_DIR/step-7/cache"
echo weights > "$STERNA_CHECKPOINT_DIR/step-7/weights"
echo tokens > "$STERNA_CHECKPOINT_DIR/step-7/cache/tokens"
until [ -e "$STERNA_STOP_FILE" ]; do sleep 0.05; done
"""


async def test_a_program_resumes_elsewhere_without_it(site: Site, other: Site, tmp_path: Path) -> None:
    found = tmp_path / "found"
    script = PROGRAM.replace("{found}", str(found))
    spec = shell(script, checkpoint_glob="step-*", stays=("cache/*",), stop_grace_s=10.0)
    await site.order(Start(spec=spec, checkpoint_id=None, lease_ttl_s=None))
    await site.phase(P.RUNNING)
    written = site.jobs / "j1" / "runs"
    await until(lambda: any(written.glob("*/checkpoints/step-7/cache/tokens")), "what the program writes")
    await site.order(Stop(reason="moves", cancel=False))
    (sealed,) = (await site.phase(P.SEALED)).checkpoints
    other.carrier._sites = {"a": site.checkpoints}
    await other.order(Prepare(spec=spec, checkpoint_bytes=1, expires_after_s=60.0), migration="m")
    fetch = Fetch(
        checkpoint_id=sealed.checkpoint_id, holder_site="a", holder_address=None, ticket="t", max_bps=None
    )
    await other.order(fetch, migration="m")
    await other.phase(P.HELD)
    start = Start(spec=spec, checkpoint_id=sealed.checkpoint_id, lease_ttl_s=None)
    await other.order(start, epoch=2, migration="m")
    await other.phase(P.COMPLETED)
    assert found.read_text().split() == ["./weights"]
