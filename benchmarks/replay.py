"""28 days of us5, exactly and event by event, under each policy; Vessim stepping the same sites beside it.

Vessim (pip install vessim) is no dependency of ours: where it is not installed, `vessim_s` is null. It
runs the five sites at 60 s with a controller, which sets what compute draws as `static` placed it, and a
recorder. Times are CPU seconds without reading the data: the least of several runs for ours, one for it.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np

from coordinator.core.policies import policy_named, policy_names
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.metrics import measure, site_draw
from coordinator.replay.record import Record, settings_of
from coordinator.replay.scenariofile import read_scenario, read_traces, world_of
from coordinator.replay.world import World

STEP_S = 60


def timed(work: Callable[[], object], times: int) -> float:
    spent = []
    for _ in range(times):
        start_s = process_time()
        work()
        spent.append(process_time() - start_s)
    return min(spent)


def replayed(world: World, policy: str) -> Record:
    record = run(world, policy_named(policy), settings_of(world), Perfect(world))
    measure(world, record.intervals)
    return record


def vessim_run(world: World, record: Record) -> float:
    """Return CPU seconds of a Vessim run of the period."""
    import pandas as pd
    import vessim as vs

    power = {task.job_id: task.power_w for task in world.tasks}
    draws = {}
    for site in world.sites:
        rows = [row for row in record.intervals if row.site_id == site.site_id]
        edges, drawn_w = site_draw(rows, power, (0.0,))
        ticks = np.arange(0, world.period_s, STEP_S)
        place = np.clip(np.searchsorted(edges, ticks, side="right") - 1, 0, len(drawn_w) - 1)
        draws[site.site_id] = drawn_w[place].tolist()

    class Placement(vs.Controller):
        """Sets the draw of each site's compute."""

        def __init__(self, signals: dict[str, "vs.StaticSignal"]) -> None:
            self.signals = signals
            self.tick = 0

        def step(self, now: object, microgrid_states: object) -> None:
            for name, signal in self.signals.items():
                signal.set_value(draws[name][self.tick])
            self.tick += 1

    environment = vs.Environment(sim_start=world.start_at.replace(tzinfo=None), step_size=STEP_S)
    signals = {}
    for site in world.sites:
        hours = [float(n * world.step_s) for n in range(len(site.surplus_w))]
        signals[site.site_id] = vs.StaticSignal(draws[site.site_id][0])
        environment.add_microgrid(
            actors=[
                vs.Producer("surplus", vs.Trace(pd.Series(site.surplus_w, index=hours))),
                vs.Consumer("compute", signals[site.site_id]),
            ],
            dispatchables=[vs.GridConnection("grid")],
            name=site.site_id,
        )
    environment.add_controller(Placement(signals))
    environment.add_controller(vs.Recorder())
    return timed(lambda: environment.run(until=world.period_s), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--period", default="apr")
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    scenario = read_scenario("us5")
    world = world_of(scenario, read_traces(scenario, asked.data), asked.period, 0)
    figures: dict[str, float | None] = {"sterna_s": None}
    for policy in policy_names():
        times = 5 * asked.times if policy == "static" else asked.times
        figures[f"{policy.replace('-', '_')}_s"] = round(
            timed(lambda policy=policy: replayed(world, policy), times), 4
        )
        print(f"{policy}: {figures[policy.replace('-', '_') + '_s']} s")
    try:
        figures["vessim_s"] = vessim_run(world, replayed(world, "static"))
    except ModuleNotFoundError as error:
        print(f"Vessim is not measured: {error}")
        figures["vessim_s"] = None
    else:
        ratio = (figures["vessim_s"] or 0.0) / (figures["static_s"] or 1.0)
        steps = len(world.sites) * world.period_s / STEP_S
        print(f"vessim: {figures['vessim_s']:.2f} s for {steps:.0f} site steps, {ratio:.0f} times static's")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
