"""One tick of the policy `sterna` over large fleets, and how far its plan is from the best one, by HiGHS.

The fleets are drawn from a seed: half the sites in the sun, half without, forecasts of 96 slots of a quarter
of an hour, links of 1 to 10 Gbit/s between all sites, jobs of 200 to 600 W and 1 to 40 GB, ten a site; half
of all jobs had better move. Each size has a process of its own. Times are CPU seconds of one thread, the
least of several ticks; the view is made before. `rss_mb` is the most that the process held, view and all.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from statistics import mean
from time import perf_counter, process_time
from typing import Any

import numpy as np

from coordinator.core.feasibility import Move, MoveArrays, Tolerance, evaluate
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings, changes_of
from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.import_cost import CostSlot, ImportCost
from coordinator.model.links import LinkTable
from coordinator.model.site import ActiveLimit
from coordinator.model.view import FleetView, JobView, Phase, SiteView

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
SLOT = timedelta(minutes=15)
SIZES = "100x1000,200x2000,500x5000,1000x10000"
SOLVED = "10x100,20x200,30x300,20x400"
EFFORTS = "0,100000,1000000,10000000"
# No margin is asked for, so that gain alone counts, here as in HiGHS; the gate is the policy's own.
SETTINGS = PlannerSettings(gain_margin_frac=0.0, epsilon=0.5)
REACH_FRAC = 0.125


def some_forecast(dice: random.Random, peak_w: float, paths: int) -> SurplusForecast:
    watts = [max(0.0, peak_w * dice.uniform(0.7, 1.0) * (1 - i / dice.uniform(10, 80))) for i in range(96)]
    slots = tuple(
        ForecastSlot(
            start_at=NOW + i * SLOT, end_at=NOW + (i + 1) * SLOT, p10_w=0.7 * w, p50_w=w, p90_w=1.2 * w
        )
        for i, w in enumerate(watts)
    )
    courses = None
    if paths:
        spread = np.random.default_rng(dice.randrange(2**32)).uniform(0.6, 1.3, (paths, 1))
        courses = (np.array(watts) * spread).astype(np.float32)
    return SurplusForecast(issued_at=NOW, source="bench", slots=slots, paths_w=courses)


def some_limits() -> tuple[ActiveLimit, ...]:
    """Two limits that leave a site's own jobs their power, one of them to come."""
    hour = timedelta(hours=1)
    return tuple(
        ActiveLimit(
            source="bench", command_id="", limit_w=limit_w, start_at=start_at, end_at=end_at, reason=""
        )
        for limit_w, start_at, end_at in ((8e3, NOW, NOW + hour), (7e3, NOW + hour / 2, None))
    )


def some_costs(dice: random.Random) -> ImportCost:
    """What import costs in 48 hours: cheap sites and dear ones, and every hour another figure."""
    usual = dice.uniform(50.0, 600.0)
    hours = [timedelta(hours=i) for i in range(49)]
    return ImportCost(
        unit="g/kWh",
        slots=tuple(
            CostSlot(start_at=NOW + a, end_at=NOW + b, per_kwh=usual * dice.uniform(0.7, 1.3))
            for a, b in pairwise(hours)
        ),
    )


def some_fleet(
    sites: int, jobs: int, seed: int, paths: int = 0, *, limited: bool = False, valued: bool = False
) -> FleetView:
    dice = random.Random(seed)
    costs = random.Random(-seed)
    per_site = jobs // sites + 1
    names = [f"s{i:04}" for i in range(sites)]
    by_site = {}
    for i, name in enumerate(names):
        peak_w = dice.uniform(5e3, 2e4) if i % 2 else 0.0
        by_site[name] = SiteView(
            site_id=name,
            available=True,
            draining=False,
            slots=2 * per_site,
            slots_held=per_site,
            surplus_w=peak_w,
            surplus_quality_ok=True,
            compute_w=None,
            forecast=some_forecast(dice, peak_w, paths),
            limits=some_limits() if limited else (),
            others_w=-peak_w,
            import_cost=some_costs(costs) if valued else None,
        )
    by_job = {
        f"j{i:05}": JobView(
            job_id=f"j{i:05}",
            phase=Phase.RUNNING,
            site_id=names[i % sites],
            home_site=names[i % sites],
            power_w=dice.uniform(200, 600),
            checkpoint_bytes=int(dice.uniform(1e9, 4e10)),
            seal_s=5.0,
            load_s=20.0,
            downtime_s=5.0,
            may_migrate=True,
            submitted_at=NOW,
            resident_since=NOW - timedelta(hours=2),
            min_residence_s=600.0,
        )
        for i in range(jobs)
    }
    rates = np.random.default_rng(seed).uniform(1e9, 1e10, (sites, sites))
    np.fill_diagonal(rates, np.nan)
    return FleetView(now=NOW, sites=by_site, jobs=by_job, links=LinkTable(names, rates, rates))


def size_of(text: str) -> tuple[int, int]:
    sites, jobs = text.split("x")
    return int(sites), int(jobs)


def timed(work: Callable[[], object], runs: int) -> tuple[float, float]:
    """Return the least CPU and wall-clock seconds."""
    cpu_s, wall_s = [], []
    for _ in range(runs):
        began_cpu_s, began_s = process_time(), perf_counter()
        work()
        cpu_s.append(process_time() - began_cpu_s)
        wall_s.append(perf_counter() - began_s)
    return min(cpu_s), min(wall_s)


def with_effort(effort_pairs: int) -> PlannerSettings:
    return replace(SETTINGS, effort_pairs=effort_pairs)


