"""Every part of the coordinator, built from the configuration and handed to the others; every loop named."""

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc.aio

from coordinator import settings as read
from coordinator.bookkeeping import Bookkeeping, bookkeeping, recorder_of
from coordinator.config import CoordinatorConfig, SiteTable
from coordinator.core.endings import GrantSettings
from coordinator.core.grants import LeaseBook, LeaseMargins
from coordinator.core.policies import policy_named
from coordinator.forecast.kinds import PLANTS
from coordinator.forecast.learnt import Learner
from coordinator.service.ledger_service import SERVICE_NAME as LEDGER_SERVICE
from coordinator.service.operator_service import SERVICE_NAME as OPERATOR_SERVICE
from coordinator.service.operator_service import OperatorServicer
from coordinator.service.sender import Sender
from coordinator.service.sessions import Sessions
from coordinator.service.site_service import SERVICE_NAME as SITE_SERVICE
from coordinator.service.site_service import SiteServicer
from coordinator.store.database import Database, file_url
from coordinator.store.fleet_store import FleetStore
from coordinator.store.history import DecisionStore, TelemetryStore
from coordinator.store.memories import MemoryStore
from coordinator.store.records import Recorder
from coordinator.tasks.bell import Bell
from coordinator.tasks.desk import Desk
from coordinator.tasks.driver import Driver
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.holds import HoldBook
from coordinator.tasks.learning import Learning, Schooling
from coordinator.tasks.live import LiveBook
from coordinator.tasks.lookout import Lookout
from coordinator.tasks.offers import OfferBook
from coordinator.tasks.planning import OnTick, Planner
from coordinator.tasks.reception import Reception
from coordinator.tasks.telemetry import Housekeeper, TelemetryDesk
from sterna import rpc
from sterna.clock import Clock
from sterna.errors import ConfigError
from sterna.identity import Credentials
from sterna.supervise import Pulse, RootTasks
from sterna.v1.operator_service_pb2_grpc import add_OperatorServiceServicer_to_server
from sterna.v1.site_service_pb2_grpc import add_SiteServiceServicer_to_server

log = logging.getLogger(__name__)

SECRET_BYTES = 32
LOOP_DEADLINE_S = 30.0
STOP_GRACE_S = 2.0


@dataclass(slots=True, kw_only=True)
class Coordinator:
    """All parts, built. `port` is where it listens once `serve` has returned."""

    config: CoordinatorConfig
    clock: Clock
    database: Database
    fleet: Fleet
    live: LiveBook
    desk: Desk
    driver: Driver
    planner: Planner
    telemetry: TelemetryDesk
    housekeeper: Housekeeper
    books: Bookkeeping
    sites: SiteServicer
    health: rpc.Health
    learning: Learning | None = None
    server: grpc.aio.Server | None = None
    port: int = 0

    def tasks(self, pulse: Pulse) -> RootTasks:
        """Every loop of the daemon, named."""
        heart = pulse.heart
        config = self.config
        tasks: dict[str, Callable[[], Coroutine[object, object, None]]] = {
            "fleet": self.fleet.run,
            "driver": partial(self.driver.run, heart("driver", LOOP_DEADLINE_S)),
            "planner": partial(self.planner.run, heart("planner", LOOP_DEADLINE_S + config.planner.tick_s)),
            "telemetry": partial(self.telemetry.run, heart("telemetry", LOOP_DEADLINE_S)),
            "housekeeping": partial(
                self.housekeeper.run, heart("housekeeping", LOOP_DEADLINE_S + self.housekeeper.period_s)
            ),
        }
        accountant = self.books.accountant
        tasks["ledger"] = partial(accountant.run, heart("ledger", LOOP_DEADLINE_S + accountant.period_s))
        if self.learning is not None:
            tasks["learning"] = partial(self.learning.run, heart("learning", LOOP_DEADLINE_S))
        return tasks

    async def serve(self, credentials: Credentials | None) -> None:
        """Bind the port and serve; nothing is taken from sites before the loops run."""
        self.server = rpc.make_server()
        add_SiteServiceServicer_to_server(self.sites, self.server)
        operators = OperatorServicer(desk=self.desk, fleet=self.config.fleet)
        add_OperatorServiceServicer_to_server(operators, self.server)
        self.books.add_to(self.server)
        await self.health.add_to(self.server)
        self.port = rpc.bind(
            self.server, self.config.listen, credentials=credentials, insecure=self.config.insecure
        )
        await self.server.start()
        await self.health.set_serving(True)
        log.info("serving", extra={"address": self.config.listen, "port": self.port})

    async def close(self) -> None:
        """Stop serving, then let go of the store."""
        if self.server is not None:
            await self.server.stop(STOP_GRACE_S)
        self.database.close()


