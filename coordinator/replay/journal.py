"""The log of a replay, `decisions.jsonl`: a row per interval of a job at a site, and nothing else.

From these rows and the raw data alone every metric can be computed again (`verify` does).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from coordinator.replay.world import World


class Stage(Enum):
    """What a job does at a site. LOAD spans the load and the downtime."""

    RUN = "run"
    SEAL = "seal"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Interval:
    """One job at one site, from `start_s` to before `end_s`, in seconds from the start of the world.

    `replica`: which of a distributed job's; None for any other job. `power_w`: what it drew where it was
    slowed; None: its full power.
    """

    job_id: str
    site_id: str
    start_s: float
    end_s: float
    stage: Stage
    replica: int | None = None
    power_w: float | None = None


def write_journal(path: Path, world: World, intervals: Iterable[Interval]) -> None:
    """Write `decisions.jsonl`, in order of time; instants to the microsecond."""
    with path.open("w", encoding="utf-8") as file:
        for row in sorted(intervals, key=lambda row: (row.start_s, row.job_id, row.replica or 0)):
            document = {
                "job": row.job_id,
                **({} if row.replica is None else {"replica": row.replica}),
                "site": row.site_id,
                "start_utc": stamp(world, row.start_s),
                "end_utc": stamp(world, row.end_s),
                "state": row.stage.value,
                **({} if row.power_w is None else {"power_w": row.power_w}),
            }
            file.write(json.dumps(document) + "\n")


def read_journal(path: Path, world: World) -> Iterator[Interval]:
    """Yield the rows of a `decisions.jsonl`."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield Interval(
                row["job"],
                row["site"],
                offset_s(world, row["start_utc"]),
                offset_s(world, row["end_utc"]),
                Stage(row["state"]),
                row.get("replica"),
                row.get("power_w"),
            )


def stamp(world: World, at_s: float) -> str:
    """Return the instant so many seconds from the start of a world as text, to the microsecond."""
    return world.at(at_s).isoformat().replace("+00:00", "Z")


def offset_s(world: World, text: str) -> float:
    """Return how many seconds after the start of a world an instant lies."""
    return (datetime.fromisoformat(text) - world.start_at).total_seconds()
