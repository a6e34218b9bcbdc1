import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.jobs.codec.layouts import layout_of
from agent.jobs.codec.pickled import UnreadableError, storages
from tests.agent.jobs.codec.checkpoints import TORCH_FILE, bf16, safetensors


def found(path):
    layout = layout_of(path)
    return layout.format, {(t.name, t.dtype, t.shape) for t in layout.tensors}


def test_safetensors(tmp_path):
    path = tmp_path / "x"
    w = np.ones((20, 30), "f4")
    safetensors(path, {"a.w": ("F32", w), "b": ("BF16", bf16(w)), "tiny": ("F32", np.ones(2, "f4"))})
    assert found(path) == ("safetensors", {("a.w", "F32", (20, 30)), ("b", "BF16", (20, 30))})
    tensor = layout_of(path).tensors[0]
    data = path.read_bytes()[tensor.offset_bytes : tensor.offset_bytes + tensor.size_bytes]
    assert data == w.tobytes()


def test_npz_and_npy(tmp_path):
    w, i = np.arange(999.0), np.arange(400)
    np.savez(tmp_path / "x.npz", w=w, i=i, odd=np.array([{}, 1], dtype=object), big=w.astype(">f8"))
    np.save(tmp_path / "x.npy", w)
    assert found(tmp_path / "x.npz") == ("npz", {("w", "F64", (999,)), ("i", "I64", (400,))})
    assert found(tmp_path / "x.npy") == ("npy", {("array", "F64", (999,))})
    tensor = next(t for t in layout_of(tmp_path / "x.npz").tensors if t.name == "w")
    assert (tmp_path / "x.npz").read_bytes()[tensor.offset_bytes :].startswith(w.tobytes())


def test_compressed_archives_are_plain_bytes(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", w=np.arange(999.0))
    assert found(tmp_path / "x.npz") == ("bytes", set())


def test_torch_by_names_types_and_shapes():
    assert found(TORCH_FILE) == (
        "torch",
        {
            ("model/0.weight", "F32", (24, 20)),
            ("optimizer/state/0/exp_avg", "F32", (24, 20)),
            ("optimizer/state/0/exp_avg_sq", "F32", (24, 20)),
            ("rng", "U8", (2048,)),
            ("hyper/w/0", "F32", (300,)),
        },
    )


def test_torch_storages_without_a_readable_pickle_are_known_by_key(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02no pickle")
        archive.writestr("x/data/0", bytes(4000))
    assert found(path) == ("torch", {("data/0", "", ())})


class Bomb:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_is_never_executed(tmp_path, capsys):
    data = pickle.dumps({"a": Bomb(), "b": [Bomb()] * 3}, protocol=2)
    assert storages(data) == {}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_all_protocols_are_followed(protocol):
    value = {"a": [1, 2.5, None, True, b"x", (1, 2, 3, 4)], "b": {1, 2}, "c": "é" * 300, 7: 2**70}
    assert storages(pickle.dumps([value, frozenset((1,)), value], protocol=protocol)) == {}


def test_a_pickle_that_shares_without_end_is_walked_once():
    nested = []
    for _ in range(60):
        nested = [nested, nested]
    assert storages(pickle.dumps(nested, protocol=2)) == {}


@settings(max_examples=300)
@given(st.integers(0, 4000), st.integers(1, 255))
def test_a_damaged_pickle_breaks_nothing(position, flip):
    with zipfile.ZipFile(TORCH_FILE) as archive:
        data = bytearray(archive.read("torch-2.13/data.pkl"))
    data[position % len(data)] ^= flip
    try:
        result = storages(bytes(data))
    except UnreadableError:
        return
    assert all(isinstance(storage.name, str) for storage in result.values())


HEADERS = {
    "overlap": {
        "a": {"dtype": "U8", "shape": [2000], "data_offsets": [0, 2000]},
        "b": {"dtype": "U8", "shape": [2000], "data_offsets": [1000, 3000]},
    },
    "outside": {"a": {"dtype": "U8", "shape": [9000], "data_offsets": [0, 9000]}},
    "backwards": {"a": {"dtype": "U8", "shape": [0], "data_offsets": [2000, 100]}},
    "not numbers": {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, "x"]}},
    "no object": [1],
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies_makes_plain_bytes(tmp_path, case):
    text = json.dumps(HEADERS[case]).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4000))
    assert found(tmp_path / "x") == ("bytes", set())


def test_a_shape_that_does_not_fit_is_dropped(tmp_path):
    text = b'{"a":{"dtype":"F32","shape":[7,7],"data_offsets":[0,4000]}}'
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4000))
    assert found(tmp_path / "x") == ("safetensors", {("a", "F32", ())})


def sound_files():
    archive = io.BytesIO()
    np.savez(archive, w=np.arange(999.0), i=np.arange(400))
    return [TORCH_FILE.read_bytes(), archive.getvalue()]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([0, 1]), st.integers(0, 20_000), st.integers(0, 255), st.booleans())
def test_a_damaged_file_has_a_layout_that_fits_it(tmp_path, which, position, value, cut):
    data = bytearray(sound_files()[which])
    data[position % len(data)] = value
    path = tmp_path / "x"
    path.write_bytes(data[: position % len(data)] if cut else data)
    layout = layout_of(path)
    end = 0
    for tensor in layout.tensors:
        assert tensor.offset_bytes >= end
        end = tensor.offset_bytes + tensor.size_bytes
    assert end <= layout.size_bytes == path.stat().st_size