def build(config: CoordinatorConfig, base_dir: Path, clock: Clock, *, restored: bool = False) -> Coordinator:
    """Make every part; nothing runs yet.

    Parameters
    ----------
    config : CoordinatorConfig
        Checked.
    base_dir : Path
        Folder that relative paths count from.
    clock : Clock
        The clocks of all parts.
    restored : bool
        The store is a copy of an earlier time: nothing is done before every site that is not fenced is heard.

    Raises
    ------
    ConfigError
        The state directory cannot be used.
    CorruptError
        The store is no store of ours.
    """
    ground = _ground(config, base_dir, clock)
    fleet, live = ground.fleet, ground.live
    telemetry = TelemetryDesk(store=ground.samples, sender=ground.sender)
    holds = HoldBook(hold_s=config.planner.hold_s, live=live, bell=ground.bell)
    offers = OfferBook(fleet=fleet, live=live, sender=ground.sender, settings=read.offer_settings(config))
    learning = _learning(ground, base_dir)
    driver = _driver(ground, holds, wait_for=config.site_ids if restored else ())
    lookout = Lookout(
        fleet=fleet,
        live=live,
        forecaster=read.forecaster(config),
        settings=read.view_settings(config),
        clock=clock,
        learnt=learning.forecast if learning is not None else None,
    )
    planner = _planner(ground, lookout, driver, on_tick=(holds.on_tick, offers.on_tick))
    return Coordinator(
        config=config,
        clock=clock,
        database=ground.database,
        fleet=fleet,
        live=live,
        desk=_desk(ground, lookout, planner, offers),
        driver=driver,
        planner=planner,
        telemetry=telemetry,
        housekeeper=Housekeeper(
            telemetry=ground.samples,
            decisions=ground.decisions,
            samples_per_site=config.history.samples_per_site,
            decisions_per_job=config.history.decisions_per_job,
        ),
        books=bookkeeping(
            config, base_dir, fleet=fleet, database=ground.database, recorder=ground.recorder, clock=clock
        ),
        sites=_site_service(ground, driver, telemetry, learning),
        learning=learning,
        health=rpc.Health((SITE_SERVICE, OPERATOR_SERVICE, LEDGER_SERVICE)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What the other parts stand on: the configuration, the store, the state, the way to the sites."""

    config: CoordinatorConfig
    clock: Clock
    database: Database
    recorder: Recorder | None
    store: FleetStore
    samples: TelemetryStore
    decisions: DecisionStore
    bell: Bell
    fleet: Fleet
    live: LiveBook
    leases: LeaseBook
    sessions: Sessions
    sender: Sender
    grants: GrantSettings


def _ground(config: CoordinatorConfig, base_dir: Path, clock: Clock) -> _Ground:
    state_dir = base_dir / config.state_dir
    secret = _secret(state_dir)
    database = Database(config.database_url or file_url(state_dir / "coordinator.db"))
    recorder = recorder_of(config, base_dir, database, clock)
    store, bell, sessions = FleetStore(database), Bell(), Sessions()
    lease = config.lease
    return _Ground(
        config=config,
        clock=clock,
        database=database,
        recorder=recorder,
        store=store,
        samples=TelemetryStore(database),
        decisions=DecisionStore(database, recorder),
        bell=bell,
        fleet=Fleet(store, bell),
        live=LiveBook(bell),
        leases=LeaseBook(LeaseMargins(skew_s=lease.skew_s, kill_grace_s=lease.kill_grace_s)),
        sessions=sessions,
        sender=Sender(
            sessions=sessions,
            secret=secret,
            clock=clock,
            ticket_ttl_s=config.migration.transferring_s,
        ),
        grants=GrantSettings(lease_ttl_s=lease.ttl_s, start_attempts=config.migration.start_attempts),
    )


def _driver(ground: _Ground, holds: HoldBook, wait_for: Collection[str]) -> Driver:
    config = ground.config
    return Driver(
        fleet=ground.fleet,
        live=ground.live,
        leases=ground.leases,
        sender=ground.sender,
        bell=ground.bell,
        clock=ground.clock,
        grants=ground.grants,
        timeouts=read.timeouts(config),
        prestage=read.prestage_settings(config),
        retry_s=config.migration.retry_s,
        carry_after_s=read.carry_after_s(config),
        holds=holds.current,
        wait_for=wait_for,
    )


def _planner(ground: _Ground, lookout: Lookout, driver: Driver, on_tick: tuple[OnTick, ...]) -> Planner:
    table = ground.config.planner
    return Planner(
        fleet=ground.fleet,
        live=ground.live,
        lookout=lookout,
        policy=policy_named(table.policy),
        settings=read.planner_settings(table),
        grants=ground.grants,
        decisions=ground.decisions,
        expected_sites=ground.config.site_ids,
        clock=ground.clock,
        settle_s=table.settle_s,
        tick_s=table.tick_s,
        held=lambda: driver.waits,
        on_tick=on_tick,
    )


def _desk(ground: _Ground, lookout: Lookout, planner: Planner, offers: OfferBook) -> Desk:
    config = ground.config
    return Desk(
        fleet=ground.fleet,
        live=ground.live,
        lookout=lookout,
        store=ground.store,
        decisions=ground.decisions,
        sender=ground.sender,
        bell=ground.bell,
        policy=planner.policy,
        settings=read.planner_settings(config.planner),
        grants=ground.grants,
        sites=config.site_ids,
        clock=ground.clock,
        offers=offers.current,
    )


def _site_service(
    ground: _Ground, driver: Driver, telemetry: TelemetryDesk, learning: Learning | None
) -> SiteServicer:
    reception = Reception(
        fleet=ground.fleet,
        live=ground.live,
        leases=ground.leases,
        telemetry=telemetry,
        sender=ground.sender,
        on_ack=driver.on_ack,
        clock=ground.clock,
        learning=learning,
    )
    return SiteServicer(
        fleet=ground.config.fleet,
        sites=ground.config.site_ids,
        identify=rpc.peer_identity,
        handler=reception,
        sessions=ground.sessions,
        ticket_key=ground.sender.key,
        clock=ground.clock,
    )


def _learning(ground: _Ground, base_dir: Path) -> Learning | None:
    table = ground.config.forecast
    if "learnt" not in table.sources:
        return None
    return Learning(
        sites=[_schooling(site, base_dir) for site in ground.config.sites],
        learner=Learner(leads=table.ahead_slots),
        slot_s=table.slot_s,
        day_s=table.day_s,
        memories=MemoryStore(ground.database),
        telemetry=ground.samples,
        clock=ground.clock,
        budget_s=table.budget_s,
    )


def _schooling(site: SiteTable, base_dir: Path) -> Schooling:
    past = base_dir / site.history if site.history is not None else None
    if past is not None and not past.is_file():
        raise ConfigError(f"sites: {site.id}: history: {past}: no such file")
    return Schooling(site_id=site.id, kind=PLANTS[site.plant], past=past)


def _secret(state_dir: Path) -> bytes:
    """Return the secret that tickets are made with; the first start makes it."""
    path = state_dir / "ticket-secret"
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            # Written whole before it has its name: a start that dies half-way leaves no short secret.
            fresh = path.with_suffix(".new")
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "wb") as stream:
                stream.write(secrets.token_bytes(SECRET_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
            fresh.rename(path)
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"state_dir: {path}: {error.strerror}") from error
    if len(secret) != SECRET_BYTES:
        raise ConfigError(f"state_dir: {path}: {len(secret)} bytes, expected {SECRET_BYTES}")
    return secret
