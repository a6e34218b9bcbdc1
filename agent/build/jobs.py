"""Jobs, their checkpoints, and the port where other sites fetch them."""

import logging
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from agent.build.base import Build
from agent.jobs.book import ReportSink
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.keeper import Keeper
from agent.jobs.launch import Launcher
from agent.jobs.shims import ForkedShims, ShimStarter, UnitShims, units_are_possible
from agent.jobs.transfer import Transfers
from agent.jobs.twins import Twins
from agent.store.jobs import JobRecords
from agent.tasks.liaison import TicketKey
from agent.uplink.peers import Peers
from sterna import rpc
from sterna.errors import ConfigError
from sterna.identity import Role

if TYPE_CHECKING:
    from agent.jobs.codec_worker import CodecWorker
    from agent.jobs.containers import ContainerRuns

log = logging.getLogger(__name__)

CODEC_TIMEOUT_S = 3600.0
CHECKPOINT_SERVICE = "sterna.v1.CheckpointService"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriage:
    """Checkpoints and their ways: the store, what fetches into it, and the codec; None: no differences."""

    store: CheckpointStore
    transfers: Transfers
    worker: "CodecWorker | None"


def make_carriage(build: Build, peers: Peers) -> Carriage:
    """Make the checkpoint store and what fetches into it."""
    worker = _codec_worker(build)
    store = CheckpointStore(build.state_dir / "checkpoints", build.clock)
    transfers = Transfers(
        store=store,
        clock=build.clock,
        open_channel=lambda address, site: peers.open(address, Role.SITE, site),
        worker=worker,
    )
    return Carriage(store=store, transfers=transfers, worker=worker)


def _codec_worker(build: Build) -> "CodecWorker | None":
    """Make what starts the codec's processes; None where the extra ``delta`` is missing or unwanted."""
    if not build.config.jobs.differences:
        return None
    if any(find_spec(name) is None for name in ("numpy", "zstandard")):
        log.info("checkpoints travel as they are: the extra delta is not installed")
        return None
    from agent.jobs.codec_worker import CodecWorker

    return CodecWorker(timeout_s=CODEC_TIMEOUT_S)


def make_keeper(
    build: Build,
    records: JobRecords,
    carriage: Carriage,
    boot_id: str,
    on_report: ReportSink,
) -> Keeper:
    """Make the keeper of the site's jobs."""
    table = build.config.jobs
    return Keeper(
        root=build.state_dir / "jobs",
        records=records,
        checkpoints=carriage.store,
        twins=Twins(store=carriage.store, clock=build.clock),
        carrier=carriage.transfers,
        clock=build.clock,
        boot_id=boot_id,
        launcher=Launcher(
            site_id=build.config.site, shims=_make_shims(build), containers=_make_containers(build)
        ),
        on_report=on_report,
        slots=table.slots,
        checkpoint_interval_s=table.checkpoint_interval_s,
        keep_checkpoints=table.keep_checkpoints,
    )


def _make_containers(build: Build) -> "ContainerRuns | None":
    """Make what runs jobs in containers; None where no engine is configured."""
    table = build.config.containers
    if not table.engines():
        return None
    from agent.core.containers import ContainerRules, Folder  # most sites run processes
    from agent.jobs.containers import ContainerRuns, rules_here

    for name, words in table.engines().items():
        if shutil.which(words[0]) is None:
            raise ConfigError(f"agent.toml: containers.{name}: no program {words[0]}")
    rules = ContainerRules(
        engines=table.engines(),
        arguments=table.arguments,
        folders={
            name: Folder(path=str(one.path), read_only=one.read_only) for name, one in table.mounts.items()
        },
        devices=table.devices,
        any_arguments=table.any_arguments,
        with_init=table.init,
    )
    log.info("jobs may run in containers", extra={"engines": list(table.engines())})
    return ContainerRuns(site_id=build.config.site, rules=rules_here(rules), environ=os.environ)


def _make_shims(build: Build) -> ShimStarter:
    """Choose who starts the shims, and say so."""
    table = build.config.jobs
    door = build.base_dir / table.runner_socket
    by_systemd = table.runner == "systemd" or (table.runner == "auto" and units_are_possible(door))
    log.info("jobs are started", extra={"by": "systemd" if by_systemd else "the agent", "door": str(door)})
    return UnitShims(door) if by_systemd else ForkedShims()


@asynccontextmanager
async def serve_checkpoints(
    build: Build, peers: Peers, carriage: Carriage, ticket_key: TicketKey
) -> AsyncIterator[str | None]:
    """Serve checkpoints; yields the address that others dial, None when the site does not listen."""
    config = build.config
    if config.transfer is None:
        yield None
        return
    from agent.jobs.transfer_difference import DifferenceDesk  # sites that only dial do not pay for it
    from agent.jobs.transfer_server import CheckpointServicer

    listen, store, worker = config.transfer.listen, carriage.store, carriage.worker
    server = rpc.make_server()
    servicer = CheckpointServicer(
        site_id=config.site,
        store=store,
        arrivals=carriage.transfers.arrivals,
        clock=build.clock,
        ticket_key=ticket_key,
        peer=peers.site_of,
        differences=None if worker is None else DifferenceDesk(worker=worker, store=store),
    )
    servicer.add_to(server)
    health = rpc.Health([CHECKPOINT_SERVICE])
    await health.add_to(server)
    port = rpc.bind(server, listen, credentials=peers.credentials, insecure=config.insecure)
    await server.start()
    await health.set_serving(True)
    try:
        yield config.transfer.advertise or f"{listen.rpartition(':')[0]}:{port}"
    finally:
        await server.stop(grace=1.0)
