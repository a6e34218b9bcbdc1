"""The tables of docs/evaluation.md: four scenarios, three periods, every offset, all policies side by side.

With --choices: `us5-thin` at offset 0, with one number of the scenario set otherwise at a time. The figures
are kept in --out, a row for each replay, and what is there is not replayed again; the tables are made of the
file alone. Each journal is counted twice (as by `sterna replay --verify`).
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from coordinator.replay import choices
from coordinator.replay.learnt import LearntSource
from coordinator.replay.rows import read_rows, write_rows
from coordinator.replay.scenariofile import ScenarioFile, read_scenario, read_traces, world_of
from coordinator.replay.study import Row, at_a_glance, cases, every_figure, rows_of

SCENARIOS = ("us5", "us5-thin", "us5-defer", "us5-thin-defer")
CHOSEN = "us5-thin"


def asked(*, chosen: bool) -> Iterator[tuple[str, ScenarioFile, Sequence[int]]]:
    """Yield what is replayed: under which name, the scenario, its offsets."""
    if not chosen:
        yield from ((name, one, one.offsets) for name in SCENARIOS for one in [read_scenario(name)])
        return
    scenario = read_scenario(CHOSEN)
    for choice in (None, *choices.choices(scenario)):
        yield choices.named(scenario, choice), scenario if choice is None else choice.of(scenario), range(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="CSV of the figures, added to")
    parser.add_argument("--choices", action="store_true", help="what the results depend on")
    parser.add_argument("--scenario", default="", help="comma separated; all without it")
    parser.add_argument("--period", default="", help="comma separated; all without it")
    args = parser.parse_args()
    rows = read_rows(args.out, Row) if args.out.exists() else []
    known = {(row.scenario, row.period, row.offset, row.case) for row in rows}
    everything = list(asked(chosen=args.choices))
    places = [(name, period) for name, scenario, _ in everything for period in scenario.periods]
    learnt = LearntSource()
    for name, scenario, offsets in everything:
        if args.scenario and scenario.name not in args.scenario.split(","):
            continue
        traces = read_traces(scenario, args.data)
        for period in args.period.split(",") if args.period else scenario.periods:
            for offset in offsets:
                world = world_of(scenario, traces, period, offset)
                every = choices.CASES if args.choices else cases(world)
                wanted = [case for case in every if (name, period, offset, case) not in known]
                if wanted:
                    at = {"scenario": name, "period": period, "offset": offset}
                    for row in rows_of(world, learnt, **at, wanted=wanted):
                        if row.case in wanted:
                            rows.append(row)
                            rows.sort(key=lambda row: (places.index((row.scenario, row.period)), row.offset))
                            write_rows(args.out, Row, rows)
                    sys.stderr.write(f"{name} {period} {offset}\n")
    rows = read_rows(args.out, Row)
    if args.choices:
        picture = args.out.with_name(f"{args.out.stem}-{CHOSEN}.svg")
        picture.write_text(choices.drawn(rows, read_scenario(CHOSEN)), encoding="utf-8")
        sys.stdout.write(f"{choices.table(rows)}\n")
    else:
        sys.stdout.write(f"{at_a_glance(rows)}\n\n{every_figure(rows)}\n")
    sys.stdout.write(json.dumps({"replays": len(rows)}) + "\n")


if __name__ == "__main__":
    main()
