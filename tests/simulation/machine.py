"""One site's machine: power, disk, clock, and the processes on it. Jobs outlive the agent, not the boot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.clocks import NodeClock
from tests.simulation.disk import Disk
from tests.simulation.fates import Boundary
from tests.simulation.training import Manner, Shim
from tests.simulation.vault import Vault
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.agent import Agent
    from tests.simulation.network import Network
    from tests.simulation.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What does not change about a site. `dialable`: other sites can open connections to it."""

    slots: int
    dialable: bool
    clock_rate: float


class Machine:
    """The site as a thing that can be switched off.

    Parameters
    ----------
    world, network, watch
        Where it stands, how it speaks, who sees it.
    site_id, kind
        What it is.
    manners : mapping of job to Manner
        How each job's trainer behaves.
    """

    def __init__(
        self,
        world: World,
        network: "Network",
        watch: "Watch",
        *,
        site_id: str,
        kind: Kind,
        manners: Mapping[str, Manner],
    ) -> None:
        self.world, self.network, self.watch = world, network, watch
        self.site_id, self.kind, self.manners = site_id, kind, manners
        self.clock = NodeClock(world.time, kind.clock_rate)
        self.disk = Disk()
        self.boundary = Boundary()
        self.vault = Vault(
            self.disk, self.clock, self.commit, lambda job_id: watch.checkpoints_changed(site_id, job_id)
        )
        self.powered = True
        self.burnt = False
        self.shims: dict[str, Shim] = {}
        self.agent: Agent | None = None
        self._make_agent: Callable[[Machine], Agent] | None = None
        self._runs = 0

    def install(self, make_agent: "Callable[[Machine], Agent]") -> None:
        self._make_agent = make_agent
        self.start_agent()

    def commit(self, write: Callable[[], None]) -> None:
        self.boundary.commit(self, write)

    def new_run_id(self) -> str:
        self._runs += 1
        return f"{self.site_id}-run{self._runs}"

    def nudge_agent(self, job_id: str) -> None:
        """Let the agent find out soon that something has changed."""
        agent = self.agent
        if agent is not None:
            agent.later(0.05, lambda: agent.mind(job_id))

    # -- life and death ---------------------------------------------------------------------------

    def die(self, *, power: bool) -> None:
        if power:
            self.power_cut()
        else:
            self.kill_agent()
        self.world.after(self.world.between(0.5, 20.0), self.power_on if power else self.start_agent)

    def start_agent(self) -> None:
        if self.powered and self.agent is None and self._make_agent is not None:
            self.world.tell(self.site_id, "agent starts")
            self.agent = self._make_agent(self)
            self.watch.minded(self, minded=True)
            self.agent.open()

    def kill_agent(self) -> None:
        if self.agent is not None:
            self.world.tell(self.site_id, "agent dies")
            self.agent.alive = False
            self.watch.minded(self, minded=False)
            self.agent.link.lost()
            self.agent = None

    def power_cut(self) -> None:
        if not self.powered:
            return
        self.world.tell(self.site_id, "power cut")
        self.kill_agent()
        for shim in self.shims.values():
            shim.vanish()
        self.shims.clear()
        self.disk.power_cut(self.world.random)
        self.powered = False
        self.watch.machine_off(self.site_id)

    def power_on(self) -> None:
        if self.powered or self.burnt:
            return
        self.clock.boot()
        self.powered = True
        self.world.tell(self.site_id, "power is back, {}", self.clock.boot_id)
        self.start_agent()

    def burn(self) -> None:
        """Lose the site for good."""
        self.power_cut()
        self.burnt = True
        self.watch.machine_burnt(self.site_id)

    # -- for whoever looks from outside -----------------------------------------------------------

    def running(self, job_id: str) -> list[Shim]:
        return [shim for shim in self.shims.values() if shim.job_id == job_id and shim.training]
