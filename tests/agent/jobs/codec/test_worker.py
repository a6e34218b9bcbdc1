import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.jobs.codec.encode import encode
from agent.jobs.codec_worker import CodecWorker
from sterna.errors import CorruptError, PermanentError, TransientError
from tests.agent.jobs.codec.checkpoints import contents, folder

LIMIT_BYTES = 10**9


def worker(timeout_s=60.0, **more):
    return CodecWorker(timeout_s=timeout_s, **more)


def children():
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(pid) for pid in path.read_text().split()}


async def test_there_and_back_with_progress(tmp_path):
    old, new = folder(tmp_path / "old", 1), folder(tmp_path / "new", 1, moved=1e-5)
    done = []
    estimated = await worker().estimate(new, old)
    coded = await worker().encode(new, tmp_path / "c", old, done.append)
    assert coded.sent_bytes == (tmp_path / "c").stat().st_size
    assert estimated.size_bytes == coded.size_bytes
    assert abs(estimated.sent_bytes - coded.sent_bytes) < 0.02 * coded.sent_bytes
    assert set(coded.codec_bytes) == {"reference", "delta", "planes", "raw"}
    assert done and done == sorted(done)
    size_bytes = await worker().decode(tmp_path / "c", tmp_path / "out", old, max_bytes=LIMIT_BYTES)
    assert size_bytes == coded.size_bytes
    assert contents(tmp_path / "out") == contents(new)


async def test_errors_come_back_as_what_they_are(tmp_path):
    with pytest.raises(PermanentError, match="no checkpoint"):
        await worker().encode(tmp_path / "nothing", tmp_path / "c")
    (tmp_path / "c").write_bytes(b"noise")
    with pytest.raises(CorruptError, match="not one of this format"):
        await worker().decode(tmp_path / "c", tmp_path / "out", max_bytes=1)
    new = folder(tmp_path / "new", 1)
    with pytest.raises(TransientError, match="No such file"):
        await worker().encode(new, tmp_path / "missing" / "c")


async def test_a_python_without_the_libraries_is_refused(tmp_path):
    bare = tmp_path / "python"
    # Site packages left out, as where the extra is not installed.
    source = Path(__file__).parents[4]
    bare.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(PermanentError, match="'delta' is not installed"):
        await worker(python=str(bare)).estimate(tmp_path)


@pytest.fixture
def big(tmp_path):
    """A file that takes longer to encode than it takes to cancel."""
    path = tmp_path / "big.bin"
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(512):
            file.write(block)
    return path


async def test_a_slow_one_is_killed(tmp_path, big):
    before = children()
    with pytest.raises(TransientError, match="longer than"):
        await worker(timeout_s=0.5).encode(big, tmp_path / "c")
    assert children() == before
    assert sorted(tmp_path.iterdir()) == [big]


async def test_cancelled_means_gone(tmp_path, big):
    before, started = children(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker().encode(big, tmp_path / "c", None, lambda _: started.set()))
        async with asyncio.timeout(30):
            await started.wait()
        (pid,) = children() - before
        assert os.getpriority(os.PRIO_PROCESS, pid) >= 10
        task.cancel()
    assert task.cancelled()
    assert children() == before
    assert sorted(tmp_path.iterdir()) == [big]


async def test_killed_from_outside_is_an_answer(tmp_path, big):
    before, started = children(), asyncio.Event()
    with pytest.raises(TransientError, match="ended with -9"):
        async with asyncio.TaskGroup() as group:
            call = group.create_task(_unwrapped(big, tmp_path / "c", started))
            async with asyncio.timeout(30):
                await started.wait()
            (pid,) = children() - before
            os.kill(pid, 9)
            error = await call
        raise error
    assert sorted(tmp_path.iterdir()) == [big]


async def _unwrapped(new, target, started):
    """Return the error: a task group would wrap it."""
    try:
        await worker().encode(new, target, None, lambda _: started.set())
    except TransientError as error:
        return error
    raise AssertionError("it went through")


def test_it_ends_when_its_parent_does(tmp_path, big):
    command = [sys.executable, "-m", "agent.jobs.codec", "--orphan-ends", "encode"]
    command += ["--new", str(big), "--container", str(tmp_path / "c")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdin.close()
        assert process.wait(30) == 3


def test_memory_is_bounded_whatever_the_size(tmp_path, big):
    """Half a gigabyte goes through a few blocks of buffers."""
    code = (
        "import sys; from pathlib import Path; from agent.jobs.codec.__main__ import main;"
        "main(sys.argv[1:]);"
        "print(Path('/proc/self/status').read_text())"
    )
    command = [sys.executable, "-c", code, "encode", "--new", str(big), "--container", str(tmp_path / "c")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak_kib = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("VmHWM"))
    assert (tmp_path / "c").stat().st_size > 512 << 20
    assert int(peak_kib) < 100 * 1024


def test_the_agent_has_neither_library_in_memory():
    code = (
        "import sys, agent.daemon, agent.jobs.codec_worker as w; w.CodecWorker(timeout_s=1);"
        "print(sorted({'numpy', 'zstandard', 'agent.jobs.codec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_encoder_in_a_worker_is_the_encoder(tmp_path):
    new = folder(tmp_path / "new", 1)
    encode(new, tmp_path / "here")
    command = [sys.executable, "-m", "agent.jobs.codec", "encode", "--new", str(new)]
    subprocess.run([*command, "--container", str(tmp_path / "there")], check=True, capture_output=True)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
