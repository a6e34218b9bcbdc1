"""One history: a fleet made from a seed, a time of trouble, and the time in which everything must heal."""

import logging
from dataclasses import dataclass

from coordinator.core.fleet import fold
from coordinator.model.job import JobSpec, OnPartition
from tests.simulation import invariants
from tests.simulation.agent import Agent
from tests.simulation.faults import Trouble
from tests.simulation.house import House
from tests.simulation.machine import Kind, Machine
from tests.simulation.network import Network
from tests.simulation.training import Manner
from tests.simulation.watch import Watch
from tests.simulation.world import Violation, World

SITES = ("north", "south", "west", "east")
DRIFT = 4e-4
"""Of each clock; any two differ by less than `coordinator.core.grants.CLOCK_DRIFT_FRAC`."""
TROUBLE_S = (60.0, 160.0)
HEALED_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one seed. `violation` "": nothing was broken."""

    seed: int
    violation: str
    invariant: int
    steps: int
    virtual_s: float
    healed_s: float
    counts: dict[str, int]
    lines: list[str]


class Scene:
    """Everything in its place.

    Parameters
    ----------
    seed : int
        Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        chance = world.random
        specs = {
            f"j{number}": JobSpec(
                name=f"j{number}",
                argv=("train",),
                on_partition=chance.choice(list(OnPartition)),
                stop_grace_s=3.0,
            )
            for number in range(1, chance.randint(1, 3) + 1)
        }
        manners = {
            job_id: Manner(
                step_s=world.between(0.5, 1.5),
                save_every=chance.randint(2, 6),
                total_steps=chance.choice((80, 10_000, 10_000)),
                load_s=world.between(0.1, 2.0),
                save_s=world.between(0.05, 2.0),
                hangs=world.chance(0.1),
            )
            for job_id in specs
        }
        self.watch = Watch(specs)
        self.network = Network(world)
        self.house = House(world, self.network, self.watch, 1 + world.between(-DRIFT, DRIFT))
        self.network.house = self.watch.house = self.house
        self.house.start()
        for job_id, spec in specs.items():
            self.house.submit(job_id, spec)
        for site_id in SITES[: chance.randint(2, 4)]:
            kind = Kind(
                slots=chance.randint(1, 3), dialable=True, clock_rate=1 + world.between(-DRIFT, DRIFT)
            )
            if site_id == SITES[0] and world.chance(0.3):
                kind = Kind(slots=kind.slots, dialable=False, clock_rate=kind.clock_rate)
            machine = Machine(world, self.network, self.watch, site_id=site_id, kind=kind, manners=manners)
            machine.clock.calendar_off_s = world.between(-5.0, 5.0)
            self.watch.machines[site_id] = machine
            machine.install(Agent)
        world.look = lambda: invariants.check(self.watch)

    def play(self) -> float:
        """Live through it all; return the seconds in which everything healed.

        Raises
        ------
        Violation
            A promise was not kept.
        """
        world = self.world
        trouble = Trouble(world, self.network, self.watch, self.house)
        world.run_until(world.between(*TROUBLE_S))
        trouble.end()
        world.tell("world", "the trouble is over")
        over_s = world.now_s
        world.run_until(over_s + 5.0)
        while invariants.unsettled(self.watch):
            if world.now_s > over_s + HEALED_WITHIN_S:
                raise Violation(0, f"not healed: {invariants.unsettled(self.watch)}")
            world.run_until(world.now_s + 2.0)
        folded = fold(event for events in self.house.stored for event in events)
        if folded != self.house.fleet.state:
            raise Violation(0, "the state is not the fold of its events")
        return world.now_s - over_s


def play(seed: int) -> Outcome:
    """Play one seed and say what came of it."""
    logging.disable(logging.CRITICAL)
    scene: Scene | None = None
    what, number, healed_s = "", 0, 0.0
    try:
        scene = Scene(seed)
        healed_s = scene.play()
    except Violation as violation:
        what, number = str(violation), violation.number
    finally:
        logging.disable(logging.NOTSET)
    assert scene is not None
    return Outcome(
        seed=seed,
        violation=what,
        invariant=number,
        steps=scene.world.happened,
        virtual_s=scene.world.now_s,
        healed_s=healed_s,
        counts=scene.watch.counts,
        lines=scene.world.lines(),
    )
