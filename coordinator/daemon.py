"""The coordinator as one process: every part built and handed to the others, every loop named."""

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc.aio

from coordinator import settings as read
from coordinator.bookkeeping import Bookkeeping, bookkeeping, recorder_of
from coordinator.config import CoordinatorConfig, MetricsTable, SiteTable
from coordinator.core.endings import GrantSettings
from coordinator.core.grants import LeaseBook, LeaseMargins
from coordinator.core.policies import policy_named
from coordinator.forecast.kinds import PLANTS
from coordinator.forecast.learnt import Learner
from coordinator.metrics.families import FAMILIES
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
from coordinator.tasks.bell import Bell
from coordinator.tasks.desk import Desk
from coordinator.tasks.driver import Driver
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.holds import HoldBook
from coordinator.tasks.learning import Learning, Schooling
from coordinator.tasks.live import LiveBook
from coordinator.tasks.lookout import Lookout
from coordinator.tasks.metrics import Figures
from coordinator.tasks.offers import OfferBook
from coordinator.tasks.planning import Planner
from coordinator.tasks.reception import Reception
from coordinator.tasks.telemetry import Housekeeper, TelemetryDesk
from sterna import VERSION, rpc
from sterna.clock import Clock, SystemClock
from sterna.errors import ConfigError
from sterna.exposition.process import process_samples, started_at_s
from sterna.exposition.server import MetricsServer, scrape_tls
from sterna.exposition.text import render
from sterna.identity import Credentials, Identity, Role, load_credentials
from sterna.listening import interface
from sterna.notify import Notifier
from sterna.supervise import Pulse, RootTasks, supervise
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
    state_dir = base_dir / config.state_dir
    secret = _secret(state_dir)
    database = Database(config.database_url or file_url(state_dir / "coordinator.db"))
    recorder = recorder_of(config, base_dir, database, clock)
    store, samples = FleetStore(database), TelemetryStore(database)
    decisions = DecisionStore(database, recorder)
    timeouts = read.timeouts(config)
    grants = GrantSettings(lease_ttl_s=config.lease.ttl_s, start_attempts=config.migration.start_attempts)
    bell, sessions = Bell(), Sessions()
    fleet, live = Fleet(store, bell), LiveBook(bell)
    leases = LeaseBook(LeaseMargins(skew_s=config.lease.skew_s, kill_grace_s=config.lease.kill_grace_s))
    sender = Sender(sessions=sessions, secret=secret, clock=clock, ticket_ttl_s=timeouts.transferring_s)
    telemetry = TelemetryDesk(store=samples, sender=sender)
    holds = HoldBook(hold_s=config.planner.hold_s, live=live, bell=bell)
    driver = Driver(
        fleet=fleet,
        live=live,
        leases=leases,
        sender=sender,
        bell=bell,
        clock=clock,
        grants=grants,
        timeouts=timeouts,
        prestage=read.prestage_settings(config),
        retry_s=config.migration.retry_s,
        carry_after_s=read.carry_after_s(config),
        holds=holds.current,
        wait_for=config.site_ids if restored else (),
    )
    learning = _learning(config, base_dir, database, samples, clock)
    reception = Reception(
        fleet=fleet,
        live=live,
        leases=leases,
        telemetry=telemetry,
        sender=sender,
        on_ack=driver.on_ack,
        clock=clock,
        learning=learning,
    )
    lookout = Lookout(
        fleet=fleet,
        live=live,
        forecaster=read.forecaster(config),
        settings=read.view_settings(config),
        clock=clock,
        learnt=learning.forecast if learning is not None else None,
    )
    settings = read.planner_settings(config.planner)
    offers = OfferBook(fleet=fleet, live=live, sender=sender, settings=read.offer_settings(config))
    planner = Planner(
        fleet=fleet,
        live=live,
        lookout=lookout,
        policy=policy_named(config.planner.policy),
        settings=settings,
        grants=grants,
        decisions=decisions,
        expected_sites=config.site_ids,
        clock=clock,
        settle_s=config.planner.settle_s,
        tick_s=config.planner.tick_s,
        held=lambda: driver.waits,
        on_tick=(holds.on_tick, offers.on_tick),
    )
    desk = Desk(
        fleet=fleet,
        live=live,
        lookout=lookout,
        store=store,
        decisions=decisions,
        sender=sender,
        bell=bell,
        policy=planner.policy,
        settings=settings,
        grants=grants,
        sites=config.site_ids,
        clock=clock,
        offers=offers.current,
    )
    sites = SiteServicer(
        fleet=config.fleet,
        sites=config.site_ids,
        identify=rpc.peer_identity,
        handler=reception,
        sessions=sessions,
        ticket_key=sender.key,
        clock=clock,
    )
    return Coordinator(
        config=config,
        clock=clock,
        database=database,
        fleet=fleet,
        live=live,
        desk=desk,
        driver=driver,
        planner=planner,
        telemetry=telemetry,
        housekeeper=Housekeeper(
            telemetry=samples,
            decisions=decisions,
            samples_per_site=config.history.samples_per_site,
            decisions_per_job=config.history.decisions_per_job,
        ),
        books=bookkeeping(config, base_dir, fleet=fleet, database=database, recorder=recorder, clock=clock),
        sites=sites,
        learning=learning,
        health=rpc.Health((SITE_SERVICE, OPERATOR_SERVICE, LEDGER_SERVICE)),
    )


