"""What goes wrong, and what operators and planner do meanwhile: a seeded stream of acts."""

from collections.abc import Callable
from functools import partial

from coordinator.model.fleet import JobState
from tests.simulation.fates import LIES, Fate
from tests.simulation.house import House
from tests.simulation.machine import Machine
from tests.simulation.network import HOUSE, Network
from tests.simulation.watch import Watch
from tests.simulation.world import World

KILLS = [fate for fate in Fate if fate not in LIES]


class Trouble:
    """Does one thing after the other until it is told to stop.

    Parameters
    ----------
    world, network, watch, house
        To whom it does them.
    """

    def __init__(self, world: World, network: Network, watch: Watch, house: House) -> None:
        self._world, self._network, self._watch, self._house = world, network, watch, house
        self._over = self._ended = False
        self._restores_left = 1 if world.chance(0.25) else 0
        self._fires_left = 1 if world.chance(0.15) else 0
        self._rot_left = 1 if world.chance(0.75) else 0
        self._acts: list[tuple[int, Callable[[], None]]] = [
            (10, self._arm_site),
            (4, self._arm_house),
            (6, self._kill_agent),
            (4, self._kill_shim),
            (3, self._power_cut),
            (3, self._kill_house),
            (6, self._partition),
            (4, self._one_way),
            (8, self._heal),
            (6, self._cut_session),
            (6, self._weather),
            (5, self._step_calendar),
            (3, self._pause),
            (2, self._restore),
            (1, self._fire),
            (1, self._give_up),
            (2, self._rot),
            (2, self._cancel),
            (4, self._drain),
        ]
        if world.chance(0.5):
            network.worsen()
        world.after(1.0, self._plan)
        world.after(world.between(2.0, 8.0), self._next)

    def end(self) -> None:
        """Let everything heal that can."""
        self._over = self._ended = True
        self._network.calm()
        for machine in self._watch.machines.values():
            machine.boundary.fate = None
            if not machine.burnt:
                machine.power_on()
                machine.start_agent()
                if machine.agent is not None:
                    for job_id in self._watch.specs:
                        machine.agent.pause(job_id, paused=False)
        self._house.boundary.fate = None
        self._house.start()
        for site_id, machine in self._watch.machines.items():
            if machine.burnt:
                self._house.fence(site_id)
            else:
                self._house.drain(site_id, draining=False)

    def _next(self) -> None:
        if self._over:
            return
        weights, acts = zip(*self._acts, strict=True)
        self._world.random.choices(acts, weights)[0]()
        self._world.after(self._world.between(0.5, 6.0), self._next)

    def _site(self) -> Machine:
        return self._world.random.choice(list(self._watch.machines.values()))

    def _job(self) -> str:
        return self._world.random.choice(list(self._watch.specs))

    # -- what goes wrong --------------------------------------------------------------------------

    def _arm_site(self) -> None:
        self._site().boundary.arm(self._world.random.choice(list(Fate)), self._world.random.randrange(6))

    def _arm_house(self) -> None:
        self._house.boundary.arm(self._world.random.choice(KILLS), self._world.random.randrange(6))

    def _kill_agent(self) -> None:
        machine = self._site()
        if machine.agent is not None:
            machine.die(power=False)

    def _kill_shim(self) -> None:
        for shim in self._site().running(self._job()):
            shim.kill()
            self._watch.count("shim killed")

    def _power_cut(self) -> None:
        machine = self._site()
        if machine.powered:
            machine.die(power=True)

    def _kill_house(self) -> None:
        self._house.die(power=self._world.chance(0.3))

    def _partition(self) -> None:
        machine = self._site()
        others = [HOUSE, *self._watch.machines]
        for other in others if self._world.chance(0.3) else [HOUSE]:
            if other != machine.site_id:
                self._network.block(machine.site_id, other)
                self._network.block(other, machine.site_id)
        self._world.tell("network", "{} is cut off", machine.site_id)

    def _one_way(self) -> None:
        ends = [self._site().site_id, HOUSE]
        self._world.random.shuffle(ends)
        self._network.block(ends[0], ends[1])
        self._world.tell("network", "nothing passes from {} to {}", *ends)

    def _heal(self) -> None:
        self._network.blocked.clear()

    def _cut_session(self) -> None:
        session = self._network.sessions.get(self._site().site_id)
        if session is not None:
            self._network.break_session(session)

    def _weather(self) -> None:
        if self._world.chance(0.6):
            self._network.worsen()
        else:
            self._network.clear_up()

    def _step_calendar(self) -> None:
        clocks = [self._house.clock, *(one.clock for one in self._watch.machines.values())]
        step_s = self._world.random.choice((-86400.0, -3600.0, -30.0, -0.5, 0.5, 30.0, 3600.0))
        self._world.random.choice(clocks).calendar_off_s += step_s

    def _pause(self) -> None:
        agent, paused = self._site().agent, self._world.chance(0.5)
        if agent is not None:
            for job_id in self._watch.specs:
                agent.pause(job_id, paused=paused)

    def _restore(self) -> None:
        """Bring the coordinator back from an old copy, while every site is there to correct it."""
        if self._restores_left and all(one.agent is not None for one in self._watch.machines.values()):
            self._restores_left -= 1
            self._network.calm()
            self._over = True
            self._house.restore(self._world.random.randrange(1, 12))
            self._world.after(40.0, self._resume)

    def _resume(self) -> None:
        if not self._ended:
            self._over = False
            self._next()

    def _fire(self) -> None:
        """Lose a site for good; the operator hears of it, and says so."""
        if self._fires_left and len(self._watch.machines) > 2:
            self._fires_left -= 1
            machine = self._site()
            machine.burn()
            self._world.after(self._world.between(1.0, 30.0), lambda: self._fence(machine))

    def _give_up(self) -> None:
        """Fence a site that is really off; its power may come back, with all that is on its disk."""
        for machine in self._watch.machines.values():
            if not machine.powered:
                self._fence(machine)
                self._world.after(self._world.between(20.0, 40.0), partial(self._take_back, machine))
                return

    def _fence(self, machine: Machine) -> None:
        if self._house.alive and not machine.powered:
            self._world.tell("operator", "fences {}", machine.site_id)
            self._house.fence(machine.site_id)

    def _take_back(self, machine: Machine) -> None:
        if self._house.alive and not machine.burnt:
            self._house.drain(machine.site_id, draining=False)

    def _rot(self) -> None:
        """Flip a bit of a sealed checkpoint, where an older one is beside it."""
        job_id, vault = self._job(), self._site().vault
        held = vault.held(job_id)
        if self._rot_left and len(held) >= 2:
            self._rot_left -= 1
            vault.flip_a_bit(job_id, held[0].checkpoint.checkpoint_id)
            self._watch.progress[job_id].excused = True
            self._watch.count("bit flipped")

    # -- operators and planner --------------------------------------------------------------------

    def _cancel(self) -> None:
        if self._house.alive and self._world.chance(0.2):
            self._house.cancel(self._job())

    def _drain(self) -> None:
        machine = self._site()
        if self._house.alive:
            self._house.drain(machine.site_id, draining=self._world.chance(0.3))

    def _plan(self) -> None:
        """Start what waits; now and then move what runs."""
        self._world.after(self._world.between(1.0, 4.0), self._plan)
        house = self._house
        if not house.alive or not house.settled():
            return
        house.hold_back([] if self._over else [one for one in self._watch.specs if self._world.chance(0.15)])
        for job in list(house.fleet.state.jobs.values()):
            site_id = self._site().site_id
            if job.state is JobState.QUEUED:
                house.start_job(job.job_id, site_id)
            elif not self._over and self._world.chance(0.35):
                window_s = self._world.between(5.0, 120.0) if self._world.chance(0.3) else None
                house.move_job(job.job_id, site_id, window_s)
