"""The front of `sterna`: energy against overruns against completion, over ε and α, as CSV, table and picture.

`feasibility-aware` is replayed at the same ε, so that both can be compared at equal tolerance. With --draw
the picture is made of points that were measured before.
"""

import argparse
import json
import sys
from pathlib import Path

from coordinator.core.policies import policy_named
from coordinator.replay.bound import bound_wh
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.front import Point, drawn, knobs, means, point, replayed
from coordinator.replay.learnt import LearntSource
from coordinator.replay.metrics import measure
from coordinator.replay.record import settings_of
from coordinator.replay.rows import read_rows, write_rows
from coordinator.replay.scenariofile import read_scenario, read_traces, world_of


def measured(args: argparse.Namespace, out: Path) -> list[Point]:
    scenario = read_scenario(args.scenario)
    traces = read_traces(scenario, args.data)
    points = read_rows(out, Point) if out.exists() else []
    known = {(one.period, one.offset) for one in points}
    make = LearntSource() if args.forecast == "learnt" else Perfect
    for period in args.period.split(",") if args.period else scenario.periods:
        for offset in scenario.offsets if args.offsets == "all" else map(int, args.offsets.split(",")):
            if (period, offset) in known:
                continue
            world = world_of(scenario, traces, period, offset)
            foresight = make(world)
            static = run(world, policy_named("static"), settings_of(world), foresight)
            baseline, least_wh = measure(world, static.intervals), bound_wh(world)
            for chosen in knobs(world.costs.alpha):
                metrics = replayed(world, chosen, foresight)
                points.append(point(chosen, metrics, baseline, least_wh, period=period, offset=offset))
            write_rows(out, Point, points)
            sys.stderr.write(f"{period} {offset}\n")
    return points


def table(points: list[Point]) -> str:
    lines = ["| policy | α | ε | less than static, % | of the bound, % | overruns, % | completion | moves |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in points:
        cells = [
            one.policy,
            "–" if one.alpha is None else f"{one.alpha:g}",
            "–" if one.epsilon is None else f"{one.epsilon:g}",
            f"{100 * one.reduction_frac:.1f}",
            f"{100 * one.reduction_frac / one.bound_frac:.1f}",
            f"{100 * one.overrun_frac:.1f}",
            f"{one.completion:.3f}",
            f"{one.migrations_per_job:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="?", default="us5-thin")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--period", default="", help="comma separated; all of the scenario's without it")
    parser.add_argument("--offsets", default="all", help="comma separated; all: every one")
    parser.add_argument("--forecast", choices=("learnt", "perfect"), default="learnt")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder of front.csv, whose worlds are not replayed again, and front.svg",
    )
    parser.add_argument("--draw", action="store_true", help="draw out/front.csv, replay nothing")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = args.out / "front.csv"
    points = read_rows(found, Point) if args.draw else measured(args, found)
    average = means(points)
    title = f"{args.scenario}, {args.forecast} forecasts"
    (args.out / "front.svg").write_text(drawn(average, title), encoding="utf-8")
    sys.stdout.write(table(average) + "\n")
    sys.stdout.write(json.dumps({"points": len(points), "means": len(average)}) + "\n")


if __name__ == "__main__":
    main()
