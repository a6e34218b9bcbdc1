"""What makes a checkpoint complete, on files made by hand; the libraries' own are in tests/trainers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterna.trainers import complete
from tests.sterna.trainers import files

Make = Callable[[Path], Path]


def text(name: str, content: str | bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return make


def big_json(folder: Path) -> Path:
    return text("tokenizer.json", json.dumps({"vocabulary": ["word"] * 100_000}))(folder)


def sharded(folder: Path) -> Path:
    path = folder / "checkpoint-5"
    files.huggingface(folder, 5)
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    files.safetensors(path / "model-00002-of-00002.safetensors")
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict(zip("ab", names, strict=True))})
    )
    return path


def without(make: Make, name: str) -> Make:
    def remove(folder: Path) -> Path:
        path = make(folder)
        (path / name).unlink()
        return path

    return remove


def with_file(make: Make, name: str, content: bytes) -> Make:
    def add(folder: Path) -> Path:
        path = make(folder)
        (path / name).write_bytes(content)
        return path

    return add


def with_cut(make: Make, name: str) -> Make:
    def cut(folder: Path) -> Path:
        path = make(folder)
        files.cut(path / name if name else path)
        return path

    return cut


def hf(folder: Path) -> Path:
    return files.huggingface(folder, 20)


def dcp(folder: Path) -> Path:
    return files.distributed(folder / "step-3")


def weights(folder: Path) -> Path:
    return files.safetensors(folder / "model.safetensors")


def ckpt(folder: Path) -> Path:
    return files.torch_zip(folder / "epoch=0-step=4.ckpt")


@pytest.mark.parametrize(
    "make",
    [
        hf,
        sharded,
        dcp,
        weights,
        ckpt,
        big_json,
        lambda folder: files.distributed(folder / "checkpoint" / "model").parent,
        text("legacy.pt", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
        text("w.bin", "anything"),
        text("lines.json", '{"a": 1}\n{"b": 2}\n'),
        text("n.json", "not JSON, but the program's own"),
        text("state.json", '{"step": 3}'),
    ],
)
def test_complete(tmp_path: Path, make: Make) -> None:
    assert complete.fault(make(tmp_path)) is None


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (without(hf, "trainer_state.json"), "trainer_state.json is missing"),
        (without(hf, "model.safetensors"), "the weights are missing"),
        (with_file(hf, "checkpoint-is-incomplete.txt", b"x"), "checkpoint-is-incomplete.txt is there"),
        (with_cut(hf, "model.safetensors"), "model.safetensors has"),
        (with_cut(hf, "optimizer.pt"), "optimizer.pt is cut off"),
        (with_cut(hf, "trainer_state.json"), "trainer_state.json is cut off"),
        (with_file(hf, "trainer_state.json", b""), "trainer_state.json is cut off"),
        (with_file(hf, "trainer_state.json", b"{\xff\x01"), "trainer_state.json is not text"),
        (with_file(hf, "optimizer.pt", b""), "optimizer.pt is empty"),
        (without(sharded, "model-00002-of-00002.safetensors"), "model-00002-of-00002.safetensors is missing"),
        (with_file(sharded, "model.safetensors.index.json", b"{}"), "index.json is not readable"),
        (without(dcp, ".metadata"), "step-3/.metadata is missing"),
        (with_file(dcp, ".metadata", b""), "step-3/.metadata is missing"),
        (with_cut(weights, ""), "model.safetensors has"),
        (text("a.safetensors", b"\x10"), "a.safetensors is cut off"),
        (text("a.safetensors", (10**6).to_bytes(8, "little") + b"{"), "a.safetensors is cut off"),
        (text("a.safetensors", (4).to_bytes(8, "little") + b"abcd"), "no readable header"),
        (with_cut(ckpt, ""), "epoch=0-step=4.ckpt is cut off"),
        (text("a.pth", bytes(4096)), "a.pth is empty"),
        (with_cut(big_json, ""), "tokenizer.json is cut off"),
        (text("state.json", '{"step": '), "state.json is cut off"),
        (lambda folder: folder / "gone", "vanished"),
    ],
)
def test_incomplete(tmp_path: Path, make: Make, fault: str) -> None:
    assert fault in (complete.fault(make(tmp_path)) or "")


def test_what_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.symlink_to(path)
    assert "cannot be read" in (complete.fault(path) or "")


@given(kept=st.floats(0, 1, exclude_max=True), kind=st.sampled_from([weights, ckpt]))
@settings(max_examples=60)
def test_no_file_that_was_cut_off_is_complete(
    tmp_path_factory: pytest.TempPathFactory, kept: float, kind: Make
) -> None:
    path = kind(tmp_path_factory.mktemp("cut"))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert complete.fault(path) is not None


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-20", 20),
        ("epoch=1-step=40.ckpt", 40),
        ("step-000100.pt", 100),
        ("global_step12_model.bin", 12),
        ("iter_0000500", 500),
        ("epoch3.pt", 3),
        ("ckpt_7", 7),
        ("rank0.pt", None),
        ("model-00001-of-00002.safetensors", None),
        ("w.bin", None),
    ],
)
def test_step_of_a_name(name: str, step: int | None) -> None:
    assert complete.step_of(name) == step