def tick(
    size: str, runs: int, paths: int, efforts: list[int], *, limited: bool, valued: bool
) -> dict[str, Any]:
    """Measure one size, in this process."""
    view = some_fleet(*size_of(size), seed=1, paths=paths, limited=limited, valued=valued)
    policy = policy_named("sterna")
    view_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    act_s, wall_s = timed(lambda: changes_of(policy, view, SETTINGS), runs)
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    decide_s, _ = timed(lambda: policy.decide(view, SETTINGS), runs)
    by_effort = {
        str(effort): round(timed(partial(changes_of, policy, view, with_effort(effort)), runs)[0], 3)
        for effort in efforts
    }
    return {
        "tick_s": round(act_s, 3),
        "tick_wall_s": round(wall_s, 3),
        "decide_s": round(decide_s, 3),
        "tick_s_by_effort": by_effort,
        "moves": len(changes_of(policy, view, SETTINGS)),
        "rss_mb": round(rss_mb),
        "view_mb": round(view_mb),
    }


def gaps(size: str, seeds: int, limit_s: float, efforts: list[int]) -> dict[int, list[float]]:
    """Return by effort by how much less plans gain than HiGHS's bound, each seed."""
    from coordinator.replay.tick_bound import Tick

    found: dict[int, list[float]] = {effort: [] for effort in efforts}
    for seed in range(1, seeds + 1):
        view = some_fleet(*size_of(size), seed=seed)
        whole = Tick(view, SETTINGS, reach_frac=REACH_FRAC)
        best = whole.best(limit_s=limit_s, gap_frac=1e-3)
        for effort in efforts:
            gained_j = whole.value_j(changes_of(policy_named("sterna"), view, with_effort(effort)))
            found[effort].append(round(1.0 - gained_j / best.bound_j, 4))
        told = ", ".join(f"{found[effort][-1]:.2%} with effort {effort}" for effort in efforts)
        itself = 1.0 - best.found_j / best.bound_j
        print(f"{size}, seed {seed}: behind the bound of HiGHS {told}; HiGHS {itself:.2%}", flush=True)
    return found


def pairs_per_s(jobs: int, sites: int) -> float:
    generator = np.random.default_rng(1)
    shapes = {"link_bps": (jobs, sites), "until_window_end_s": (jobs, sites)}
    columns = {f.name: generator.uniform(1.0, 1e4, shapes.get(f.name, (jobs, 1))) for f in fields(Move)}
    cpu_s, _ = timed(lambda: evaluate(MoveArrays(**columns), Tolerance()), 1)
    return jobs * sites / cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=SIZES, help="sites x jobs, comma separated")
    parser.add_argument("--solved", default=SOLVED, help="likewise, those that HiGHS solves; empty: none")
    parser.add_argument("--seeds", type=int, default=10, help="instances of each size that HiGHS solves")
    parser.add_argument("--limit-s", type=float, default=60.0, help="for HiGHS, for each")
    parser.add_argument(
        "--paths", type=int, default=0, help="whole courses in each forecast, as learnt ones have"
    )
    parser.add_argument("--limited", action="store_true", help="every site has two grid limits")
    parser.add_argument("--valued", action="store_true", help="import costs another figure everywhere")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--efforts", default=EFFORTS, help="of the planner, beside its usual one")
    parser.add_argument("--one", action="store_true", help="measure the first size in this process")
    given = parser.parse_args()
    sizes = given.sizes.split(",")
    usual = SETTINGS.effort_pairs
    efforts = sorted({usual, *map(int, given.efforts.split(","))})
    if given.one:
        found = tick(sizes[0], given.runs, given.paths, efforts, limited=given.limited, valued=given.valued)
        print(json.dumps(found))
        return
    measured = {}
    for size in sizes:
        command = [sys.executable, __file__, "--one", "--sizes", size]
        command += ["--limited"] if given.limited else []
        command += ["--valued"] if given.valued else []
        command += ["--runs", str(given.runs), "--paths", str(given.paths), "--efforts", given.efforts]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        measured[size] = json.loads(answer.splitlines()[-1])
        print(f"{size}: {measured[size]}", flush=True)
    # HiGHS is asked where energy alone counts.
    solved = [size for size in given.solved.split(",") if size and not given.valued]
    behind = {size: gaps(size, given.seeds, given.limit_s, efforts) for size in solved}
    every = [gap for found in behind.values() for gap in found[usual]]
    largest = measured[sizes[-1]]
    figures = {
        "objective": "carbon" if given.valued else "energy",
        "tick_s": largest["tick_s"],
        "rss_mb": largest["rss_mb"],
        "sizes": sizes,
        "tick_s_by_size": {size: found["tick_s"] for size, found in measured.items()},
        "decide_s_by_size": {size: found["decide_s"] for size, found in measured.items()},
        "gap_to_highs_frac": max(every, default=None),
        "gap_mean_frac": round(sum(every) / len(every), 4) if every else None,
        "gap_by_size": {size: found[usual] for size, found in behind.items()},
        "gap_mean_by_effort": {
            str(effort): {size: round(mean(found[effort]), 4) for size, found in behind.items()}
            for effort in efforts
        },
        "gap_max_by_effort": {
            str(effort): max((max(found[effort]) for found in behind.values()), default=None)
            for effort in efforts
        },
        "tick_s_by_effort": {size: found["tick_s_by_effort"] for size, found in measured.items()},
        "pairs_per_cpu_s": round(pairs_per_s(1000, 1000)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
