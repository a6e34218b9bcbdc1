"""Drives jobs and moves: takes every step that is due, and tells sites what they must be told until they do.

It keeps nothing that matters: what was sent and when is forgotten at a restart, and then sent again.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from coordinator.core.carrying import is_stuck
from coordinator.core.endings import GrantSettings
from coordinator.core.grants import LeaseBook
from coordinator.core.holding import Holds
from coordinator.core.orders import OrderSettings, orders_for
from coordinator.core.prestage import PrestageSettings
from coordinator.core.progress import MigrationTimeouts, refusal_events, released_events
from coordinator.core.round import RoundInputs, round_events
from coordinator.model.events import Event
from coordinator.model.fleet import FleetState, MigrationState
from coordinator.model.live import is_connected
from coordinator.model.orders import Order, OrderKey, Start
from coordinator.tasks.bell import Bell
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.live import LiveBook
from coordinator.tasks.ports import SiteSender
from sterna.clock import Clock
from sterna.supervise import Heart

log = logging.getLogger(__name__)

REMEMBERED_ORDERS_MAX = 10_000
GATHER_S = 0.02
"""Reports come in flocks: those of so many seconds are judged in one round."""


@dataclass(slots=True)
class _Sent:
    session: int
    at_boot_s: float
    wait_s: float


class Driver:
    """The loop that makes the fleet follow its state.

    Parameters
    ----------
    fleet, live, leases : Fleet, LiveBook, LeaseBook
        What is stored, what is live, and when leases were given.
    sender : SiteSender
        The way to the sites.
    bell : Bell
        Rung when the fleet or what is live has changed.
    clock : Clock
        For events and durations.
    grants, timeouts, prestage
        The numbers.
    retry_s : float
        An order that stands is sent again after this.
    refused_retry_s : float
        The same after it was refused: the site will not think better of it at once.
    period_s : float
        Longest time between two rounds.
    carry_after_s : float
        A job that has waited so long for room where its checkpoint is has that brought elsewhere.
    holds : callable
        Returns who is to stand still where it runs; None: nobody has decided yet.
    wait_for : collection of str
        Nothing is done until all of these sites have said Hello or are fenced: the store was restored from a
        copy, and only they know which epochs were given since.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        live: LiveBook,
        leases: LeaseBook,
        sender: SiteSender,
        bell: Bell,
        clock: Clock,
        grants: GrantSettings,
        timeouts: MigrationTimeouts,
        prestage: PrestageSettings,
        retry_s: float = 2.0,
        refused_retry_s: float = 10.0,
        period_s: float = 0.5,
        carry_after_s: float = 120.0,
        holds: Callable[[], Holds | None] = lambda: None,
        wait_for: Collection[str] = (),
    ) -> None:
        self._fleet = fleet
        self._live = live
        self._leases = leases
        self._sender = sender
        self._bell = bell
        self._clock = clock
        self._grants = grants
        self._timeouts = timeouts
        self._prestage = prestage
        self._order_settings = OrderSettings(reservation_s=timeouts.reservation_s, view=prestage.view)
        self._carry_after_s = carry_after_s
        self._stuck_since: dict[str, float] = {}
        self._retry_s = retry_s
        self._refused_retry_s = refused_retry_s
        self._period_s = period_s
        self._holds = holds
        self._wait_for = set(wait_for)
        self._told_waiting = False
        self._since: dict[str, tuple[MigrationState, float]] = {}
        self._sent: dict[OrderKey, _Sent] = {}
        self._orders: dict[str, Order] = {}

    @property
    def waits(self) -> bool:
        """Tell whether there are sites without whose word nothing is done."""
        return bool(self._wait_for)

    async def run(self, heart: Heart) -> None:
        """Make rounds: at every change, and at least each `period_s`."""
        self._leases.recover(self._fleet.state.jobs.values(), self._clock.boottime_s())
        with self._bell.listen() as ring:
            while True:
                heart.beat()
                ring.clear()
                await self.round()
                await ring.wait(self._period_s)
                await asyncio.sleep(GATHER_S)

    async def round(self) -> None:
        """Do all that is due now."""
        if self._wait_for:
            self._hear()
        if self._wait_for:
            return
        inputs = self._inputs(self._fleet.state)
        for event in await self._fleet.change(lambda state: round_events(state, inputs)):
            self._log(event)
        self._send_standing(self._fleet.state)

    async def on_ack(self, site_id: str, order_id: str, accepted: bool, reason: str) -> None:
        """Take a site's answer to an order."""
        order = self._orders.pop(order_id, None)
        if order is None or order.site_id != site_id:
            return
        now = self._clock.now()
        if accepted:
            await self._fleet.change(lambda state: released_events(state, order, now))
            return
        kind = type(order.action).__name__
        log.warning(
            "a site refused an order",
            extra={"site": site_id, "job": order.job_id, "order": kind, "why": reason},
        )
        sent = self._sent.get(order.key)
        if sent is not None:
            sent.wait_s = self._refused_retry_s
        await self._fleet.change(lambda state: refusal_events(state, order, reason, now, self._grants))

    def _hear(self) -> None:
        """Wait no longer for the sites that have been heard, nor for those that are fenced."""
        before = self._wait_for
        fenced = {site_id for site_id, site in self._fleet.state.sites.items() if site.fenced}
        self._wait_for = {
            site_id for site_id in before - fenced if not is_connected(self._live.sites, site_id)
        }
        if not self._wait_for:
            log.info("every site has been heard since the store was restored")
        elif self._wait_for != before or not self._told_waiting:
            log.warning(
                "the store was restored; nothing is done before these sites are heard or fenced",
                extra={"sites": ", ".join(sorted(self._wait_for))},
            )
        self._told_waiting = True

    def _inputs(self, state: FleetState) -> RoundInputs:
        now_boot_s = self._clock.boottime_s()
        since: dict[str, tuple[MigrationState, float]] = {}
        for migration in state.migrations.values():
            if not migration.ended:
                known = self._since.get(migration.migration_id)
                same = known is not None and known[0] is migration.state
                since[migration.migration_id] = known if same and known else (migration.state, now_boot_s)
        self._since = since
        return RoundInputs(
            live=self._live.sites,
            now=self._clock.now(),
            grants=self._grants,
            timeouts=self._timeouts,
            prestage=self._prestage,
            in_state_s={key: now_boot_s - entered_s for key, (_, entered_s) in since.items()},
            expired=self._expired(state, now_boot_s),
        )

    def _expired(self, state: FleetState, now_boot_s: float) -> frozenset[str]:
        expired = set()
        for job in state.jobs.values():
            if job.ended or job.grant is None or is_connected(self._live.sites, job.grant.site_id):
                continue
            free_at_s = self._leases.free_at_s(job)
            if free_at_s is not None and now_boot_s > free_at_s:
                expired.add(job.job_id)
        return frozenset(expired)

    def _send_standing(self, state: FleetState) -> None:
        """Send every order that stands, to sites that are there, unless it was sent just now."""
        now_boot_s = self._clock.boottime_s()
        standing: dict[OrderKey, Order] = {}
        holds = self._holds()
        rooms_w = holds.rooms_w if holds is not None else {}
        stuck = self._stuck(state, now_boot_s, rooms_w)
        settings = replace(self._order_settings, stuck=stuck, holds=holds)
        for job in state.jobs.values():
            for order in orders_for(state, job, self._live.sites, settings):
                standing[order.key] = order
        self._sent = {key: sent for key, sent in self._sent.items() if key in standing}
        for order in standing.values():
            self._send(order, now_boot_s)
        self._leases.keep_only({job.job_id for job in state.jobs.values() if not job.ended})

    def _stuck(self, state: FleetState, now_boot_s: float, rooms_w: Mapping[str, float]) -> frozenset[str]:
        """Return the jobs that have waited long enough for room where their checkpoints are."""
        self._stuck_since = {
            job.job_id: self._stuck_since.get(job.job_id, now_boot_s)
            for job in state.jobs.values()
            if is_stuck(state, job, self._live.sites, rooms_w)
        }
        waited = self._stuck_since.items()
        return frozenset(job_id for job_id, s in waited if now_boot_s - s >= self._carry_after_s)

    def _send(self, order: Order, now_boot_s: float) -> None:
        site = self._live.sites.get(order.site_id)
        if site is None or not site.connected:
            return
        sent = self._sent.get(order.key)
        if sent is not None and sent.session == site.session and now_boot_s - sent.at_boot_s < sent.wait_s:
            return
        if isinstance(order.action, Start):
            # Reckoned from before it is sent: it may get there even if we think that it did not.
            self._leases.given(order.job_id, order.site_id, order.epoch, now_boot_s)
        order_id = uuid.uuid4().hex
        if self._sender.order(order_id, order):
            wait_s = self._retry_s if sent is None else sent.wait_s
            self._sent[order.key] = _Sent(site.session, now_boot_s, wait_s)
            self._remember(order_id, order)
            log.debug(
                "an order was sent", extra={"site": order.site_id, "order": type(order.action).__name__}
            )

    def _remember(self, order_id: str, order: Order) -> None:
        self._orders[order_id] = order
        while len(self._orders) > REMEMBERED_ORDERS_MAX:
            del self._orders[next(iter(self._orders))]

    def _log(self, event: Event) -> None:
        fields = {
            name: value
            for name in ("job_id", "migration_id", "site_id", "epoch", "failure", "event", "state")
            if (value := getattr(event, name, None)) not in (None, "")
        }
        log.info("the fleet moved on", extra={"kind": type(event).__name__, **fields})
