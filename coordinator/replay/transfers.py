"""What crossed the links in a replay beside what the rows of the jobs tell: `transfers.jsonl`.

Written only for worlds with pieces or replicas. With it and `decisions.jsonl` every figure can be computed
again there, too.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from coordinator.replay.journal import offset_s, stamp
from coordinator.replay.world import World


class Cause(Enum):
    """Why bytes cross a link."""

    AHEAD = "ahead"
    """Pieces, while the job goes on; a slot waits for it at the destination."""
    STOP = "stop"
    """What is left, between the seal and the load."""
    JOIN = "join"
    """The state of a sibling, to a replica that will train where a slot is held for it."""
    SYNC = "sync"
    """A share of an exchange between replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Bytes of a job from one site to another, in seconds from the start of the world.

    `replica` None: of a job without replicas, or (SYNC) of all of them. One that its job did not live to see
    arrive has the bytes that crossed until then.
    """

    job_id: str
    replica: int | None
    cause: Cause
    source: str
    destination: str
    start_s: float
    end_s: float
    size_bytes: float


def write_transfers(path: Path, world: World, transfers: Iterable[Transfer]) -> None:
    """Write `transfers.jsonl`, in order of time."""
    with path.open("w", encoding="utf-8") as file:
        for row in sorted(transfers, key=lambda row: (row.start_s, row.job_id, row.source)):
            document = {
                "job": row.job_id,
                **({} if row.replica is None else {"replica": row.replica}),
                "cause": row.cause.value,
                "from": row.source,
                "to": row.destination,
                "start_utc": stamp(world, row.start_s),
                "end_utc": stamp(world, row.end_s),
                "bytes": round(row.size_bytes),
            }
            file.write(json.dumps(document) + "\n")


def read_transfers(path: Path, world: World) -> Iterator[Transfer]:
    """Yield the rows of a `transfers.jsonl`; none where there is no file."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield Transfer(
                job_id=row["job"],
                replica=row.get("replica"),
                cause=Cause(row["cause"]),
                source=row["from"],
                destination=row["to"],
                start_s=offset_s(world, row["start_utc"]),
                end_s=offset_s(world, row["end_utc"]),
                size_bytes=float(row["bytes"]),
            )
