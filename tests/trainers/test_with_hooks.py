"""Unmodified scripts under the hooks: stopped with a checkpoint, resumed, and the losses go on exactly."""

import json
import shutil
from pathlib import Path

import pytest

from tests.trainers.conftest import Start

pytestmark = [pytest.mark.long, pytest.mark.trainers, pytest.mark.timeout(600)]

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def move(
    start: Start, tmp_path: Path, script: str, options: list[str], **keywords: object
) -> dict[str, list[str]]:
    """Run a script to its end, and once more with a stop in the middle; return the losses of each."""
    first = start(tmp_path / "first", script, "step_s=0.1", *options, hooks=True, **keywords)
    if any(option.startswith("stop_") for option in options):
        code = first.end()
    else:
        first.reach(8)
        code = first.stop(ask=True)
    assert code == (1 if keywords else 85), first.log[-3000:]
    result = first.result
    assert result is not None and result["outcome"] == "stopped", first.log[-3000:]
    assert not (first.folder / "after").exists(), "the code after the training did not run"
    checkpoint = result["checkpoint"]
    assert checkpoint["step"] == result["step"]
    # Taken out of the trainer's reach, and nothing of its folder goes along.
    resume = tmp_path / "resume" / Path(checkpoint["path"]).name
    resume.parent.mkdir()
    shutil.move(checkpoint["path"], resume)
    second = start(tmp_path / "second", script, *options, hooks=True, resume=resume, **keywords)
    assert second.end() == 0, second.log[-3000:]
    assert second.result is not None and second.result["outcome"] == "completed"
    assert (second.folder / "after").exists()
    progress = json.loads((second.folder / "progress.json").read_text())
    assert progress["start_step"] == result["step"]
    whole = start(tmp_path / "whole", script, *options, **keywords)
    assert whole.end() == 0, whole.log[-3000:]
    return {"moved": first.losses + second.losses, "whole": whole.losses}


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("hf.py", ["steps=30"]),
        ("hf.py", ["steps=30", "workers=2", "jit=1"]),
        ("hf.py", ["steps=20", "accumulate=2", "eval_s=0.1"]),
        ("pl.py", ["steps=30", "stateful=1"]),
        ("pl.py", ["steps=20", "stateful=1", "accumulate=2", "every=5", "package=pytorch_lightning"]),
        ("pl.py", ["steps=30", "stateful=1", "save_on_exception=1", "eval_s=0.05"]),
    ],
)
def test_losses_go_on_exactly(start: Start, tmp_path: Path, script: str, options: list[str]) -> None:
    losses = move(start, tmp_path, script, options)
    assert losses["moved"] == losses["whole"]


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("hf.py", ["stop_at=15"]),
        ("hf.py", ["stop_at=15", "workers=2"]),
        ("pl.py", ["stop_at=14", "stateful=1"]),
        ("pl.py", ["stop_at=15", "stateful=1"]),
        ("pl.py", ["stop_at=15"]),
        ("pl.py", ["stop_at=15", "workers=2"]),
        ("pl.py", ["stop_at=15", "stateful=1", "eval_s=0.01"]),
        ("pl.py", ["stop_in_eval_at=15", "stateful=1", "eval_s=0.01"]),
        ("pl.py", ["stop_at=16", "stateful=1"]),
    ],
)
def test_losses_go_on_exactly_about_the_end_of_an_epoch(
    start: Start, tmp_path: Path, script: str, options: list[str]
) -> None:
    losses = move(start, tmp_path, script, ["steps=35", *options])
    assert losses["moved"] == losses["whole"]


def test_two_ranks_under_torchrun(start: Start, tmp_path: Path) -> None:
    losses = move(start, tmp_path, "hf.py", ["steps=20"], launcher=TORCHRUN)
    assert sorted(set(losses["moved"])) == sorted(set(losses["whole"]))


def test_a_plain_loader_in_lightning_is_not_exact(start: Start, tmp_path: Path) -> None:
    """The epoch's order is drawn anew on a resume; docs/trainers.md says so. It goes on all the same."""
    losses = move(start, tmp_path, "pl.py", ["steps=30"])
    assert [line.split()[0] for line in losses["moved"]] == [line.split()[0] for line in losses["whole"]]
    stopped = int(json.loads((tmp_path / "first" / "result.json").read_text())["step"])
    assert losses["moved"][:stopped] == losses["whole"][:stopped]


def test_an_incomplete_checkpoint_is_set_aside_and_the_whole_one_taken(start: Start, tmp_path: Path) -> None:
    """The library's own search would take checkpoint-20, which is only half there."""
    first = start(tmp_path / "first", "hf.py", "steps=20", "every=10", "out=../out", hooks=True)
    assert first.end() == 0, first.log[-3000:]
    (tmp_path / "out" / "checkpoint-20" / "trainer_state.json").unlink()
    second = start(tmp_path / "second", "hf.py", "steps=20", "every=10", "out=../out", "resume=1", hooks=True)
    assert second.end() == 0, second.log[-3000:]
    assert "is not complete (trainer_state.json is missing)" in second.log
    assert (tmp_path / "out" / "incomplete-checkpoint-20").is_dir()
    assert [line.split()[0] for line in second.losses] == [str(step) for step in range(11, 21)]
    assert second.losses == first.losses[10:]
