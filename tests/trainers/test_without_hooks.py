"""How the libraries themselves end on a signal: what our hooks and the judgement of outcomes rest on.

One row for each line of the table in docs/trainers.md. When a new version of a library changes a row, this
fails, and the page and the hooks are looked at again.
"""

import os
import signal
from pathlib import Path

import pytest

from tests.trainers.conftest import Start

pytestmark = [pytest.mark.long, pytest.mark.trainers, pytest.mark.timeout(400)]

SLURM = {
    "SLURM_NTASKS": "1",
    "SLURM_JOB_NAME": "train",
    "SLURM_JOB_ID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_PROCID": "0",
    "SLURM_NODEID": "0",
}
SLOW = "step_s=0.1"


def saved(folder: Path) -> list[str]:
    found = [*folder.glob("*.ckpt"), *folder.glob("out/checkpoint-*"), *folder.glob("saved")]
    return sorted(path.name for path in found)


@pytest.mark.parametrize(
    ("script", "options", "signum", "code", "files", "went_on"),
    [
        ("hf.py", [], signal.SIGTERM, -15, [], False),
        ("hf.py", ["jit=1"], signal.SIGTERM, 0, ["checkpoint-*"], True),
        ("pl.py", [], signal.SIGTERM, 0, [], False),
        ("pl.py", ["save_on_exception=1"], signal.SIGTERM, 0, ["epoch=*.ckpt"], False),
        ("pl.py", ["on_exception=1"], signal.SIGTERM, 0, ["on_exception.ckpt"], False),
        ("pl.py", [], signal.SIGUSR1, -10, [], False),
        ("pl.py", ["save_on_exception=1"], signal.SIGINT, 1, ["epoch=*.ckpt"], False),
    ],
)
def test_ends(  # noqa: PLR0917 - a row of the table
    start: Start,
    tmp_path: Path,
    script: str,
    options: list[str],
    signum: int,
    code: int,
    files: list[str],
    went_on: bool,
) -> None:
    run = start(
        tmp_path / "run", script, SLOW, "steps=400", "every=1000" if script == "hf.py" else SLOW, *options
    )
    run.reach(5)
    assert run.stop(signum) == code
    found = saved(run.folder)
    assert len(found) == len(files), found
    assert all(Path(name).match(pattern) for name, pattern in zip(found, files, strict=True)), found
    assert (run.folder / "after").exists() is went_on, "the code after the training"


def test_slurm_means_no_checkpoint_on_sigterm(start: Start, tmp_path: Path) -> None:
    run = start(tmp_path / "run", "pl.py", SLOW, "steps=400", env=SLURM)
    run.reach(5)
    assert run.stop() == 0
    assert saved(run.folder) == []


def test_slurm_goes_on_training_after_its_signal(start: Start, tmp_path: Path) -> None:
    run = start(tmp_path / "run", "pl.py", SLOW, "steps=400", env=SLURM)
    run.reach(5)
    os.killpg(run.process.pid, signal.SIGUSR1)
    run.until(lambda: saved(run.folder) == ["hpc_ckpt_1.ckpt"], "a checkpoint")
    run.reach(len(run.losses) + 3)


@pytest.mark.parametrize("code", [0, 85])
def test_torchrun_hides_the_exit_code(start: Start, tmp_path: Path, code: int) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")
    run = start(tmp_path / "run", "traps.py", f"code={code}", launcher=launcher)
    run.reach(3)
    assert run.stop() == 1
    assert saved(run.folder) == ["saved"]


def test_dataloader_processes_die_of_the_groups_signal(start: Start, tmp_path: Path) -> None:
    """Why `sterna.trainers.workers` is there: the trainer ignores the signal and fails all the same."""
    run = start(tmp_path / "run", "hf.py", SLOW, "steps=400", "every=1000", "workers=2", "ignore=1")
    run.reach(5)
    assert run.stop() == 1
    # Either the library sees the death itself, or the connection to the dead process breaks first.
    assert "DataLoader worker" in run.log or "ConnectionResetError" in run.log
