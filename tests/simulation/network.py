"""The network: sessions that break on each side at its own time, messages that are late, double or lost.

Orders, answers and reports may overtake each other and come twice; they are made for that. Renewals and
leases keep their order, for which the one TCP stream below a session stands. Whatever is lost breaks the
session, as it does on TCP, but neither side hears of that at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sterna.errors import TransientError
from tests.simulation.world import DiedError, World

if TYPE_CHECKING:
    from tests.simulation.agent import Agent
    from tests.simulation.house import House

HOUSE = "coordinator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How bad the network is."""

    loss: float = 0.0
    double: float = 0.0
    late: float = 0.0
    garbled: float = 0.0
    """Of the chunks of a checkpoint on their way."""


CALM = Weather()


@dataclass(slots=True, eq=False)
class Session:
    """One session, as both ends see it."""

    site_id: str
    number: int
    agent: "Agent"
    hello: int
    """Which of the agent's began it; orders that wait are forgotten at the next."""
    open_at_site: bool = True
    open_at_house: bool = True
    arrives_s: dict[str, float] = field(default_factory=dict)


class Network:
    """Who reaches whom, and how.

    Parameters
    ----------
    world : World
        For time and chance.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.weather = CALM
        self.blocked: set[tuple[str, str]] = set()
        self.sessions: dict[str, Session] = {}
        self.house: House | None = None
        self._numbers = 0

    def reaches(self, one: str, other: str) -> bool:
        """Tell whether packets go both ways, as a connection needs."""
        return (one, other) not in self.blocked and (other, one) not in self.blocked

    def block(self, sender: str, receiver: str) -> None:
        self.blocked.add((sender, receiver))
        for site_id in (sender, receiver):
            if HOUSE in (sender, receiver) and site_id in self.sessions:
                self.break_session(self.sessions[site_id])

    def calm(self) -> None:
        self.weather = CALM
        self.blocked.clear()

    def connect(self, agent: "Agent") -> None:
        """Let an agent say Hello; nothing may come of it."""
        site_id = agent.site_id
        house = self.house
        if house is None or not self.reaches(site_id, HOUSE) or self.world.chance(self.weather.loss):
            agent.link.later()
            return
        try:
            reports = agent.hello()
        except TransientError:
            agent.link.later()
            return
        life, hello = house.life, agent.hellos

        def arrive() -> None:
            if not agent.alive or house.life != life or not house.alive or not self.reaches(site_id, HOUSE):
                if agent.alive:
                    agent.link.later()
                return
            self._numbers += 1
            former = self.sessions.get(site_id)
            if former is not None:
                former.open_at_house = False  # replaced by a newer session
            session = Session(site_id, self._numbers, agent, hello)
            self.sessions[site_id] = session
            try:
                house.greet(session, reports)
            except DiedError:  # it died of it, and the site has no answer
                agent.link.later()
                raise
            agent.link.welcome(session)

        self.world.after(self._delay_s(), arrive)

    def break_session(self, session: Session, most_s: float = 15.0) -> None:
        """Have both ends find out, each at its own time."""
        self.world.after(self.world.between(0.01, most_s), lambda: self._over_at_site(session))
        self.world.after(self.world.between(0.01, most_s), lambda: self._over_at_house(session))

    def _over_at_site(self, session: Session) -> None:
        if session.open_at_site:
            session.open_at_site = False
            if session.agent.alive:
                session.agent.link.broken(session)

    def _over_at_house(self, session: Session) -> None:
        if session.open_at_house and self.house is not None:
            session.open_at_house = False
            self.house.gone(session)

    # -- messages ---------------------------------------------------------------------------------

    def up(self, session: Session, deliver: Callable[["House"], None], *, orderly: str = "") -> None:
        """Send from a site to the coordinator."""

        def arrive() -> None:
            if self.house is not None and self.house.alive and session.open_at_house:
                deliver(self.house)

        self._send(session, (session.site_id, HOUSE), arrive, orderly)

    def down(self, session: Session, deliver: Callable[["Agent"], None], *, orderly: str = "") -> None:
        """Send from the coordinator to a site; what arrives may wait there until the next Hello."""

        def arrive() -> None:
            agent = session.agent
            waits = session.hello == agent.hellos and self.world.chance(0.3)
            if agent.alive and (session.open_at_site or waits):
                deliver(agent)

        self._send(session, (HOUSE, session.site_id), arrive, orderly)

    def _send(self, session: Session, way: tuple[str, str], arrive: Callable[[], None], orderly: str) -> None:
        if way in self.blocked or self.world.chance(self.weather.loss):
            self.break_session(session)
            return
        delay_s = self._delay_s()
        if orderly:
            at_s = max(self.world.now_s + delay_s, session.arrives_s.get(orderly, 0.0))
            session.arrives_s[orderly] = at_s
            self.world.after(at_s - self.world.now_s, arrive)
            return
        self.world.after(delay_s, arrive)
        if self.world.chance(self.weather.double):
            self.world.after(self._delay_s() * 3, arrive)

    def _delay_s(self) -> float:
        if self.world.chance(self.weather.late):
            return self.world.between(0.5, 12.0)
        return self.world.between(0.005, 0.1)

    def worsen(self) -> None:
        chance = self.world.random.random
        self.weather = Weather(
            loss=0.03 * chance(), double=0.5 * chance(), late=0.3 * chance(), garbled=0.2 * chance()
        )

    def clear_up(self) -> None:
        self.weather = replace(CALM)
