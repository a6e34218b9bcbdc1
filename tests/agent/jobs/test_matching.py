"""Which checkpoints a glob finds, and which of them is sealed."""

import os
from pathlib import Path

import pytest

from agent.jobs.matching import Match, matches
from tests.sterna.trainers import files


def put(path: Path, written_s: float, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (written_s, written_s))
    return path


def seen(folder: Path, found: list[Match]) -> list[tuple[str, tuple[str, ...] | None, int | None]]:
    return [(match.source.relative_to(folder).as_posix(), match.files, match.step) for match in found]


def test_numbered_files_are_checkpoints_of_their_own(tmp_path: Path) -> None:
    for number, step in enumerate((100, 300, 200)):
        put(tmp_path / f"step-{step}.pt", 1000.0 + number)
    assert seen(tmp_path, matches(tmp_path, "*.pt")) == [
        ("step-200.pt", None, 200),
        ("step-300.pt", None, 300),
        ("step-100.pt", None, 100),
    ]


def test_files_of_one_step_belong_together(tmp_path: Path) -> None:
    for name in ("step-1/model.pt", "step-1/optimizer.pt", "step-2/model.pt", "step-2/optimizer.pt"):
        put(tmp_path / name, 1000.0)
    assert seen(tmp_path, matches(tmp_path, "**/*.pt")) == [
        (".", ("step-2/model.pt", "step-2/optimizer.pt"), 2),
        (".", ("step-1/model.pt", "step-1/optimizer.pt"), 1),
    ]


def test_files_without_a_number_are_one_checkpoint(tmp_path: Path) -> None:
    for name in ("rank0.pt", "rank1.pt", "optimizer.pt"):
        put(tmp_path / name, 1000.0)
    assert seen(tmp_path, matches(tmp_path, "*.pt")) == [
        (".", ("optimizer.pt", "rank0.pt", "rank1.pt"), None)
    ]


def test_a_folder_is_a_checkpoint_and_what_was_set_aside_is_none(tmp_path: Path) -> None:
    files.huggingface(tmp_path, 10)
    files.huggingface(tmp_path, 20).rename(tmp_path / "incomplete-checkpoint-20")
    for pattern in ("*checkpoint-*", "**", "**/*"):
        assert seen(tmp_path, matches(tmp_path, pattern)) == [("checkpoint-10", None, 10)], pattern
    assert matches(tmp_path / "gone", "*") == []


@pytest.mark.parametrize("broken", ["model.safetensors", "optimizer.pt"])
def test_fault_of_a_match(tmp_path: Path, broken: str) -> None:
    path = files.huggingface(tmp_path, 10)
    assert [match.fault() for match in matches(tmp_path, "checkpoint-*")] == [None]
    files.cut(path / broken)
    assert broken in (matches(tmp_path, "checkpoint-*")[0].fault() or "")
    assert broken in (matches(tmp_path, "*/*")[0].fault() or ""), "one by one too"
