"""One planning tick over a large fleet, and the bare feasibility test over many pairs.

The fleet is drawn from a seed: half the sites sunny, forecasts of 96 slots, links of 1 to 10 Gbit/s.
"""

import argparse
import json
import random
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from time import process_time

import numpy as np

from coordinator.core.feasibility import Move, MoveArrays, Tolerance, evaluate
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.view import FleetView, JobView, LinkView, Phase, SiteView

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def some_forecast(dice: random.Random, peak_w: float) -> SurplusForecast:
    slots = []
    for i in range(96):
        start_at = NOW + timedelta(minutes=15 * i)
        watts = max(0.0, peak_w * dice.uniform(0.7, 1.0) * (1 - i / dice.uniform(10, 80)))
        slots.append(
            ForecastSlot(
                start_at=start_at,
                end_at=start_at + timedelta(minutes=15),
                p10_w=0.7 * watts,
                p50_w=watts,
                p90_w=1.2 * watts,
            )
        )
    return SurplusForecast(issued_at=NOW, source="bench", slots=tuple(slots))


def some_fleet(jobs: int, sites: int, seed: int) -> FleetView:
    dice = random.Random(seed)
    per_site = jobs // sites + 1
    names = [f"s{i:03}" for i in range(sites)]
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
            forecast=some_forecast(dice, peak_w),
        )
    by_job = {}
    for i in range(jobs):
        by_job[f"j{i:05}"] = JobView(
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
    links = {
        (a, b): LinkView(source=a, destination=b, free_bps=dice.uniform(1e9, 1e10))
        for a in names
        for b in names
        if a != b
    }
    return FleetView(now=NOW, sites=by_site, jobs=by_job, links=links)


def pairs_per_s(jobs: int, sites: int) -> float:
    generator = np.random.default_rng(1)
    shapes = {"link_bps": (jobs, sites), "until_window_end_s": (jobs, sites)}
    columns = {f.name: generator.uniform(1.0, 1e4, shapes.get(f.name, (jobs, 1))) for f in fields(Move)}
    began_cpu_s = process_time()
    evaluate(MoveArrays(**columns), Tolerance())
    return jobs * sites / (process_time() - began_cpu_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--sites", type=int, default=30)
    parser.add_argument("--policy", default="feasibility-aware")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    view = some_fleet(given.jobs, given.sites, given.seed)
    began_cpu_s = process_time()
    decisions = policy_named(given.policy).decide(view, PlannerSettings())
    tick_cpu_s = process_time() - began_cpu_s
    figures = {
        "jobs": given.jobs,
        "sites": given.sites,
        "policy": given.policy,
        "tick_cpu_s": round(tick_cpu_s, 4),
        "migrations": sum(d.kind.value == "migrate" for d in decisions),
        "pairs_per_cpu_s": round(pairs_per_s(1000, 1000)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
