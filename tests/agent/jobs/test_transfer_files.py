"""Chunks that come in pieces of any length, over files of any length."""

import random
import threading

import pytest

from agent.core.manifest import Layout
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.transfer_files import ChunkReader, Staging
from sterna.clock import SystemClock
from tests.agent.jobs.sites import JOB, tree

CHUNK_BYTES = 64


async def stores(tmp_path):
    """A sealed checkpoint whose chunks lie across files, its reader, and an open place for it."""
    source = tmp_path / "step-1"
    source.mkdir()
    for name, size_bytes in {"a": 3, "b": 0, "c": 200, "d": 1, "e": 60, "f": 129}.items():
        (source / name).write_bytes(random.Random(name).randbytes(size_bytes))
    holder = CheckpointStore(tmp_path / "holder", SystemClock(), CHUNK_BYTES)
    checkpoint = await holder.seal(JOB, 1, 1, source)
    reader = ChunkReader(await holder.files_folder(checkpoint.checkpoint_id), Layout.of(checkpoint.manifest))
    receiver = CheckpointStore(tmp_path / "receiver", SystemClock(), CHUNK_BYTES)
    staging = Staging(await receiver.fetch_staging(JOB, checkpoint.checkpoint_id), checkpoint.manifest)
    staging.open(threading.Event())
    return reader, staging


def cut(chunk, piece_bytes):
    data = memoryview(bytes(chunk))
    return [data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)]


@pytest.mark.parametrize("piece_bytes", [1, 2, 7, 63, 64])
async def test_pieces_of_any_length_fill_the_files(tmp_path, piece_bytes):
    reader, staging = await stores(tmp_path)
    for index in reversed(range(reader.layout.chunks)):
        assert staging.store(index, cut(reader.read(index, bytearray(CHUNK_BYTES)), piece_bytes))
    staging.close()
    assert staging.missing_bytes == 0
    assert tree(staging.files / "step-1") == tree(tmp_path / "step-1")


async def test_a_chunk_with_its_pieces_in_another_order_leaves_no_trace(tmp_path):
    reader, staging = await stores(tmp_path)
    before = tree(staging.files)
    pieces = cut(reader.read(1, bytearray(CHUNK_BYTES)), 16)
    assert not staging.store(1, pieces[::-1])
    staging.close()
    assert tree(staging.files) == before
    assert 1 in {index for run in staging.missing(1) for index in range(run.first, run.first + run.count)}
