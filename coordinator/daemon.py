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

from coordinator.config import CoordinatorConfig, PlannerTable, SiteTable
from coordinator.core.endings import GrantSettings
from coordinator.core.feasibility import Tolerance
from coordinator.core.grants import LeaseBook, LeaseMargins
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.core.prestage import PrestageSettings
from coordinator.core.progress import MigrationTimeouts
from coordinator.core.view import ViewSettings
from coordinator.forecast.feed import FeedForecaster
from coordinator.forecast.forecaster import FirstOf, Forecaster
from coordinator.forecast.kinds import PLANTS
from coordinator.forecast.learnt import Learner, LearntForecaster
from coordinator.forecast.persistence import PersistenceForecaster
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
from coordinator.tasks.learning import Learning, Schooling
from coordinator.tasks.live import LiveBook
from coordinator.tasks.planning import Outlook, Planner
from coordinator.tasks.reception import Reception
from coordinator.tasks.telemetry import Housekeeper, TelemetryDesk
from sterna import rpc
from sterna.clock import Clock, SystemClock
from sterna.errors import ConfigError
from sterna.identity import Credentials, Identity, Role, load_credentials
from sterna.notify import Notifier
from sterna.supervise import Pulse, RootTasks, supervise
from sterna.v1.operator_service_pb2_grpc import add_OperatorServiceServicer_to_server
from sterna.v1.site_service_pb2_grpc import add_SiteServiceServicer_to_server

log = logging.getLogger(__name__)

SECRET_BYTES = 32
LOOP_DEADLINE_S = 30.0
STOP_GRACE_S = 2.0
PERSISTENCE_SLOTS = 12
LEARNT_MAX_SLOTS = 3
"""A learnt forecast counts for so many slots after the last one that it was learnt from."""


@dataclass(slots=True, kw_only=True)
class Coordinator:
    """All parts, built. `port` is where it listens once `serve` has returned."""

    config: CoordinatorConfig
    clock: Clock
    database: Database
    fleet: Fleet
    desk: Desk
    driver: Driver
    planner: Planner
    telemetry: TelemetryDesk
    housekeeper: Housekeeper
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
        if self.learning is not None:
            tasks["learning"] = partial(self.learning.run, heart("learning", LOOP_DEADLINE_S))
        return tasks

    async def serve(self, credentials: Credentials | None) -> None:
        """Bind the port and serve; nothing is taken from sites before the loops run."""
        self.server = rpc.make_server()
        add_SiteServiceServicer_to_server(self.sites, self.server)
        operators = OperatorServicer(desk=self.desk, fleet=self.config.fleet)
        add_OperatorServiceServicer_to_server(operators, self.server)
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


