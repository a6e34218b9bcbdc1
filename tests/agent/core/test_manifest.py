import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone

import blake3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import manifest as manifests
from agent.core.manifest import Layout
from agent.model.jobs import CheckpointFile, Manifest
from sterna.errors import CorruptError

SEALED_AT = datetime(2026, 6, 1, 12, 0, 0, 5, tzinfo=UTC)


def a_manifest(sizes=((("s/a"), 10), ("s/b", 0), ("s/c/d", 25)), chunk_bytes=8, **changes) -> Manifest:
    total = sum(size for _, size in sizes)
    fields = {
        "job_id": "job-1",
        "epoch": 3,
        "step": 100,
        "files": tuple(CheckpointFile(path=path, size_bytes=size) for path, size in sizes),
        "chunk_bytes": chunk_bytes,
        "chunk_hashes": tuple(bytes([index % 256] * 32) for index in range(-(-total // max(chunk_bytes, 1)))),
        "sealed_at": SEALED_AT,
    }
    return Manifest(**{**fields, **changes})


@st.composite
def valid_manifests(draw):
    names = draw(st.sets(st.text("abcé.-_ 日", min_size=1, max_size=6), min_size=1, max_size=12))
    names = sorted("top/" + name for name in names if name not in (".", "..")) or ["top/x"]
    sizes = tuple((name, draw(st.integers(0, 200))) for name in names)
    return a_manifest(
        sizes,
        draw(st.integers(1, 64)),
        epoch=draw(st.integers(0, 2**63 - 1)),
        step=draw(st.integers(0, 2**63 - 1)),
        sealed_at=SEALED_AT + timedelta(microseconds=draw(st.integers(0, 10**15))),
    )


def test_the_canonical_form_is_written_down():
    """A change here changes the identity of every checkpoint in every store: it must never happen unseen."""
    manifest = a_manifest((("s/a", 3),), 8, chunk_hashes=(b"\x01" * 32,))
    assert manifests.encode(manifest) == (
        b'{"chunk_bytes":8,"chunk_hashes":["' + b"01" * 32 + b'"],"epoch":3,'
        b'"files":[{"path":"s/a","size_bytes":3}],"format":"sterna.manifest/1","job_id":"job-1",'
        b'"sealed_at":"2026-06-01T12:00:00.000005Z","step":100}'
    )
    assert manifests.checkpoint_id(manifest) == blake3.blake3(manifests.encode(manifest)).hexdigest()
    assert manifests.is_checkpoint_id(manifests.checkpoint_id(manifest))


@given(valid_manifests())
def test_a_valid_manifest_comes_back_and_its_identity_with_it(manifest):
    assert manifests.faults(manifest) == ()
    again = manifests.decode(manifests.encode(manifest))
    assert again == manifest
    assert manifests.checkpoint_id(again) == manifests.checkpoint_id(manifest)


@given(valid_manifests(), st.data())
def test_chunks_cut_the_concatenation_without_gap_or_overlap(manifest, data):
    content = {
        file.path: data.draw(st.binary(min_size=file.size_bytes, max_size=file.size_bytes))
        for file in manifest.files
    }
    layout = Layout.of(manifest)
    chunks = []
    for index in range(layout.chunks):
        extents = layout.extents(index)
        assert all(extent.length_bytes > 0 for extent in extents)
        chunk = b"".join(
            content[extent.path][extent.offset_bytes :][: extent.length_bytes] for extent in extents
        )
        assert len(chunk) == layout.chunk_size_bytes(index)
        chunks.append(chunk)
    assert all(len(chunk) == manifest.chunk_bytes for chunk in chunks[:-1])
    assert b"".join(chunks) == b"".join(content[file.path] for file in manifest.files)
    for outside in (-1, layout.chunks):
        with pytest.raises(IndexError):
            layout.extents(outside)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Manifest)])
def test_every_field_is_part_of_the_identity(field):
    one = a_manifest()
    other = {
        "job_id": "job-2",
        "epoch": 4,
        "step": 101,
        "files": a_manifest((("s/a", 11), ("s/b", 0), ("s/c/d", 24))).files,
        "chunk_bytes": 9,
        "chunk_hashes": (b"\xff" * 32, *one.chunk_hashes[1:]),
        "sealed_at": SEALED_AT + timedelta(microseconds=1),
    }
    changed = dataclasses.replace(one, **{field: other[field]})
    assert manifests.checkpoint_id(changed) != manifests.checkpoint_id(one)


