"""What it saves to hash a checkpoint while its trainer ends: from its last byte to the seal, both ways.

A trainer holds as many bytes in memory as it saves, writes them in one go and ends; then its checkpoint is
sealed as the agent does. The two ways take turns, after one round that does not count: memory that a virtual
machine still has to get from its host would. The last line is one JSON object, medians in seconds.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from quick_trainer import fresh, write  # noqa: E402 - beside this file

from agent.jobs.checkpoints import CheckpointStore  # noqa: E402 - run from a checkout
from sterna.clock import SystemClock  # noqa: E402

JOB = "bench"


async def turn(folder: Path, size_bytes: int, *, ahead: bool) -> dict[str, float]:
    run, spare = folder / "run", folder / "spare"
    run.mkdir(exist_ok=True)
    source, clock = run / "step-1.safetensors", SystemClock()
    if spare.exists():
        spare.rename(source)
    store = CheckpointStore(folder / "store", clock)
    argv = (sys.executable, __file__, "--trainer", str(source), "--size-mb", str(size_bytes // 10**6))
    trainer = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert trainer.stdout is not None
    await trainer.stdout.readline()
    saved_s = clock.boottime_s()
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(store.look_ahead(JOB, 1, 1, source)) if ahead else None
        await trainer.wait()
        ended_s = clock.boottime_s()
        if looking is not None:
            looking.cancel()
    sealed = await store.seal(JOB, 1, 1, source, left_in=run)
    sealed_s = clock.boottime_s()
    stored = await store.files_folder(sealed.checkpoint_id)
    assert stored is not None
    (stored / source.name).rename(spare)
    source.unlink()
    shutil.rmtree(folder / "store")
    return {"end_s": ended_s - saved_s, "seal_s": sealed_s - ended_s, "in_all_s": sealed_s - saved_s}


async def turns(folder: Path, size_bytes: int, count: int) -> dict[str, dict[str, float]]:
    await turn(folder, size_bytes, ahead=False)
    found: dict[str, list[dict[str, float]]] = {"without": [], "ahead": []}
    for _ in range(count):
        for name, taken in found.items():
            taken.append(await turn(folder, size_bytes, ahead=name == "ahead"))
            print(name, {key: round(value, 2) for key, value in taken[-1].items()}, file=sys.stderr)
    return {
        name: {key: round(statistics.median(one[key] for one in taken), 2) for key in taken[0]}
        for name, taken in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where files lie; tmpfs")
    parser.add_argument("--trainer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size_bytes = arguments.size_mb * 10**6
    if arguments.trainer is not None:
        weights = fresh(size_bytes)
        write(arguments.trainer, memoryview(weights), 1)
        print("saved", flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="sterna-end-", dir=arguments.folder) as folder:
        found = asyncio.run(turns(Path(folder), size_bytes, arguments.turns))
    result = {"benchmark": "ending", "checkpoint_bytes": size_bytes, "turns": arguments.turns, **found}
    result |= {"cores": os.cpu_count(), "load_1min": round(os.getloadavg()[0], 2)}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
