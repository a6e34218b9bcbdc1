"""The coordinator: its own driver and reception over a store that can tear, and an operator beside it.

`Driver`, `Reception`, `LiveBook` and `LeaseBook` are the shipped ones. Their coroutines never wait here, for
the store answers at once, so they are run like functions.
"""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator.core import arrivals, endings, fleet, grants
from coordinator.core.endings import GrantSettings
from coordinator.core.feasibility import Tolerance
from coordinator.core.grants import LeaseMargins
from coordinator.core.holding import Holds, Wish
from coordinator.core.prestage import PrestageSettings
from coordinator.core.progress import MigrationTimeouts
from coordinator.core.view import ViewSettings
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState
from coordinator.model.job import JobReport, JobSpec
from coordinator.model.live import report_of
from coordinator.model.orders import Order
from coordinator.model.site import Capabilities
from coordinator.tasks import driver, reception
from coordinator.tasks.bell import Bell
from coordinator.tasks.live import LiveBook
from tests.simulation import wire
from tests.simulation.clocks import NodeClock
from tests.simulation.fates import Boundary
from tests.simulation.network import HOUSE, Network, Session
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.watch import Watch

T = TypeVar("T")

GRANTS = GrantSettings(lease_ttl_s=20.0)
MARGINS = LeaseMargins(skew_s=1.0, kill_grace_s=1.0)
TIMEOUTS = MigrationTimeouts(planned_s=20, prepared_s=20, stopping_s=40, transferring_s=60)
# Whatever the destination does not hold already is sent ahead.
PRESTAGE = PrestageSettings(
    view=ViewSettings(default_bps=1e6), tolerance=Tolerance(), least_transfer_s=0.0, least_bytes=0
)
CARRY_AFTER_S = 2.0
ROUND_S = 1.0
GATHER_S = 0.05
SETTLE_S = 10.0
HOLD_S = 6.0
"""A pause for surplus is not renewed here, so that it expires now and then."""