async def run(config: CoordinatorConfig, base_dir: Path, *, restored: bool = False) -> int:
    """Run the coordinator until it is stopped; return the exit code."""
    clock = SystemClock()
    pulse = Pulse(clock)
    credentials = load_own_credentials(config, base_dir, clock)
    async with AsyncExitStack() as stack:
        coordinator = build(config, base_dir, clock, restored=restored)
        stack.push_async_callback(coordinator.close)
        await coordinator.serve(credentials)
        tasks = coordinator.tasks(pulse)
        if config.metrics is not None:
            metrics = _metrics(coordinator, config.metrics, base_dir, pulse)
            stack.callback(metrics.close)
            tasks = {**tasks, "metrics": metrics.run}
        return await supervise(
            tasks,
            notifier=Notifier.from_environment(),
            pulse=pulse,
            status=f"fleet {config.fleet}: {len(config.sites)} sites, port {coordinator.port}",
        )


def start(config: CoordinatorConfig, base_dir: Path, *, restored: bool = False) -> int:
    """Run the coordinator in a fresh event loop."""
    # Absolute: jobs and helpers run in folders of their own, where a relative path would mean another place.
    return asyncio.run(run(config, base_dir.absolute(), restored=restored))


def load_own_credentials(config: CoordinatorConfig, base_dir: Path, clock: Clock) -> Credentials | None:
    """Return our certificate, checked; None where plaintext is configured."""
    if config.tls is None:
        return None
    return load_credentials(
        ca_file=base_dir / config.tls.ca,
        cert_file=base_dir / config.tls.cert,
        key_file=base_dir / config.tls.key,
        now=clock.now(),
        expected=Identity(fleet=config.fleet, role=Role.COORDINATOR, name=config.id),
    )


def _metrics(coordinator: Coordinator, table: MetricsTable, base_dir: Path, pulse: Pulse) -> MetricsServer:
    """Bind the port that Prometheus scrapes; raises ConfigError where it cannot be."""
    config, clock = coordinator.config, coordinator.clock
    figures = Figures(
        identity=(config.fleet, coordinator.planner.policy, VERSION),
        fleet=coordinator.fleet,
        live=coordinator.live,
        planner=coordinator.planner,
        sites=[site.id for site in config.sites],
        hearts=lambda: pulse.hearts,
        process=partial(process_samples, started_at_s(clock)),
        clock=clock,
    )
    host, port = interface(table.listen)
    files = table.tls
    server = MetricsServer(
        host=host,
        port=port,
        page=lambda openmetrics: render(FAMILIES, figures.samples(), openmetrics=openmetrics),
        clock=clock,
        tls=None
        if files is None
        else scrape_tls(
            ca_file=base_dir / files.ca, cert_file=base_dir / files.cert, key_file=base_dir / files.key
        ),
        on_beat=pulse.heart("metrics", LOOP_DEADLINE_S).beat,
    )
    server.bind()
    return server


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


def _learning(
    config: CoordinatorConfig, base_dir: Path, database: Database, samples: TelemetryStore, clock: Clock
) -> Learning | None:
    table = config.forecast
    if "learnt" not in table.sources:
        return None
    return Learning(
        sites=[_schooling(site, base_dir) for site in config.sites],
        learner=Learner(leads=table.ahead_slots),
        slot_s=table.slot_s,
        day_s=table.day_s,
        memories=MemoryStore(database),
        telemetry=samples,
        clock=clock,
        budget_s=table.budget_s,
    )


def _schooling(site: SiteTable, base_dir: Path) -> Schooling:
    past = base_dir / site.history if site.history is not None else None
    if past is not None and not past.is_file():
        raise ConfigError(f"sites: {site.id}: history: {past}: no such file")
    return Schooling(site_id=site.id, kind=PLANTS[site.plant], past=past)