def build(config: CoordinatorConfig, base_dir: Path, clock: Clock) -> Coordinator:
    """Make every part; nothing runs yet.

    Parameters
    ----------
    config : CoordinatorConfig
        Checked.
    base_dir : Path
        Folder that relative paths count from.
    clock : Clock
        The clocks of all parts.

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
    store, decisions, samples = FleetStore(database), DecisionStore(database), TelemetryStore(database)
    timeouts = _timeouts(config)
    grants = GrantSettings(lease_ttl_s=config.lease.ttl_s, start_attempts=config.migration.start_attempts)
    bell, sessions = Bell(), Sessions()
    fleet, live = Fleet(store, bell), LiveBook(bell)
    leases = LeaseBook(LeaseMargins(skew_s=config.lease.skew_s, kill_grace_s=config.lease.kill_grace_s))
    sender = Sender(sessions=sessions, secret=secret, clock=clock, ticket_ttl_s=timeouts.transferring_s)
    telemetry = TelemetryDesk(store=samples, sender=sender)
    driver = Driver(
        fleet=fleet,
        live=live,
        leases=leases,
        sender=sender,
        bell=bell,
        clock=clock,
        grants=grants,
        timeouts=timeouts,
        prestage=_prestage_settings(config),
        retry_s=config.migration.retry_s,
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
    outlook = Outlook(
        fleet=fleet,
        live=live,
        forecaster=_forecaster(config),
        settings=_view_settings(config),
        clock=clock,
        learnt=learning.forecast if learning is not None else None,
    )
    settings = _planner_settings(config.planner)
    planner = Planner(
        fleet=fleet,
        live=live,
        outlook=outlook,
        policy=policy_named(config.planner.policy),
        settings=settings,
        grants=grants,
        decisions=decisions,
        expected_sites=config.site_ids,
        clock=clock,
        settle_s=config.planner.settle_s,
        tick_s=config.planner.tick_s,
    )
    desk = Desk(
        fleet=fleet,
        live=live,
        outlook=outlook,
        store=store,
        decisions=decisions,
        sender=sender,
        bell=bell,
        policy=planner.policy,
        settings=settings,
        grants=grants,
        sites=config.site_ids,
        clock=clock,
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
        sites=sites,
        learning=learning,
        health=rpc.Health((SITE_SERVICE, OPERATOR_SERVICE)),
    )


async def run(config: CoordinatorConfig, base_dir: Path) -> int:
    """Run the coordinator until it is stopped; return the exit code."""
    clock = SystemClock()
    pulse = Pulse(clock)
    credentials = load_own_credentials(config, base_dir, clock)
    async with AsyncExitStack() as stack:
        coordinator = build(config, base_dir, clock)
        stack.push_async_callback(coordinator.close)
        await coordinator.serve(credentials)
        tasks = coordinator.tasks(pulse)
        return await supervise(
            tasks,
            notifier=Notifier.from_environment(),
            pulse=pulse,
            status=f"fleet {config.fleet}: {len(config.sites)} sites, port {coordinator.port}",
        )


def start(config: CoordinatorConfig, base_dir: Path) -> int:
    """Run the coordinator in a fresh event loop."""
    # Absolute: jobs and helpers run in folders of their own, where a relative path would mean another place.
    return asyncio.run(run(config, base_dir.absolute()))


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


def _timeouts(config: CoordinatorConfig) -> MigrationTimeouts:
    table = config.migration
    return MigrationTimeouts(
        planned_s=table.planned_s,
        prepared_s=table.prepared_s,
        stopping_s=table.stopping_s,
        transferring_s=table.transferring_s,
    )


def _forecaster(config: CoordinatorConfig) -> Forecaster:
    table = config.planner
    horizon_s = table.persistence_horizon_s
    known: dict[str, Forecaster] = {
        "feed": FeedForecaster(max_age_s=table.forecast_max_age_s),
        "learnt": LearntForecaster(max_age_s=LEARNT_MAX_SLOTS * config.forecast.slot_s),
        "persistence": PersistenceForecaster(
            horizon_s=horizon_s, slot_s=horizon_s / PERSISTENCE_SLOTS, spread_frac_per_s=1 / horizon_s
        ),
    }
    return FirstOf([known[source] for source in config.forecast.sources])


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


def _planner_settings(table: PlannerTable) -> PlannerSettings:
    return PlannerSettings(
        alpha=table.alpha,
        epsilon=table.epsilon,
        eta=table.eta,
        network_wh_per_gb=table.network_wh_per_gb,
        grid_renewable_frac=table.grid_renewable_frac,
        min_residence_s=table.min_residence_s,
        gain_margin_s=table.gain_margin_s,
        gain_margin_frac=table.gain_margin_frac,
        horizon_s=table.horizon_s,
    )


def _prestage_settings(config: CoordinatorConfig) -> PrestageSettings:
    planner = config.planner
    return PrestageSettings(
        view=_view_settings(config),
        tolerance=Tolerance(
            alpha=planner.alpha,
            eta=planner.eta,
            network_wh_per_gb=planner.network_wh_per_gb,
            avoided_nonrenewable_frac=1.0 - planner.grid_renewable_frac,
        ),
        least_transfer_s=config.migration.ahead_least_transfer_s,
        least_bytes=config.migration.ahead_least_bytes,
    )


def _view_settings(config: CoordinatorConfig) -> ViewSettings:
    table = config.planner
    return ViewSettings(
        seal_s=table.seal_s,
        load_s=table.load_s,
        downtime_s=table.downtime_s,
        min_residence_s=table.min_residence_s,
        stale_s=table.sample_stale_s,
        eta=table.eta,
        default_bps=config.links.default_bps,
        link_bps={(pair.source, pair.destination): pair.bps for pair in config.links.pairs},
        sites=config.site_ids,
        hold_back_s=table.hold_back_s,
    )
