"""Throws bad input at a target and counts what became of it. Knows no protocol; targets bring theirs."""

import json
import random
import resource
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

LEAST_PER_REASON = 1_000
"""How often a long barrage reaches each reason."""
GROWTH_KIB = 5 * 1024
"""Most that memory may grow by in a long barrage."""
WARM_UP_FRAC = 0.1
"""Share of a barrage after which memory is taken as settled."""


class Target(Protocol):
    """One kind of input to the agent.

    `offer` makes one piece of input from `rng`, half of the time a mutant of a valid one and half of the time
    at random, hands it over and returns the reason of its refusal, or what else became of it. What
    it raises is a crash. `state` is compared before and after: it holds whatever input could change.
    """

    name: str
    reasons: frozenset[str]

    async def offer(self, rng: random.Random) -> str:
        """Make one piece of input, hand it over, and say what became of it."""
        ...

    def state(self) -> object:
        """Return all that bad input must not change."""
        ...


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a barrage has found. Memory in KiB is what the process grew by after the warm-up."""

    target: str
    count: int
    seed: int
    crashes: int = 0
    state_changes: int = 0
    grown_kib: int = 0
    peak_kib: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)
    first_faults: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Write the tally as one line of JSON."""
        return json.dumps(asdict(self))


async def barrage(target: Target, *, count: int, seed: int) -> Tally:
    """Offer `count` pieces of bad input, made from `seed`; the same seed makes the same input."""
    rng = random.Random(seed)
    tally = Tally(target=target.name, count=count, seed=seed)
    reasons: Counter[str] = Counter()
    before = target.state()
    settled_kib = rss_kib()
    for number in range(count):
        if number == int(count * WARM_UP_FRAC):
            settled_kib = rss_kib()
        try:
            reasons[await target.offer(rng)] += 1
        except Exception as error:
            tally.crashes += 1
            _note(tally, f"{number}: {type(error).__name__}: {error}")
        after = target.state()
        if after != before:
            tally.state_changes += 1
            _note(tally, f"{number}: {before} became {after}")
            before = after
    tally.grown_kib = max(0, rss_kib() - settled_kib)
    tally.peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tally.reasons = dict(sorted(reasons.items()))
    tally.unreached = sorted(target.reasons - reasons.keys())
    return tally


def _note(tally: Tally, fault: str) -> None:
    if len(tally.first_faults) < 5:
        tally.first_faults.append(fault[:500])


def rss_kib() -> int:
    """Return what this process holds in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError
