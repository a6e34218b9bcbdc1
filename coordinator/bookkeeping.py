"""The parts of the ledger, built from the configuration: `daemon` takes them in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from coordinator.config import CoordinatorConfig
from coordinator.service.ledger_service import LedgerServicer
from coordinator.store.database import Database
from coordinator.store.energy_store import EnergyStore
from coordinator.store.records import Recorder
from coordinator.tasks.accounting import Accountant
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.ledger_desk import LedgerDesk
from sterna.clock import Clock
from sterna.v1.ledger_service_pb2_grpc import add_LedgerServiceServicer_to_server

HEAD_FILE = "ledger-head.json"
PERIOD_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookkeeping:
    """Who books, and who answers for it."""

    accountant: Accountant
    add_to: Callable[[grpc.aio.Server], None]


def recorder_of(
    config: CoordinatorConfig, base_dir: Path, database: Database, clock: Clock
) -> Recorder | None:
    """Return who signs records; None where no key is configured.

    Raises
    ------
    ConfigError
        The key cannot be read.
    """
    if config.ledger.key is None:
        return None
    from sterna.signing import load_signing_key

    key = load_signing_key(base_dir / config.ledger.key)
    return Recorder(database=database, key=key, fleet=config.fleet, clock=clock)


def bookkeeping(
    config: CoordinatorConfig,
    base_dir: Path,
    *,
    fleet: Fleet,
    database: Database,
    recorder: Recorder | None,
    clock: Clock,
) -> Bookkeeping:
    """Make the parts of the ledger; nothing runs yet."""
    table = config.ledger
    energy = EnergyStore(database, slot_s=table.slot_s)
    desk = LedgerDesk(
        fleet=fleet, energy=energy, recorder=recorder, sites=config.site_ids, slot_s=table.slot_s
    )
    servicer = LedgerServicer(desk=desk, fleet=config.fleet)
    return Bookkeeping(
        accountant=Accountant(
            fleet=fleet,
            energy=energy,
            recorder=recorder,
            head_file=base_dir / config.state_dir / HEAD_FILE,
            carbon_g_per_kwh={site.id: site.carbon_g_per_kwh for site in config.sites},
            grid_renewable_frac=config.planner.grid_renewable_frac,
            hold_s=table.hold_s,
            clock=clock,
            period_s=min(PERIOD_S, table.slot_s),
        ),
        add_to=lambda server: add_LedgerServiceServicer_to_server(servicer, server),
    )
