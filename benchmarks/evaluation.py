"""The tables of docs/evaluation.md: four scenarios, three periods, every offset, all policies side by side.

The figures are kept in --out, a row for each replay, and what is there is not replayed again; the tables are
made of the file alone. Each journal is counted twice (as by `sterna replay --verify`).
"""

import argparse
import json
import sys
from pathlib import Path

from coordinator.replay.learnt import LearntSource
from coordinator.replay.rows import read_rows, write_rows
from coordinator.replay.scenariofile import read_scenario, read_traces, world_of
from coordinator.replay.study import Row, at_a_glance, cases, every_figure, rows_of

SCENARIOS = ("us5", "us5-thin", "us5-defer", "us5-thin-defer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", default=SCENARIOS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--period", default="", help="comma separated; all of the scenario's without it")
    parser.add_argument("--out", type=Path, required=True, help="CSV of the figures, added to")
    args = parser.parse_args()
    rows = read_rows(args.out, Row) if args.out.exists() else []
    known = {(row.scenario, row.period, row.offset, row.case) for row in rows}
    names = dict.fromkeys((*SCENARIOS, *args.scenario))
    places = [(name, period) for name in names for period in read_scenario(name).periods]
    learnt = LearntSource()
    for name in args.scenario:
        scenario = read_scenario(name)
        traces = read_traces(scenario, args.data)
        for period in args.period.split(",") if args.period else scenario.periods:
            for offset in scenario.offsets:
                world = world_of(scenario, traces, period, offset)
                wanted = [case for case in cases(world) if (name, period, offset, case) not in known]
                if wanted:
                    at = {"scenario": name, "period": period, "offset": offset}
                    found = rows_of(world, learnt, **at, wanted=wanted)
                    rows += [row for row in found if row.case in wanted]
                    rows.sort(key=lambda row: (places.index((row.scenario, row.period)), row.offset))
                    write_rows(args.out, Row, rows)
                    sys.stderr.write(f"{name} {period} {offset}\n")
    sys.stdout.write(f"{at_a_glance(rows)}\n\n{every_figure(rows)}\n")
    sys.stdout.write(json.dumps({"replays": len(rows)}) + "\n")


if __name__ == "__main__":
    main()
