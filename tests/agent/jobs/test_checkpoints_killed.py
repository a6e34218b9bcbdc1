"""SIGKILL at any moment of a seal: whatever is listed afterwards is whole."""

import random
import signal
import subprocess
import sys

import pytest

from agent.jobs.checkpoints import CheckpointStore
from sterna.clock import SystemClock
from tests.agent.jobs.sites import JOB, tree

SEALER = """
import asyncio, os, sys
from pathlib import Path
from agent.jobs.checkpoints import CheckpointStore
from sterna.clock import SystemClock

async def main(root):
    store = CheckpointStore(root / "store", SystemClock(), 65536)
    first = max((c.manifest.step for c in await store.checkpoints("job-1")), default=0) + 1
    for step in range(first, first + 10_000):
        source = root / "trainer" / "checkpoint"
        source.mkdir(parents=True, exist_ok=True)
        for name in ("w", "m"):
            (source / name).write_bytes(step.to_bytes(8, "big") + os.urandom(300_000))
        print(step, (await store.seal("job-1", 1, step, source)).checkpoint_id, flush=True)
        await store.keep_newest("job-1", 3)

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.procs
async def test_killed_at_any_moment(tmp_path):
    rng = random.Random(5)
    told = []
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", SEALER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 4))]
        try:
            process.wait(rng.uniform(0.0, 0.02))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        assert process.wait(10) == -signal.SIGKILL
        told = [line.split()[1] for line in lines if line.endswith("\n")]
        store = CheckpointStore(tmp_path / "store", SystemClock())
        listed = await store.checkpoints(JOB)
        assert told[-1] in [checkpoint.checkpoint_id for checkpoint in listed], "what was told is durable"
        for checkpoint in listed:
            copy = await store.materialize(checkpoint.checkpoint_id, tmp_path / "run")
            step = checkpoint.manifest.step.to_bytes(8, "big")
            assert all(data[:8] == step for data in tree(copy).values())
        assert not list((tmp_path / "store" / "trash").iterdir())
        assert not list((tmp_path / "store" / "staging").glob("*/seal-*"))
