"""Links that fail for a second or for a day, and nothing else that is wrong: no healthy job may notice.

The same fleet as in `scene`, with the same invariants after every step. Loops turn more slowly than they do
there, so that days go by in seconds; what is decided when they turn is decided by the shipped code.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coordinator.model.fleet import Job, JobState
from coordinator.model.job import JobSpec, OnPartition
from tests.simulation import agent, house, invariants
from tests.simulation.agent import Agent, Link
from tests.simulation.house import House
from tests.simulation.machine import Kind, Machine
from tests.simulation.network import HOUSE, Network
from tests.simulation.training import Manner
from tests.simulation.watch import Watch
from tests.simulation.world import Violation, World

DAY_S = 86_400.0
SITES = ("north", "south", "west")
JOBS = ("j1", "j2", "j3")
TURN_S = 20.0
"""Between two turns of a loop."""
RECONNECT_S = (5.0, 10.0)
"""The shipped agent's longest pause between two tries."""
HOUSE_LIVES_S = 1800.0
"""At most, where the coordinator dies again and again; it is started again within 15 s."""
SETTLED_WITHIN_S = 900.0


@dataclass(slots=True)
class Days:
    """What came of so many windows. `moved` counts those in which a job was being moved."""

    windows: int = 0
    dark_s: float = 0.0
    longest_s: float = 0.0
    moved: int = 0
    violation: str = ""


@contextmanager
def slow_loops() -> Iterator[None]:
    """Have the loops of the simulation turn slowly, and links be dialled as often as in the field."""
    before = agent.TICK_S, house.ROUND_S, Link.later

    def later(link: Link) -> None:
        link._agent.later(link._agent.world.between(*RECONNECT_S), link.connect)

    agent.TICK_S = house.ROUND_S = TURN_S
    Link.later = later  # type: ignore[method-assign]
    try:
        yield
    finally:
        agent.TICK_S, house.ROUND_S, Link.later = before  # type: ignore[method-assign]


class Flaky:
    """A fleet of healthy jobs, and its windows.

    Parameters
    ----------
    seed : int
        Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        spec = JobSpec(name="j", argv=("train",), on_partition=OnPartition.KEEP_RUNNING, stop_grace_s=3.0)
        manner = Manner(step_s=600.0, save_every=6, total_steps=10**9, load_s=1.0, save_s=1.0)
        self.watch = Watch(dict.fromkeys(JOBS, spec))
        self.network = Network(world)
        self.house = House(world, self.network, self.watch, 1.0)
        self.network.house = self.watch.house = self.house
        self.house.start()
        for job_id in JOBS:
            self.house.submit(job_id, spec)
        for site_id in SITES:
            kind = Kind(slots=3, dialable=True, clock_rate=1 + world.between(-4e-4, 4e-4))
            self.watch.machines[site_id] = Machine(
                world,
                self.network,
                self.watch,
                site_id=site_id,
                kind=kind,
                manners=dict.fromkeys(JOBS, manner),
            )
            self.watch.machines[site_id].install(Agent)
        world.look = lambda: invariants.check(self.watch)

    def play(self, windows: int, days: Days) -> None:
        """Live through so many windows.

        Raises
        ------
        Violation
            A job was ended, or one that nobody moved did not stay the process that it was.
        """
        self.world.run_until(2 * TURN_S)
        for job_id in JOBS:
            self.house.start_job(job_id, self.world.random.choice(SITES))
        self._settle()
        for _ in range(windows):
            self._window(days)

    def _window(self, days: Days) -> None:
        world = self.world
        world.run_until(world.now_s + world.between(1.0, 600.0))
        moving = world.random.choice(JOBS) if world.chance(0.3) else None
        if moving is not None:
            self.house.move_job(moving, world.random.choice(SITES), None)
            world.run_until(world.now_s + world.between(0.0, 3 * TURN_S))
        before = {job_id: self._as_it_is(job_id) for job_id in JOBS if self._job(job_id).migration_id is None}
        starts = dict(self.watch.launch_count)
        length_s = DAY_S if world.chance(0.04) else math.exp(world.between(0.0, math.log(DAY_S)))
        self._go_dark(length_s)
        self._settle()
        for job_id, was in before.items():
            if self._as_it_is(job_id) != was:
                raise Violation(0, f"{job_id} was {was}, is {self._as_it_is(job_id)}")
            began = [key for key, count in self.watch.launch_count.items() if count != starts.get(key, 0)]
            if any(key[1] == job_id for key in began):
                raise Violation(0, f"{job_id} was started again: {began}")
        days.windows += 1
        days.dark_s += length_s
        days.longest_s = max(days.longest_s, length_s)
        days.moved += len(before) < len(JOBS)

    def _go_dark(self, length_s: float) -> None:
        """Cut a link, one way or both, or all of them; or have the coordinator die again and again."""
        world, network = self.world, self.network
        what = world.random.choice(("link", "up", "down", "all", "house"))
        if what == "house":
            until_s = world.now_s + length_s
            while world.now_s < until_s:  # it is started again each time, and dies again
                self.house.die(power=False)
                world.run_until(min(until_s, world.now_s + world.between(1.0, HOUSE_LIVES_S)))
            return
        for site_id in SITES if what == "all" else [world.random.choice(SITES)]:
            if what != "down":
                network.block(site_id, HOUSE)
            if what != "up":
                network.block(HOUSE, site_id)
        world.run_until(world.now_s + length_s)
        network.calm()

    def _settle(self) -> None:
        """Wait until every job runs where it should, and nothing is under way."""
        over_s = self.world.now_s
        while not self._settled():
            if self.world.now_s > over_s + SETTLED_WITHIN_S:
                raise Violation(0, f"not settled: {[self._as_it_is(job_id) for job_id in JOBS]}")
            self.world.run_until(self.world.now_s + TURN_S)
        ended = [job_id for job_id in JOBS if self._job(job_id).ended]
        if ended:
            raise Violation(0, f"ended though healthy: {ended}")

    def _settled(self) -> bool:
        sessions = self.network.sessions
        there = self.house.alive and all(
            site_id in sessions and sessions[site_id].open_at_house and sessions[site_id].open_at_site
            for site_id in SITES
        )
        jobs = [self._job(job_id) for job_id in JOBS] if there else []
        return there and all(
            job.ended or (job.state is JobState.RUNNING and job.migration_id is None) for job in jobs
        )

    def _job(self, job_id: str) -> Job:
        return self.house.fleet.state.jobs[job_id]

    def _as_it_is(self, job_id: str) -> tuple[str | None, int, list[tuple[str, int]]]:
        """Return owner, epoch, and what runs."""
        job = self._job(job_id)
        return job.owner_site, job.epoch, list(self.watch.running[job_id])


def live(seed: int, windows: int) -> Days:
    """Play so many windows of one seed; say what came of them."""
    days = Days()
    logging.disable(logging.CRITICAL)
    try:
        with slow_loops():
            Flaky(seed).play(windows, days)
    except Violation as violation:
        days.violation = f"seed {seed}, window {days.windows}: {violation}"
    finally:
        logging.disable(logging.NOTSET)
    return days
