import numpy as np
import pytest

from agent.core.codec_plan import Codec
from agent.jobs.codec import encode as encoding
from agent.jobs.codec.decode import decode
from agent.jobs.codec.encode import Encoder, encode, estimate
from agent.jobs.codec.extents import BLOCK_BYTES, complement
from sterna.errors import CorruptError, PermanentError
from tests.agent.jobs.codec.checkpoints import TORCH_FILE, contents, folder, safetensors

LIMIT_BYTES = 10**9


def there_and_back(tmp_path, new, old=None):
    summary = encode(new, tmp_path / "container", old)
    assert (tmp_path / "container").stat().st_size == summary.sent_bytes
    size_bytes = decode(tmp_path / "container", tmp_path / "out", old, max_bytes=LIMIT_BYTES)
    assert contents(tmp_path / "out") == contents(new)
    assert size_bytes == summary.size_bytes == sum(map(len, contents(new).values()))
    assert list(tmp_path.glob("*.partial")) == []
    return summary


def codecs(new, old=None):
    return {
        (file.path, entry.name): entry.choice.way.codec
        for file in Encoder(new, old).plan()
        for entry in file.entries
    }


def test_a_checkpoint_alone(tmp_path):
    summary = there_and_back(tmp_path, folder(tmp_path / "new", 1))
    assert summary.sent_bytes < 0.9 * summary.size_bytes
    assert Codec.DELTA.value not in summary.codec_bytes


def test_beside_an_earlier_one_each_tensor_goes_its_cheapest_way(tmp_path):
    old, new = folder(tmp_path / "old", 1), folder(tmp_path / "new", 1, moved=1e-5)
    summary = there_and_back(tmp_path, new, old)
    assert summary.sent_bytes < 0.6 * summary.size_bytes
    chosen = codecs(new, old)
    assert chosen["model.safetensors", "w"] is Codec.DELTA
    assert chosen["model.safetensors", "half"] is Codec.DELTA
    assert chosen["model.safetensors", "frozen"] is Codec.REFERENCE
    assert chosen["optimizer.npz", "m"] is Codec.PLANES
    assert chosen["noise/opaque.bin", ""] is Codec.RAW


def test_the_same_again_is_next_to_nothing(tmp_path):
    new = folder(tmp_path / "new", 1)
    summary = there_and_back(tmp_path, new, new)
    assert set(summary.codec_bytes) == {"reference"}
    assert summary.sent_bytes < 1500


def test_a_tensor_is_found_under_another_name(tmp_path):
    frozen = np.random.default_rng(0).standard_normal(5000).astype("f4")
    for name, key in (("old", "base.w"), ("new", "merged.w")):
        (tmp_path / name).mkdir()
        safetensors(tmp_path / name / f"{name}.safetensors", {key: ("F32", frozen)})
    assert codecs(tmp_path / "new", tmp_path / "old")["new.safetensors", "merged.w"] is Codec.REFERENCE
    there_and_back(tmp_path, tmp_path / "new", tmp_path / "old")


def test_a_tensor_of_another_shape_is_no_base(tmp_path):
    dice = np.random.default_rng(0)
    for name, length in (("old", 5000), ("new", 6000)):
        (tmp_path / name).mkdir()
        values = dice.standard_normal(length).astype("f4")
        safetensors(tmp_path / name / "m.safetensors", {"w": ("F32", values)})
    assert codecs(tmp_path / "new", tmp_path / "old")["m.safetensors", "w"] is Codec.PLANES
    there_and_back(tmp_path, tmp_path / "new", tmp_path / "old")


def test_a_single_file(tmp_path):
    there_and_back(tmp_path, TORCH_FILE)
    (tmp_path / "out").unlink()
    there_and_back(tmp_path, TORCH_FILE, TORCH_FILE)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "u1"])
def test_types_and_sizes_around_a_block(tmp_path, dtype):
    length = BLOCK_BYTES // np.dtype(dtype).itemsize
    for extra in (-1, 0, 1):
        dice = np.random.default_rng(length)
        values = (100 * dice.standard_normal(length + extra)).astype(dtype)
        np.save(tmp_path / "old.npy", values)
        np.save(tmp_path / "new.npy", values + np.ones_like(values))
        there_and_back(tmp_path, tmp_path / "new.npy", tmp_path / "old.npy")
        (tmp_path / "out").unlink()


def test_opaque_floats_are_found_to_be_floats(tmp_path):
    values = (0.02 * np.random.default_rng(0).standard_normal(300_000)).astype("f4")
    (tmp_path / "new").write_bytes(values.tobytes())
    summary = there_and_back(tmp_path, tmp_path / "new")
    assert summary.sent_bytes < 0.9 * summary.size_bytes


def test_the_same_input_gives_the_same_container(tmp_path):
    old, new = folder(tmp_path / "old", 1), folder(tmp_path / "new", 1, moved=1e-5)
    for name in ("one", "two"):
        encode(new, tmp_path / name, old)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_estimate_is_near_what_is_sent(tmp_path):
    old, new = folder(tmp_path / "old", 1), folder(tmp_path / "new", 1, moved=1e-5)
    sent_bytes = encode(new, tmp_path / "container", old).sent_bytes
    assert estimate(new, old).sent_bytes == pytest.approx(sent_bytes, rel=0.02)


def test_progress_covers_both_passes(tmp_path):
    old, new = folder(tmp_path / "old", 1), folder(tmp_path / "new", 1, moved=1e-5)
    done = []
    size_bytes = encode(new, tmp_path / "c", old, done.append).size_bytes
    assert sum(done) == 2 * size_bytes + sum(map(len, contents(old).values()))
    done.clear()
    decode(tmp_path / "c", tmp_path / "out", old, max_bytes=LIMIT_BYTES, progress=done.append)
    assert sum(done) == size_bytes


def test_no_checkpoint_there(tmp_path):
    with pytest.raises(PermanentError, match="no checkpoint"):
        encode(tmp_path / "nothing", tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_changes_while_it_is_encoded_is_noticed(tmp_path):
    new = folder(tmp_path / "new", 1)
    encoder = Encoder(new, None)
    plan = encoder.plan()
    changed = bytearray((new / "model.safetensors").read_bytes())
    changed[-1] ^= 1
    (new / "model.safetensors").write_bytes(changed)
    with (tmp_path / "c").open("wb") as file, pytest.raises(CorruptError, match=r"model\.safetensors.*half"):
        encoder.write(plan, file)


def test_a_base_that_shrinks_while_it_is_read_is_noticed(tmp_path):
    old, new = folder(tmp_path / "old", 1), folder(tmp_path / "new", 1, moved=1e-5)
    encoder = Encoder(new, old)
    plan = encoder.plan()
    (old / "model.safetensors").write_bytes(b"")
    with (tmp_path / "c").open("wb") as file, pytest.raises(CorruptError, match="ends early"):
        encoder.write(plan, file)


def test_a_stale_partial_is_no_obstacle(tmp_path):
    new = folder(tmp_path / "new", 1)
    encoding.partial_of(tmp_path / "container").write_bytes(b"left by a process that was killed")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "left").touch()
    there_and_back(tmp_path, new)


@pytest.mark.parametrize(
    ("extents", "size_bytes", "left"),
    [
        ([], 10, ((0, 10),)),
        ([], 0, ()),
        ([(0, 10)], 10, ()),
        ([(2, 3), (5, 1), (8, 2)], 10, ((0, 2), (6, 2))),
    ],
)
def test_complement(extents, size_bytes, left):
    assert complement(extents, size_bytes) == left
