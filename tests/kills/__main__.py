"""Kills and counts: ``python -m tests.kills --count 1000 --seed 7``; see scripts/kills.

Three sites and their coordinator, as shipped, with mutual TLS; four jobs, each moved again after a moment of
training. Again and again somebody who has a part in a migration gets SIGKILL and is started again at once.
What is judged comes from outside the daemons: step logs, the process table, final weights; and from the
coordinator's record, how long it took until everything went on.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.kills.figures import tally
from tests.kills.herd import Herd
from tests.kills.rounds import Rounds
from tests.system.harness import CHECKPOINT_EVERY, IDLE_W, JOB_POWER_W, System

SITES = ("west", "mid", "east")
LINK_BPS = 6e6
TOLD_EVERY = 25
END_WITHIN_S = 300.0


def main() -> int:
    """Run what the arguments ask for; return 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="kills", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="kills in all")
    parser.add_argument("--seed", type=int, default=7, help="decides victims and moments")
    parser.add_argument("--jobs", type=int, default=4, help="jobs at any time")
    parser.add_argument(
        "--folder", type=Path, help="where it happens; kept, where it is named or a fault was found"
    )
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="sterna-kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    result = asyncio.run(killed(folder, count=given.count, seed=given.seed, jobs=given.jobs))
    print(json.dumps(result))
    broken = bool(result["faults"] or result["jobs_lost"] or result["ran_twice"])
    if given.folder is None and not broken:
        shutil.rmtree(folder)
    else:
        print(f"what happened lies in {folder}", file=sys.stderr)
    return 1 if broken else 0


def fleet(folder: Path) -> System:
    """Lay out the fleet."""
    site = {
        "gpu": {"kind": "fake", "idle_w": IDLE_W, "max_w": IDLE_W + 8 * JOB_POWER_W},
        "jobs": {"slots": 8, "checkpoint_interval_s": 0.5},
    }
    return System(
        folder=folder,
        sites=SITES,
        coordinator={"links": {"default_bps": LINK_BPS}},
        agents=dict.fromkeys(SITES, site),
    )


async def killed(folder: Path, *, count: int, seed: int, jobs: int) -> Mapping[str, Any]:
    """Kill so many times; return what it came to, also when interrupted on the way."""
    system = fleet(folder)
    herd = Herd(system, jobs, random.Random(f"jobs {seed}"))
    rounds = Rounds(herd, random.Random(f"kills {seed}"))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        system.start()
        async with system.admin() as admin:
            await admin.connected()
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(herd.run())
            while len(rounds.kills) < count and not stop.is_set():
                kill = await rounds.one()
                with (folder / "kills.jsonl").open("a") as file:
                    file.write(json.dumps(asdict(kill)) + "\n")
                if len(rounds.kills) % TOLD_EVERY == 0:
                    _tell(rounds, herd, folder)
            herd.end()
            ended, _ = await asyncio.wait([keeping], timeout=5.0 if stop.is_set() else END_WITHIN_S)
            if not ended:
                keeping.cancel()
        unfinished = 0 if stop.is_set() else len(herd.trainings)
        result = _result(rounds, herd, unfinished, seed=seed, interrupted=stop.is_set())
        (folder / "result.json").write_text(json.dumps(result))
        return result
    finally:
        system.daemons.end_all()


def _result(
    rounds: Rounds, herd: Herd, unfinished: int, *, seed: int, interrupted: bool
) -> dict[str, object]:
    ends = herd.migrations()
    return tally(rounds.kills, herd.verdicts, unfinished=unfinished) | {
        "handovers": sum(verdict.handovers for verdict in herd.verdicts),
        "migrations_committed": ends.get("DONE", 0),
        "migrations_given_up": ends.get("ABORTED", 0),
        "checkpoint_interval_steps": CHECKPOINT_EVERY,
        "seed": seed,
        "interrupted": interrupted,
        "took_s": round(rounds.took_s),
        "cores": os.cpu_count(),
        "version": _version(),
    }


def _version() -> str:
    """Return the commit that this is; empty outside a checkout."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip()


def _tell(rounds: Rounds, herd: Herd, folder: Path) -> None:
    """Say how far it is, and keep what there is."""
    so_far = _result(rounds, herd, 0, seed=0, interrupted=True)
    (folder / "result.json").write_text(json.dumps(so_far))
    print(json.dumps(so_far), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
