"""Files as the libraries write them, made by hand."""

import json
import struct
import zipfile
from pathlib import Path


def safetensors(path: Path, *, data_bytes: int = 64) -> Path:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [data_bytes // 4], "data_offsets": [0, data_bytes]},
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(data_bytes))
    return path


def torch_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/data/0", bytes(4096))
    return path


def huggingface(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    safetensors(path / "model.safetensors")
    torch_zip(path / "optimizer.pt")
    torch_zip(path / "rng_state.pth")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    return path


def distributed(folder: Path) -> Path:
    folder.mkdir(parents=True)
    torch_zip(folder / "__0_0.distcp")
    torch_zip(folder / "__1_0.distcp")
    (folder / ".metadata").write_bytes(b"\x80\x04N.")
    return folder


def cut(path: Path, *, bytes_off: int = 20) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[:-bytes_off])
    return path
