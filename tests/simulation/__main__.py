"""Plays histories: ``python -m tests.simulation --seed 7 --trace``, or many at once; see scripts/simulate."""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

from tests.simulation.breakages import BREAKAGES
from tests.simulation.scene import Outcome, play

SHOWN = 10
"""Violations of many seeds that are named."""


def main() -> int:
    """Play what the arguments ask for; return 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="play one history")
    parser.add_argument("--seeds", type=int, default=1000, help="play so many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--trace", action="store_true", help="tell the last lines of the one history")
    parser.add_argument("--breakage", choices=sorted(BREAKAGES), help="with one rule broken on purpose")
    given = parser.parse_args()
    if given.seed is not None:
        return _one(given.seed, given.breakage, trace=given.trace)
    return _many(range(given.first, given.first + given.seeds), given.processes, given.breakage)


def _played(seed: int, breakage: str | None) -> Outcome:
    with BREAKAGES[breakage][0]() if breakage else nullcontext():
        return play(seed)


def _one(seed: int, breakage: str | None, *, trace: bool) -> int:
    outcome = _played(seed, breakage)
    if trace or outcome.violation:
        print("\n".join(outcome.lines))
    print(f"seed {seed}: {outcome.violation or 'nothing broken'}; {outcome.steps} steps,", end=" ")
    print(f"{outcome.virtual_s:.0f} virtual s, healed within {outcome.healed_s:.0f} s of the last fault")
    return 1 if outcome.violation else 0


def _short(seed: int, breakage: str | None) -> tuple[int, str, int, float, float, dict[str, int]]:
    try:
        one = _played(seed, breakage)
    except Exception as error:  # whatever it is, no history may end by it; --seed shows where
        return seed, repr(error), 0, 0.0, 0.0, {}
    return seed, one.violation, one.steps, one.virtual_s, one.healed_s, one.counts


def _many(seeds: Iterable[int], processes: int, breakage: str | None) -> int:
    began_s = time.perf_counter()
    seeds = list(seeds)
    with ProcessPoolExecutor(processes) as pool:
        results = list(pool.map(_short, seeds, [breakage] * len(seeds), chunksize=25))
    took_s = time.perf_counter() - began_s
    found = [(seed, violation) for seed, violation, *_ in results if violation]
    for seed, violation in found[:SHOWN]:
        print(f"seed {seed}: {violation}", file=sys.stderr)
    happened: Counter[str] = Counter()
    for *_, counts in results:
        happened.update(counts)
    print(
        json.dumps(
            {
                "seeds": len(seeds),
                "violations": len(found),
                "steps": sum(steps for _, _, steps, *_ in results),
                "virtual_h": round(sum(one[3] for one in results) / 3600, 1),
                "healed_s_max": round(max(one[4] for one in results), 1),
                "seeds_per_s": round(len(seeds) / took_s, 1),
                "processes": processes,
                "happened": dict(sorted(happened.items())),
            }
        )
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
