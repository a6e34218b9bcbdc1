"""Earlier days of a simulated plant as a file, for who is to learn from them: never the day that is played.

``python -m agent.simulator.past …`` takes the plant's arguments and stamps its past in real time, as if the
simulator had run before.
"""

import argparse
import csv
import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.simulator.plant import Plant, SimTime
from agent.simulator.traces import PLACES, bundled
from sterna.errors import SternaError
from sterna.units import hours_to_s

EXIT_USAGE = 2
_HOLD_BACK = timedelta(hours=1)
"""The trace is interpolated between hours; what lies closer to the day than this would tell of it."""


def past(
    plant: Plant, time: SimTime, *, until: datetime, days: float, slot: timedelta
) -> Iterator[tuple[datetime, float]]:
    """Yield the surplus of the days before the trace starts.

    Parameters
    ----------
    plant, time
        As they will be played.
    until : datetime
        Real instant; slots that end later are left out.
    days : float
        Trace days before the start, > 0.
    slot : timedelta
        In trace time.

    Yields
    ------
    tuple
        Real instant at which a slot begins, and its surplus in watts, in order of time.
    """
    played_at = time.trace_start_at
    # Before `start_at` the trace stands still; the past runs on as if it never had.
    until_trace_at = min(played_at + (until - time.start_at) * time.speedup, played_at - _HOLD_BACK)
    last = math.floor((until_trace_at - played_at) / slot)
    for index in range(-math.floor(timedelta(days=days) / slot), last):
        begins_at = played_at + index * slot
        sample = plant.trace.at(begins_at + slot / 2)
        yield time.real_at(begins_at), plant.surplus_w(plant.generation_w(sample))


def main(argv: list[str] | None = None) -> int:
    """Write a past; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m agent.simulator.past", description=__doc__)
    add = parser.add_argument
    add("--place", choices=PLACES, required=True)
    for name in ("--pv-w", "--wind-w", "--base-load-w"):
        add(name, type=float, required=True)
    for name in ("--trace-start", "--start-at", "--until"):
        add(name, type=_instant, required=True)
    add("--speedup", type=float, required=True)
    add("--days", type=float, required=True)
    add("--slot-h", type=float, required=True)
    add("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    try:
        plant = Plant(
            trace=bundled(args.place), pv_w=args.pv_w, wind_w=args.wind_w, base_load_w=args.base_load_w
        )
        time = SimTime(start_at=args.start_at, trace_start_at=args.trace_start, speedup=args.speedup)
        slot = timedelta(seconds=hours_to_s(args.slot_h))
        with args.out.open("w", newline="", encoding="ascii") as file:
            writer = csv.writer(file)
            writer.writerow(("ts_utc", "surplus_w"))
            rows = past(plant, time, until=args.until, days=args.days, slot=slot)
            writer.writerows((at.isoformat(), f"{surplus_w:.1f}") for at, surplus_w in rows)
    except (OSError, SternaError) as error:
        sys.stderr.write(f"{args.out}: {error}\n")
        return EXIT_USAGE
    return 0


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
