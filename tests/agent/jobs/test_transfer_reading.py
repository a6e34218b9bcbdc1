"""What a thread that reads a run does when the stream, the disk or its caller does something else."""

import asyncio
import threading

import pytest

from agent.jobs import serializer, transfer_server
from agent.jobs.transfer_files import Staging
from sterna.errors import PermanentError, TransientError
from tests.agent.jobs.sites import CHUNK_BYTES, JOB, Site, fetch_order, sealed, ticket


def ignore(done: int, total: int) -> None:
    pass


@pytest.fixture
def harbor(tmp_path):
    return Site("harbor", tmp_path)


@pytest.fixture
def ridge(tmp_path):
    return Site("ridge", tmp_path)


def fetching(harbor, ridge, checkpoint, on_progress=ignore, max_bps=None):
    identity = checkpoint.checkpoint_id
    order = fetch_order(identity, harbor.address, ticket("harbor", identity), max_bps)
    return ridge.transfers.fetch(JOB, order, on_progress)


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (lambda data: b"\xff\xff", "ChunkResponse: cannot be read"),
        (lambda data: b"", "0 bytes where chunk 0 lacks"),
        (lambda data: b"\x0a\x81\x80\x04" + bytes(65537), "65537 bytes where chunk 0 lacks 65536"),
    ],
)
async def test_what_is_no_chunk_breaks_the_contract(  # noqa: PLR0917 - fixtures and cases
    harbor, ridge, tmp_path, monkeypatch, wire, said
):
    checkpoint = await sealed(harbor, tmp_path, {"w": 90_000})
    monkeypatch.setattr(serializer, "chunk_to_wire", wire)
    async with harbor.serving():
        with pytest.raises(PermanentError, match=said):
            await fetching(harbor, ridge, checkpoint)


async def test_a_stream_that_ends_early_is_a_cut(harbor, ridge, tmp_path, monkeypatch):
    checkpoint = await sealed(harbor, tmp_path, {"w": 90_000})
    ridge.settings = {"give_up_s": 0.0}
    ridge.restart()

    async def nothing(*_):
        return
        yield

    monkeypatch.setattr(transfer_server, "chunk_pieces", nothing)
    async with harbor.serving():
        with pytest.raises(TransientError, match="the stream ended within chunk 0"):
            await fetching(harbor, ridge, checkpoint)


async def test_a_disk_that_fails_is_told_as_such(harbor, ridge, tmp_path, monkeypatch):
    checkpoint = await sealed(harbor, tmp_path, {"w": 90_000})

    def fail(*_):
        raise OSError(5, "input/output error")

    monkeypatch.setattr(Staging, "store", fail)
    async with harbor.serving():
        with pytest.raises(TransientError, match=r"checkpoint store:.*input/output error"):
            await fetching(harbor, ridge, checkpoint)


@pytest.mark.parametrize("why", ["nothing comes", "the rate is low"])
async def test_a_fetch_that_is_broken_off_leaves_no_thread_behind(harbor, ridge, tmp_path, monkeypatch, why):
    checkpoint = await sealed(harbor, tmp_path)
    ridge.settings = {"stall_s": 600.0}
    ridge.restart()
    begun = asyncio.Event()

    async def one_chunk(reader, run, _):
        yield reader.read(run.first, bytearray(CHUNK_BYTES))
        await asyncio.Event().wait()

    def on_progress(done, _):
        if done:
            begun.set()

    if why == "nothing comes":
        monkeypatch.setattr(transfer_server, "chunk_pieces", one_chunk)
    rate_bps = 1e6 if why == "the rate is low" else None
    async with harbor.serving(), asyncio.timeout(30):
        async with asyncio.TaskGroup() as group:
            work = group.create_task(fetching(harbor, ridge, checkpoint, on_progress, rate_bps))
            await begun.wait()
            assert readers()
            work.cancel()
        while readers():  # noqa: ASYNC110 - they end on their own
            await asyncio.sleep(0.01)
