import json
import shutil
import struct

import blake3
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.jobs.codec.decode import decode
from agent.jobs.codec.encode import encode
from sterna.errors import CorruptError
from tests.agent.jobs.codec.checkpoints import contents, folder

HEAD = struct.Struct("<8sII32s")
LIMIT_BYTES = 10**8


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """An earlier checkpoint, a newer one, and the container between them."""
    base = tmp_path_factory.mktemp("sent")
    old, new = folder(base / "old", 1), folder(base / "new", 1, moved=1e-5)
    encode(new, base / "container", old)
    return old, new, (base / "container").read_bytes()


def attempt(tmp_path, data, old, max_bytes=LIMIT_BYTES):
    (tmp_path / "container").write_bytes(data)
    try:
        decode(tmp_path / "container", tmp_path / "out", old, max_bytes=max_bytes)
    finally:
        left = {path.name for path in tmp_path.iterdir()} - {"container", "out"}
        assert left == set()


def refused(tmp_path, data, old, match, max_bytes=LIMIT_BYTES):
    with pytest.raises(CorruptError, match=match):
        attempt(tmp_path, data, old, max_bytes)
    assert not (tmp_path / "out").exists()


def header_of(data):
    _, packed_bytes, _, _ = HEAD.unpack_from(data)
    text = zstandard.ZstdDecompressor().decompress(data[HEAD.size : HEAD.size + packed_bytes])
    return json.loads(text), data[HEAD.size + packed_bytes :]


def forged(data, change):
    """The container with its header changed and its hash made to fit again."""
    header, payload = header_of(data)
    header = change(header) or header
    text = json.dumps(header).encode()
    packed = zstandard.ZstdCompressor().compress(text)
    return HEAD.pack(b"STERNAD1", len(packed), len(text), blake3.blake3(text).digest()) + packed + payload


def entry(header, path, name):
    file = next(file for file in header["files"] if file["path"] == path)
    return next(item for item in file["entries"] if item["name"] == name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_anywhere_is_found_or_changes_nothing(tmp_path, sent, data):
    """A compressed frame has a few bits that no decoder looks at."""
    old, new, container = sent
    position = data.draw(st.integers(0, len(container) - 1))
    damaged = bytearray(container)
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        attempt(tmp_path, bytes(damaged), old)
    except CorruptError as error:
        assert "container" in str(error)
        assert not (tmp_path / "out").exists()
    else:
        assert contents(tmp_path / "out") == contents(new)
        shutil.rmtree(tmp_path / "out")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_truncation_is_found(tmp_path, sent, data):
    old, _, container = sent
    refused(tmp_path, container[: data.draw(st.integers(0, len(container) - 1))], old, "container")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_noise_is_no_container(tmp_path, sent, noise):
    refused(tmp_path, noise, sent[0], "container")
    refused(tmp_path, sent[2][: HEAD.size] + noise, sent[0], "container")


def test_the_message_names_file_and_tensor(tmp_path, sent):
    old, _, container = sent
    damaged = bytearray(container)
    header, payload = header_of(container)
    assert header["files"][1]["entries"][0]["name"] == "w"
    damaged[len(container) - len(payload) + 2000] ^= 1
    refused(tmp_path, bytes(damaged), old, r"model\.safetensors: 'w'")


def test_more_behind_the_end_is_refused(tmp_path, sent):
    refused(tmp_path, sent[2] + b"x", sent[0], "goes on")


def test_more_than_the_manifest_allows_is_refused(tmp_path, sent):
    size_bytes = sum(map(len, contents(sent[1]).values()))
    refused(tmp_path, sent[2], sent[0], "more than", max_bytes=size_bytes - 1)
    attempt(tmp_path, sent[2], sent[0], max_bytes=size_bytes)
    assert contents(tmp_path / "out") == contents(sent[1])


def test_without_the_earlier_checkpoint(tmp_path, sent):
    refused(tmp_path, sent[2], None, "needs an earlier")
    refused(tmp_path, sent[2], tmp_path / "nowhere", "not there")


def test_another_earlier_checkpoint_is_named_as_the_culprit(tmp_path, sent):
    other = folder(tmp_path.parent / f"{tmp_path.name}-other", 2)
    refused(tmp_path, sent[2], other, r"earlier model\.safetensors has other bytes")


def test_a_shorter_earlier_checkpoint(tmp_path, sent):
    other = folder(tmp_path.parent / f"{tmp_path.name}-other", 1)
    whole = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(whole[:1000])
    refused(tmp_path, sent[2], other, "ends early")


def renamed(path):
    def change(header):
        header["files"][0]["path"] = path

    return change


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../b", "", "a//b", "a\\b", "a\nb", "."])
def test_paths_that_lead_elsewhere_are_refused(tmp_path, sent, path):
    refused(tmp_path, forged(sent[2], renamed(path)), sent[0], "header")


@pytest.mark.parametrize("path", ["../old/model.safetensors", "/etc/passwd"])
def test_an_earlier_file_elsewhere_is_refused(tmp_path, sent, path):
    def change(header):
        entry(header, "model.safetensors", "frozen")["base"]["path"] = path

    refused(tmp_path, forged(sent[2], change), sent[0], "plain relative")


def setting(name, value, path="model.safetensors", of="w"):
    def change(header):
        entry(header, path, of)[name] = value

    return change


def without_entry(header):
    header["files"][1]["entries"].pop(0)


def twice(header):
    header["files"].append(header["files"][-1])


def folder_and_file(header):
    header["files"].append({**header["files"][-1], "path": "zz"})
    header["files"].append({**header["files"][-1], "path": "zz/a"})


def rest_first(header):
    header["files"][1]["entries"].reverse()


CHANGES = {
    "offset": setting("offset_bytes", 0),
    "negative": setting("offset_bytes", -8),
    "size": setting("size_bytes", 2**40),
    "not a number": setting("size_bytes", "8"),
    "fraction": setting("size_bytes", 8.0),
    "empty": setting("size_bytes", 0),
    "width": setting("width_bytes", 3),
    "wide": setting("width_bytes", 8),
    "codec": setting("codec", "lossy"),
    "raw with base": setting("codec", "raw"),
    "no base": setting("base", None),
    "planes": setting("packed", [1]),
    "flags": setting("packed", [1, 2, 0, 0]),
    "digest": setting("digest", "00"),
    "digest not hex": setting("digest", "x" * 64),
    "digest wrong": setting("digest", "0" * 64),
    "name": setting("name", 5),
    "surrogate": setting("name", "\ud800"),
    "base of a rest": setting("base", {"digest": "0" * 64, "offset_bytes": None, "path": "empty"}),
    "missing entry": without_entry,
    "twice": twice,
    "folder and file": folder_and_file,
    "rest first": rest_first,
    "no files": lambda header: header["files"].clear(),
    "no list": lambda header: header.update(files=5),
    "entries": lambda header: header["files"][0].update(entries={}),
    "format": lambda header: header.update(format="sterna.delta/2"),
    "field": lambda header: header.update(more=1),
    "no object": lambda header: [1],
}


@pytest.mark.parametrize("case", CHANGES)
def test_forged_headers_are_refused(tmp_path, sent, case):
    refused(tmp_path, forged(sent[2], CHANGES[case]), sent[0], "container")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, sent):
    bomb = zstandard.ZstdCompressor().compress(bytes(10**7))
    head = HEAD.pack(b"STERNAD1", len(bomb), 100, bytes(32))
    refused(tmp_path, head + bomb, sent[0], "another size")
    refused(tmp_path, HEAD.pack(b"STERNAD1", 1, 2**32 - 1, bytes(32)), sent[0], "too large")
