"""What trainers' own step logs say of a fleet: steps lost, double runs, downtime. Pure."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEntry:
    """One executed step. `boottime_s` is CLOCK_BOOTTIME at its end, one machine's for all sites of a demo."""

    step: int
    epoch: int
    pid: int
    site: str
    boottime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stint:
    """The steps of one process, in order of time."""

    site: str
    pid: int
    epoch: int
    first_step: int
    last_step: int
    began_s: float
    """End of its first step."""
    ended_s: float
    """End of its last step."""


def parse(lines: Iterable[str]) -> list[StepEntry]:
    """Read a step log; a last line that was cut short by a kill is left out.

    Raises
    ------
    ValueError
        A line before the last is broken.
    """
    texts = [line for line in lines if line.strip()]
    entries = []
    for number, text in enumerate(texts):
        try:
            entries.append(StepEntry(**json.loads(text)))
        except (ValueError, TypeError) as error:
            if number == len(texts) - 1:
                break
            raise ValueError(f"step log line {number + 1}: {error}") from error
    return entries


def steps_lost(entries: Iterable[StepEntry], total: int) -> int:
    """Count steps of 1..`total` that were never executed, and every execution beyond a step's first."""
    counts = Counter(entry.step for entry in entries)
    missing = sum(1 for step in range(1, total + 1) if step not in counts)
    return missing + sum(count - 1 for count in counts.values())


def stints(entries: Iterable[StepEntry]) -> list[Stint]:
    """Group a job's log by process, in order of start."""
    groups: dict[tuple[str, int, int], list[StepEntry]] = {}
    for entry in entries:
        groups.setdefault((entry.site, entry.pid, entry.epoch), []).append(entry)
    found = [
        Stint(
            site=site,
            pid=pid,
            epoch=epoch,
            first_step=min(entry.step for entry in group),
            last_step=max(entry.step for entry in group),
            began_s=min(entry.boottime_s for entry in group),
            ended_s=max(entry.boottime_s for entry in group),
        )
        for (site, pid, epoch), group in groups.items()
    ]
    return sorted(found, key=lambda stint: stint.began_s)


def double_runs(entries: Iterable[StepEntry]) -> int:
    """Count the pairs of processes of one job that executed steps in overlapping times."""
    order = stints(entries)
    return sum(
        1
        for index, earlier in enumerate(order)
        for later in order[index + 1 :]
        if later.began_s <= earlier.ended_s
    )


def downtimes_s(entries: Iterable[StepEntry]) -> list[float]:
    """Return, for each hand-over between sites, seconds from the last step here to the first step there."""
    return [
        later.began_s - earlier.ended_s
        for earlier, later in pairwise(stints(entries))
        if earlier.site != later.site
    ]