def run_now(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise AssertionError("a coroutine of the coordinator waits")


class Fleet:
    """The state in memory and the transactions on disk; `coordinator.tasks.fleet.Fleet` without its queue."""

    def __init__(self, house: "House") -> None:
        self._house = house
        self.state: FleetState = fleet.fold(event for events in house.stored for event in events)

    async def change(self, decide: Callable[[FleetState], Sequence[ev.Event]]) -> tuple[ev.Event, ...]:
        """Decide, store, believe; the process may end before or after the store has it."""
        before = self.state
        events = tuple(decide(before))
        if not events:
            return ()
        after = fleet.fold(events, before)
        house = self._house

        def store() -> None:
            house.stored.append(events)
            house.watch.decided(events, before, after)

        house.boundary.commit(house, store)
        self.state = after
        house.ring()
        return events


class _Ringer(Bell):
    def __init__(self, house: "House") -> None:
        super().__init__()
        self._house = house

    def ring(self) -> None:
        self._house.ring()


class _NoTelemetry:
    def begin(self, site_id: str) -> None:
        """Take nothing."""


class House:
    """The coordinator's machine, and the process on it while it is `alive`.

    Parameters
    ----------
    world, network, watch
        Where it stands.
    clock_rate : float
        Of its CLOCK_BOOTTIME.
    """

    def __init__(self, world: World, network: Network, watch: "Watch", clock_rate: float) -> None:
        self.world, self.network, self.watch = world, network, watch
        self.clock = NodeClock(world.time, clock_rate)
        self.boundary = Boundary()
        self.stored: list[tuple[ev.Event, ...]] = []
        self.alive = False
        self.life = 0
        self._migrations = 0
        self._rung = False
        self._to_be_heard: set[str] = set()
        """Sites without whose word a restored store is not to be acted upon."""

    def start(self) -> None:
        """Begin a life of the process, with no memory but the store's."""
        if self.alive:
            return
        self.alive, self.life, self._rung = True, self.life + 1, False
        self.world.tell(HOUSE, "starts")
        self.fleet = Fleet(self)
        self.live = LiveBook(_Ringer(self))
        self.leases = grants.LeaseBook(MARGINS)
        self.holds: Holds | None = None
        self.driver = driver.Driver(
            fleet=self.fleet,  # type: ignore[arg-type]
            live=self.live,
            leases=self.leases,
            sender=self,
            bell=Bell(),
            clock=self.clock,
            grants=GRANTS,
            timeouts=TIMEOUTS,
            prestage=PRESTAGE,
            holds=lambda: self.holds,
            carry_after_s=CARRY_AFTER_S,
            wait_for=self._to_be_heard,
        )
        self._reception = reception.Reception(
            fleet=self.fleet,  # type: ignore[arg-type]
            live=self.live,
            leases=self.leases,
            telemetry=_NoTelemetry(),  # type: ignore[arg-type]
            sender=self,
            on_ack=self.driver.on_ack,
            clock=self.clock,
        )
        self.leases.recover(self.fleet.state.jobs.values(), self.clock.boottime_s())
        self._settled_at_s = self.world.now_s + SETTLE_S
        self._later(ROUND_S, self._rounds)

    def die(self, *, power: bool) -> None:
        if not self.alive:
            return
        self.world.tell(HOUSE, "dies")
        self.alive = False
        for session in self.network.sessions.values():
            if session.open_at_house:
                session.open_at_house = False
                self.network.break_session(session, most_s=5.0)
        if power:
            self.clock.boot()
        self.world.after(self.world.between(0.5, 15.0), self.start)

    def restore(self, transactions: int) -> None:
        """Come back from a copy of the store that is some transactions old."""
        self.die(power=False)
        del self.stored[max(2, len(self.stored) - transactions) :]
        self.world.tell(HOUSE, "its store is a copy that is {} transactions old", transactions)
        self._to_be_heard = {name for name, one in self.watch.machines.items() if not one.burnt}
        self.watch.restored()

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        life = self.life
        self.world.after(delay_s, lambda: act() if self.alive and self.life == life else None)

    def tell(self, *events: ev.Event) -> None:
        run_now(self.fleet.change(lambda _: events))

    # -- what comes in ----------------------------------------------------------------------------

    def greet(self, session: Session, reports: list[JobReport]) -> None:
        machine = self.watch.machines[session.site_id]
        address = f"{session.site_id}:1" if machine.kind.dialable else ""
        capabilities = Capabilities(slots=machine.kind.slots, checkpoint_address=address)
        run_now(self._reception.on_hello(session.site_id, capabilities, reports))
        self._reception.greeted(session.site_id, session.number)

    def gone(self, session: Session) -> None:
        if self.alive:
            self._reception.gone(session.site_id, session.number)

    def on_report(self, site_id: str, report: JobReport) -> None:
        run_now(self._reception.on_report(site_id, report))

    def on_ack(self, site_id: str, order_id: str, accepted: bool, reason: str) -> None:
        run_now(self._reception.on_ack(site_id, order_id, accepted, reason))

    def on_renewal(self, site_id: str, job_id: str, epoch: int) -> None:
        self._reception.on_renewal(site_id, job_id, epoch)

    # -- what goes out: the driver's `SiteSender` -------------------------------------------------

    def order(self, order_id: str, order: Order) -> bool:
        session = self.network.sessions.get(order.site_id)
        if session is None or not session.open_at_house:
            return False
        self.watch.ordered(self.fleet.state, order)
        kind = type(order.action).__name__
        if kind == "Fetch" and order.migration_id.startswith("carry-"):
            self.watch.count("carried")
        self.world.tell(HOUSE, "{} {} at {} under {}", kind, order.job_id, order.site_id, order.epoch)
        sent = wire.order(order_id, order)
        self.network.down(session, lambda agent: agent.take_order(sent))
        return True

    def lease(self, site_id: str, job_id: str, epoch: int, ttl_s: float | None) -> bool:
        session = self.network.sessions.get(site_id)
        if session is None or not session.open_at_house:
            return False
        self.network.down(session, lambda agent: agent.take_lease(job_id, epoch, ttl_s), orderly="leases")
        return True

    def telemetry_ack(self, site_id: str, sequence: int) -> bool:
        return True

    def hang_up(self, site_id: str, why: str) -> None:
        session = self.network.sessions.get(site_id)
        if session is not None:
            self.network.break_session(session, most_s=0.01)

    # -- rounds, the planner and the operator -----------------------------------------------------

    def ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._later(GATHER_S, self._round)

    def _rounds(self) -> None:
        self._later(ROUND_S, self._rounds)
        self._round()

    def _round(self) -> None:
        self._rung = False
        run_now(self.driver.round())
        if self._to_be_heard <= {name for name, one in self.live.sites.items() if one.connected}:
            self._to_be_heard = set()  # heard in one life: what was heard in an earlier one is forgotten

    def settled(self) -> bool:
        """Tell whether decisions may be made: every site is there, or has been waited for."""
        if self._to_be_heard:
            return False
        there = all(
            self.network.sessions.get(one.site_id) is not None
            and self.network.sessions[one.site_id].open_at_house
            for one in self.watch.machines.values()
            if not one.burnt
        )
        if there:
            self._settled_at_s = self.world.now_s
        return self.world.now_s >= self._settled_at_s

    def submit(self, job_id: str, spec: JobSpec) -> None:
        self.tell(ev.JobSubmitted(at=self.clock.now(), job_id=job_id, spec=spec))

    def start_job(self, job_id: str, site_id: str) -> None:
        """Grant a waiting job as the planner would."""

        def decide(state: FleetState) -> tuple[ev.Event, ...]:
            if arrivals.obstacle_to_arrival(state, self.live.sites, site_id):
                return ()
            return endings.grant(state, job_id, site_id, self.clock.now(), GRANTS)

        run_now(self.fleet.change(decide))

    def move_job(self, job_id: str, site_id: str, window_s: float | None) -> None:
        self._migrations += 1
        now = self.clock.now()
        run_now(
            self.fleet.change(
                lambda state: arrivals.plan_migration(
                    state,
                    self.live.sites,
                    job_id=job_id,
                    site_id=site_id,
                    reason="simulated",
                    predicted_s=None,
                    reserved_bps=None,
                    window_end_at=None if window_s is None else now + self.watch.span(window_s),
                    now=now,
                    migration_id=f"m{self._migrations}",
                )
            )
        )

    def hold_back(self, job_ids: Iterable[str]) -> None:
        """Have these jobs stand still where they run, and no others, as a tick of the planner would."""
        known, now = (self.holds.wishes if self.holds is not None else {}), self.clock.now()
        wishes = {}
        for job_id in job_ids:
            job = self.fleet.state.jobs.get(job_id)
            if job is None:  # an older copy of the store does not know it yet
                continue
            report = report_of(self.live.sites, job.owner_site, job_id)
            above = report.hold_sequence if report is not None else 0
            fresh = Wish(length_s=HOLD_S, reason="too little surplus", renewed_at=now, above=above)
            wishes[job_id] = known.get(job_id, fresh)
        self.holds = Holds(wishes=wishes)

    def cancel(self, job_id: str) -> None:
        job = self.fleet.state.jobs.get(job_id)  # None: an older copy of the store does not know it yet
        if job is not None and not job.ended and not job.cancelling:
            self.watch.cancelled.add(job_id)
            self.tell(ev.CancelRequested(at=self.clock.now(), job_id=job_id))

    def fence(self, site_id: str) -> None:
        """Take the operator's word that nothing runs at a site."""
        self.hang_up(site_id, "fenced")
        self.watch.fenced(site_id)
        run_now(self.fleet.change(lambda state: endings.fence(state, site_id, self.clock.now(), GRANTS)))

    def drain(self, site_id: str, *, draining: bool) -> None:
        kind = ev.SiteDrained if draining else ev.SiteResumed
        self.tell(kind(at=self.clock.now(), site_id=site_id))
