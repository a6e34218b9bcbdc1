"""What a checkpoint costs a site between a trainer's last byte and the next one's first: seal and start.

One checkpoint of random bytes in one file; each step in turn, in the real store, in seconds and in processor
seconds of the process. The latter are what compares on a machine that does other things too. Nothing is
dropped from the page cache in between, as nothing is in a move. The last line is one JSON object.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agent.jobs.checkpoint_pass import threads_at_rest  # noqa: E402 - run from a checkout
from agent.jobs.checkpoints import CheckpointStore  # noqa: E402
from sterna.clock import SystemClock  # noqa: E402
from sterna.units import bytes_to_gb  # noqa: E402

PIECE_BYTES = 8 * 1024 * 1024
JOB = "bench"
T = TypeVar("T")


class Meter:
    def __init__(self, size_bytes: int) -> None:
        self._gb = bytes_to_gb(size_bytes)
        self.found: dict[str, float] = {}

    async def measure(self, name: str, work: Awaitable[T]) -> T:
        clock, cpu_s = SystemClock(), time.process_time()
        began_s = clock.boottime_s()
        done = await work
        self.found[f"{name}_s"] = round(clock.boottime_s() - began_s, 2)
        self.found[f"{name}_cpu_s_per_gb"] = round((time.process_time() - cpu_s) / self._gb, 2)
        return done


def write(path: Path, size_bytes: int) -> None:
    piece = os.urandom(PIECE_BYTES)
    with path.open("wb") as file:
        for start in range(0, size_bytes, PIECE_BYTES):
            file.write(piece[: size_bytes - start])
            piece = piece[1:] + piece[:1]


async def steps(folder: Path, size_bytes: int) -> dict[str, float]:
    run = folder / "run"
    source = run / "step-1"
    source.mkdir(parents=True)
    write(source / "weights.bin", size_bytes)
    meter, store = Meter(size_bytes), CheckpointStore(folder / "store", SystemClock())
    sealed = await meter.measure("seal_while_it_trains", store.seal(JOB, 1, 1, source))
    target = folder / "resume"
    await meter.measure("start_after_arrival", store.materialize(sealed.checkpoint_id, target))
    shutil.rmtree(target)
    anew = CheckpointStore(folder / "store", SystemClock())  # as after a restart: nothing is trusted
    await meter.measure("start_with_all_verified", anew.materialize(sealed.checkpoint_id, target))
    shutil.rmtree(target)
    await meter.measure("seal_after_its_end", store.seal(JOB, 1, 2, source, left_in=run))
    return meter.found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where files lie; tmpfs")
    arguments = parser.parse_args()
    size_bytes = arguments.size_mb * 10**6
    if shutil.disk_usage(arguments.folder).free < 4 * size_bytes:
        sys.exit(f"{arguments.folder}: no room for four copies")
    with tempfile.TemporaryDirectory(prefix="sterna-seal-", dir=arguments.folder) as folder:
        found = asyncio.run(steps(Path(folder), size_bytes))
    result = {
        "benchmark": "sealing",
        "checkpoint_bytes": size_bytes,
        **found,
        "threads": threads_at_rest(),
        "load_1min": round(os.getloadavg()[0], 2),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
