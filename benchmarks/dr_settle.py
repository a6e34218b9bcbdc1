"""How soon metered power is inside a random limit: real sites with the modelled GPU and the simulated plant.

Every site is the shipped agent with meters over Modbus, two jobs, a plant of its own and an operator on the
one broker. Limits lie between what the site can be held to and what it draws at most. A reader of its own
polls each site's grid meter; a limit has settled when the import is at or below it, by the meter's tolerance,
and stays there until the next one. Only limits below the import at the time count for the quantile. Breaches
are the agents' own count: metered above limit and tolerance later than the ramp and 2 s.

Run by dr_latency.py, or alone: scripts/bench dr-settle [--limits 1000] [--sites 8]
"""

import argparse
import asyncio
import json
import random
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent.devices.bus_shared import SharedBus
from agent.devices.meters_sunspec import SunSpecMeter
from agent.modbus import ModbusBus
from agent.model.readings import MeterRole
from sterna.clock import SystemClock
from sterna.errors import SternaError
from tests.brokers import Broker
from tests.ports import free_port
from tests.system.daemons import until
from tests.system.dso import BASE_LOAD_W, Dso, dso, metered, plant_argv
from tests.system.harness import IDLE_W, JOB_POWER_W, System, Training

HOLD_S = 4.0
POLL_S = 0.1
TOLERANCE_W = 10.0
JOBS = 2
SEED = 20261123


class Meter:
    """A site's grid meter, polled by us and by nobody else's leave."""

    def __init__(self, port: int) -> None:
        clock = SystemClock()
        self._line = ModbusBus("127.0.0.1", port, clock=clock, timeout_s=1.0)
        self._meter = SunSpecMeter(
            "grid", MeterRole.GRID, SharedBus(self._line, clock=clock), clock=clock, unit=2
        )
        self.samples: list[tuple[float, float]] = []

    async def run(self) -> None:
        while True:
            try:
                reading = await self._meter.poll()
            except SternaError:
                continue
            if reading.active_power_w is not None:
                self.samples.append((time.perf_counter(), reading.active_power_w))
            await asyncio.sleep(POLL_S)


async def play(operator: Dso, meter: Meter, limits: int, chance: random.Random) -> list[tuple[bool, float]]:
    """Send limits; for each whether it bound, and the seconds until the import was inside of it for good."""
    lowest_w, highest_w = BASE_LOAD_W + IDLE_W + 50, BASE_LOAD_W + IDLE_W + JOBS * JOB_POWER_W
    settled = []
    for _ in range(limits):
        limit_w = chance.uniform(lowest_w, highest_w)
        before_w, first = meter.samples[-1][1], len(meter.samples)
        asked_s = time.perf_counter()
        await operator.send(operator.command(limit_w, rampS=0))
        await asyncio.sleep(HOLD_S + chance.uniform(0.0, 1.0))
        above = [at_s - asked_s for at_s, power_w in meter.samples[first:] if power_w > limit_w + TOLERANCE_W]
        settled.append(
            (before_w > limit_w + TOLERANCE_W, max(above, default=0.0) + (POLL_S if above else 0.0))
        )
    return settled


def tally(folder: Path, site: str) -> tuple[int, float]:
    """Breaches that an agent has counted, and the worst excess in watts."""
    with closing(
        sqlite3.connect(f"file:{folder}/state-{site}/agent.db?mode=ro", uri=True, timeout=5)
    ) as store:
        row = store.execute("SELECT episodes, worst_excess_w FROM grid_breach").fetchone()
        return (0, 0.0) if row is None else (int(row[0]), float(row[1]))


async def one_site(
    system: System, broker: Broker, site: str, port: int, limits: int
) -> list[tuple[bool, float]]:
    async with dso(broker, site) as operator, asyncio.TaskGroup() as group:
        meter = Meter(port)
        reading = group.create_task(meter.run())
        await until(lambda: meter.samples, within_s=60, what=f"a reading of {site}")
        await operator.send(operator.command(BASE_LOAD_W + IDLE_W + (JOBS + 1) * JOB_POWER_W, rampS=0))
        full_w = BASE_LOAD_W + IDLE_W + JOBS * JOB_POWER_W
        await until(lambda: meter.samples[-1][1] > 0.9 * full_w, within_s=90, what=f"both jobs of {site}")
        settled = await play(operator, meter, limits, random.Random(f"{SEED} {site}"))
        reading.cancel()
    return settled


async def play_all(
    system: System, broker: Broker, ports: dict[str, int], limits: int
) -> list[tuple[bool, float]]:
    async with system.admin() as admin:
        await admin.connected(within_s=120)
        for site in system.sites:
            for number in range(JOBS):
                await admin.submit(Training(name=f"{site}-{number}", home=site, steps=10**7, step_s=1.0))
        share = -(-limits // len(system.sites))
        async with asyncio.TaskGroup() as group:
            sites = [
                group.create_task(one_site(system, broker, site, port, share)) for site, port in ports.items()
            ]
    return [one for site in sites for one in site.result()]


async def measure(folder: Path, limits: int, sites: int) -> dict[str, Any]:
    names = tuple(f"s{number}" for number in range(sites))
    ports = {name: free_port() for name in names}
    (folder / "broker").mkdir()
    broker = Broker(folder / "broker")
    await broker.start()
    agents = {
        name: {
            **metered(folder, name, port, broker, meter_tolerance_w=TOLERANCE_W),
            "power": {"ramp_up_w_per_s": 400.0, "resume_hold_s": 1.0},
        }
        for name, port in ports.items()
    }
    system = System(folder=folder, sites=names, agents=agents)
    for name, port in ports.items():
        system.daemons.add(f"plant-{name}", *plant_argv(folder, name, port, pv_w=0.0))
    try:
        system.start()
        settled = await play_all(system, broker, ports, limits)
        breaches = [tally(folder, name) for name in names]
    finally:
        system.daemons.end_all()
        broker.kill()
    bound = sorted(took_s for binds, took_s in settled if binds)
    return {
        "limits": len(settled),
        "limits_binding": len(bound),
        "settle_p50_s": round(bound[len(bound) // 2], 2),
        "settle_p99_s": round(bound[min(len(bound) - 1, int(len(bound) * 0.99))], 2),
        "settle_max_s": round(bound[-1], 2),
        "breaches": sum(episodes for episodes, _ in breaches),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limits", type=int, default=1000, help="random limits in all (default %(default)s)")
    parser.add_argument(
        "--sites", type=int, default=8, help="that obey them side by side (default %(default)s)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="sterna-settle-") as folder:
        return asyncio.run(measure(Path(folder), args.limits, args.sites))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    print(json.dumps(run(parser.parse_args())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
