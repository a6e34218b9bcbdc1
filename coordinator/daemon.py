"""The coordinator as one process: built, served, run until it is stopped."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from coordinator.build import LOOP_DEADLINE_S, Coordinator, build
from coordinator.config import CoordinatorConfig, MetricsTable
from coordinator.metrics.families import FAMILIES
from coordinator.tasks.metrics import Figures
from sterna import VERSION
from sterna.clock import Clock, SystemClock
from sterna.exposition.process import process_samples, started_at_s
from sterna.exposition.server import MetricsServer, scrape_tls
from sterna.exposition.text import render
from sterna.identity import Credentials, Identity, Role, load_credentials
from sterna.listening import interface
from sterna.notify import Notifier
from sterna.supervise import Pulse, supervise


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
