"""``scripts/hostile TARGET``: a barrage as long as one likes, with its tally as one line of JSON."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from tests.hostile.barrage import Target, barrage
from tests.hostile.config import config_target
from tests.hostile.mqtt import mqtt_target
from tests.hostile.openadr import openadr_target
from tests.hostile.rtu import rtu_target

TARGETS: dict[str, Callable[[Path], AbstractAsyncContextManager[Target]]] = {
    "config": config_target,
    "mqtt": mqtt_target,
    "openadr": openadr_target,
    "rtu": rtu_target,
}


async def run(name: str, count: int, seed: int) -> int:
    """Run a barrage; return 1 if it broke something."""
    with tempfile.TemporaryDirectory() as folder:
        async with TARGETS[name](Path(folder)) as target:
            tally = await barrage(target, count=count, seed=seed)
    sys.stdout.write(tally.line() + "\n")
    return 1 if tally.crashes or tally.state_changes or tally.unreached else 0


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="scripts/hostile", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    return asyncio.run(run(args.target, args.count, args.seed))


if __name__ == "__main__":
    sys.exit(main())