PATH_FAULTS = {
    "": "is empty",
    "/etc/passwd": "is absolute",
    "s/../../x": "not in plain relative form",
    "..": "not in plain relative form",
    "s/./x": "not in plain relative form",
    "s//x": "not in plain relative form",
    "s/": "not in plain relative form",
    "s\\x": "backslash or a control character",
    "s/\n": "backslash or a control character",
    "s/\0": "backslash or a control character",
    "s/" + "x" * 256: "is too long",
    "s/" + "x/" * 2100 + "x": "is too long",
    "s/\udcff": "is not UTF-8",
}


@pytest.mark.parametrize("path, fault", PATH_FAULTS.items(), ids=range(len(PATH_FAULTS)))
def test_paths_that_must_not_be_written(path, fault):
    assert any(fault in found for found in manifests.faults(a_manifest(((path, 10),))))


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"job_id": ""}, "job_id"),
        ({"job_id": "../x"}, "job_id"),
        ({"job_id": "."}, "job_id"),
        ({"epoch": -1}, "epoch: -1"),
        ({"step": 2**63}, "step: 9223372036854775808"),
        ({"chunk_bytes": 0}, "chunk_bytes: 0"),
        ({"chunk_bytes": manifests.MAX_CHUNK_BYTES + 1}, "chunk_bytes"),
        ({"sealed_at": SEALED_AT.replace(tzinfo=None)}, "sealed_at"),
        ({"sealed_at": SEALED_AT.astimezone(timezone(timedelta(hours=2)))}, "sealed_at"),
        ({"files": ()}, "there are none"),
        ({"files": a_manifest((("s/a", -1),)).files}, "files[0].size_bytes"),
        ({"files": a_manifest((("s/a", 1), ("s/a", 1))).files}, "occurs twice"),
        ({"files": a_manifest((("s/b", 1), ("s/a", 1))).files}, "not in order"),
        ({"files": a_manifest((("s/a", 1), ("s/a/b", 1))).files}, "'s/a' is both a file and a folder"),
        ({"files": a_manifest((("s/a", 1), ("t/b", 1))).files}, "below 2 names"),
        ({"chunk_hashes": (bytes(31),) * 5}, "chunk_hashes[0]: 31 bytes"),
        ({"chunk_hashes": (bytes(32),) * 4}, "4 chunks, expected 5"),
        ({"chunk_hashes": (bytes(32),) * 6}, "6 chunks, expected 5"),
    ],
)
def test_every_fault_is_named(changes, fault):
    assert any(fault in found for found in manifests.faults(a_manifest(**changes)))


def test_all_faults_are_told_at_once():
    found = manifests.faults(a_manifest(epoch=-1, step=-1, job_id="", chunk_hashes=(b"",)))
    assert [text.partition(":")[0] for text in found] == ["job_id", "epoch", "step", "chunk_hashes[0]"]


def test_too_many_files():
    file = CheckpointFile(path="s", size_bytes=0)
    found = manifests.faults(a_manifest(files=(file,) * (manifests.MAX_FILES + 1)))
    assert any("too many" in text for text in found)


GOOD = manifests.to_dict(a_manifest())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        json.dumps(GOOD).encode(),
        manifests.encode(a_manifest()) + b"\n",
        *(
            json.dumps({**GOOD, **change}, sort_keys=True, separators=(",", ":")).encode()
            for change in (
                {"more": 1},
                {"format": "sterna.manifest/2"},
                {"epoch": "3"},
                {"epoch": True},
                {"epoch": 3.0},
                {"job_id": None},
                {"files": {}},
                {"files": [{"path": "s/a"}]},
                {"files": [1]},
                {"chunk_hashes": ["zz"]},
                {"chunk_hashes": [1]},
                {"sealed_at": "yesterday"},
                {"step": -1},
            )
        ),
    ],
)
def test_what_is_not_a_canonical_manifest_is_refused(data):
    with pytest.raises(CorruptError):
        manifests.decode(data)


def test_the_top_name_is_what_the_trainer_had_called_it():
    assert manifests.top_name(a_manifest()) == "s"
    assert manifests.top_name(a_manifest((("last.ckpt", 3),))) == "last.ckpt"
