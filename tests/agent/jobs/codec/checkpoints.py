"""Small checkpoints of every format, made without the libraries that write them."""

import json
import struct
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"
TORCH_FILE = DATA / "torch-2.13.pt"
"""Written by torch.save: a model's and AdamW's state dicts, a random state, a parameter, a set."""


def safetensors(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    header, offset = {"__metadata__": {"format": "np"}}, 0
    for name, (dtype, array) in tensors.items():
        end = offset + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    body = b"".join(array.tobytes() for _, array in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def bf16(values: np.ndarray) -> np.ndarray:
    return (values.astype("f4").view("u4") >> 16).astype("u2")


def folder(path: Path, seed: int, moved: float = 0.0) -> Path:
    """A checkpoint as trainers leave it; `moved` is how far the weights are from those of the seed."""
    path.mkdir(parents=True)
    dice = np.random.default_rng(seed)
    weights = (0.02 * dice.standard_normal((400, 300))).astype("f4")
    weights += (moved * dice.standard_normal(weights.shape)).astype("f4")
    frozen = dice.standard_normal(20_000).astype("f4")
    moments = (1e-4 * np.random.default_rng(seed + int(moved * 1e6)).standard_normal(30_000)).astype("f4")
    safetensors(
        path / "model.safetensors",
        {"w": ("F32", weights), "frozen": ("F32", frozen), "half": ("BF16", bf16(weights))},
    )
    np.savez(path / "optimizer.npz", m=moments, step=np.int64(moved * 1e6), count=np.arange(900))
    (path / "noise").mkdir()
    noise = np.random.default_rng(seed + int(moved * 1e6)).bytes(5003)
    (path / "noise" / "opaque.bin").write_bytes(noise)
    (path / "empty").touch()
    (path / "trainer_state.json").write_text(json.dumps({"step": moved * 1e6, "log": ["same"] * 200}))
    return path


def contents(root: Path) -> dict[str, bytes]:
    if root.is_file():
        return {".": root.read_bytes()}
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
