"""Random limits over a real broker to the shipped agent, with a plant on Modbus and two trainings."""

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.devices.bus_shared import SharedBus
from agent.devices.meters_sunspec import SunSpecMeter
from agent.modbus import ModbusBus
from agent.model.readings import MeterRole
from agent.simulator.steplog import double_runs
from sterna.errors import SternaError
from tests.brokers import Broker
from tests.obeying.closed_loop import settled_s
from tests.obeying.trials import SETTLED_WITHIN_S, percentile
from tests.ports import free_port
from tests.system.daemons import until
from tests.system.dso import BASE_LOAD_W, CLOCK, Dso, dso, metered, plant_argv
from tests.system.harness import IDLE_W, JOB_POWER_W, System, Training

pytestmark = [pytest.mark.procs, pytest.mark.long]

LIMITS = 40
SEED = 20261124
POLL_S = 0.1
JOBS = 2
RAMP_UP_W_PER_S = 400.0
LOWEST_W = BASE_LOAD_W + IDLE_W + 50.0
FULL_W = BASE_LOAD_W + IDLE_W + JOBS * JOB_POWER_W


@pytest.fixture
def site(tmp_path: Path, broker: Broker) -> Iterator[System]:
    port = free_port()
    system = System(
        folder=tmp_path, sites=("west",), agents={"west": metered(tmp_path, "west", port, broker)}
    )
    system.daemons.add("plant", *plant_argv(tmp_path, "west", port, pv_w=0.0))
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


class Meter:
    """The site's grid meter, read ten times a second beside the agent, which reads it once."""

    def __init__(self, port: int) -> None:
        line = ModbusBus("127.0.0.1", port, clock=CLOCK, timeout_s=1.0)
        self._meter = SunSpecMeter("grid", MeterRole.GRID, SharedBus(line, clock=CLOCK), clock=CLOCK, unit=2)
        self.samples: list[tuple[float, float]] = []

    @property
    def import_w(self) -> float:
        """What it showed last; 0 before the first answer."""
        return self.samples[-1][1] if self.samples else 0.0

    async def run(self) -> None:
        """Read it for ever."""
        while True:
            await asyncio.sleep(POLL_S)
            with contextlib.suppress(SternaError):  # the plant is still starting
                reading = await self._meter.poll()
                if reading.active_power_w is not None:
                    self.samples.append((CLOCK.boottime_s(), reading.active_power_w))


def breaches(folder: Path) -> tuple[int, int]:
    """Return what the agent has counted: episodes and samples."""
    with closing(sqlite3.connect(f"file:{folder}/state-west/agent.db?mode=ro", uri=True)) as store:
        row = store.execute("SELECT episodes, samples FROM grid_breach WHERE kind LIKE 'IMPORT%'").fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))


async def put_limits(operator: Dso, meter: Meter) -> list[float]:
    """Limit the site again and again, each time to less than it imports; return how long each has taken."""
    chance, settled = random.Random(SEED), []
    for _ in range(LIMITS):
        limit_w = chance.uniform(LOWEST_W, meter.import_w - 60.0)
        asked_s = CLOCK.boottime_s()
        held_s = chance.uniform(5.0, 8.0)
        await operator.send(operator.command(limit_w, rampS=0))
        await until(
            lambda end_s=asked_s + held_s: meter.samples[-1][0] > end_s,  # type: ignore[misc]
            within_s=30,
            what="the end of the limit",
        )
        to_s = asked_s + held_s
        settled.append(settled_s(meter.samples, from_s=asked_s, to_s=to_s, limit_w=limit_w))
        await operator.send(operator.command(None))
        await until(lambda: meter.import_w > LOWEST_W + 100.0, within_s=60, what="room for the next limit")
    return settled


def steepest_w_per_s(samples: list[tuple[float, float]]) -> float:
    """Return the steepest rise of the import over a second or a little more."""
    steepest, first = 0.0, 0
    for at_s, import_w in samples:
        while at_s - samples[first][0] > 1.2:
            first += 1
        if at_s - samples[first][0] >= 1.0:
            steepest = max(steepest, (import_w - samples[first][1]) / (at_s - samples[first][0]))
    return steepest


async def test_random_limits_are_kept_by_the_shipped_agent(site: System, broker: Broker) -> None:
    trainings = [Training(name=f"t{number}", home="west", steps=10**7, step_s=0.5) for number in range(JOBS)]
    async with site.admin() as admin, dso(broker, "west") as operator, asyncio.TaskGroup() as group:
        meter = Meter(site.agents["west"]["meters"][0]["port"])
        reading = group.create_task(meter.run())
        await admin.connected()
        await operator.send(operator.command(FULL_W + 1000.0, rampS=0))
        for training in trainings:
            await admin.submit(training)
        await until(lambda: meter.import_w > 0.95 * FULL_W, within_s=60, what="both jobs")
        begin = len(meter.samples)
        settled = await put_limits(operator, meter)
        reading.cancel()
    steepest = steepest_w_per_s(meter.samples[begin:])
    print(
        f"{LIMITS} limits on real processes: inside after {percentile(settled, 50):.2f} s (p50), "
        f"{percentile(settled, 99):.2f} s (p99), {max(settled):.2f} s (max); "
        f"breaches {breaches(site.folder)}; steepest rise {steepest:.0f} W/s"
    )
    assert breaches(site.folder) == (0, 0)
    assert percentile(settled, 99) <= SETTLED_WITHIN_S
    assert steepest <= 2 * RAMP_UP_W_PER_S, "a step of the ramp may fall into the same second"
    assert all(double_runs(site.entries(training)) == 0 for training in trainings)
