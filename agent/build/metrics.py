"""The port that Prometheus scrapes, and what it is told."""

from collections.abc import Sequence
from functools import partial

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.build.files import both_show
from agent.build.jobs import Carriage
from agent.config.metrics import MetricsTable
from agent.devices.meters import Meter
from agent.devices.meters_counted import CountedMeter
from agent.metrics.families import FAMILIES
from agent.store.db import Database
from agent.store.telemetry import TelemetryStore
from agent.tasks.liaison import News
from agent.tasks.metrics import Figures
from sterna import VERSION
from sterna.exposition.process import process_samples, started_at_s
from sterna.exposition.server import MetricsServer
from sterna.exposition.text import render


def open_metrics(
    build: Build,
    table: MetricsTable,
    *,
    meters: Sequence[Meter],
    news: News,
    carriage: Carriage,
    telemetry: TelemetryStore,
    database: Database,
) -> tuple[Meter, ...]:
    """Bind the port and have it served.

    Returns
    -------
    tuple of Meter
        The meters, with their polls counted: these are to be polled.

    Raises
    ------
    ConfigError
        The address cannot be bound, or a certificate file cannot be used.
    """
    counted = tuple(CountedMeter(meter) for meter in meters)
    figures = Figures(
        identity=(build.config.fleet, build.config.site, VERSION),
        news=news,
        meters=counted,
        transfers=carriage.transfers,
        telemetry=telemetry,
        links=build.links,
        hearts=lambda: build.pulse.hearts,
        free_bytes=carriage.store.free_bytes,
        store_files=(database.path, database.path.with_name(database.path.name + "-wal")),
        process=partial(process_samples, started_at_s(build.clock)),
    )
    host, port = table.address
    server = MetricsServer(
        host=host,
        port=port,
        page=lambda openmetrics: render(FAMILIES, figures.samples(), openmetrics=openmetrics),
        clock=build.clock,
        tls=None if table.tls is None else both_show(table.tls, build.base_dir, "metrics.tls", server=True),
        on_beat=build.pulse.heart("metrics", LOOP_DEADLINE_S).beat,
    )
    server.bind()
    build.stack.callback(server.close)
    build.loops["metrics"] = server.run
    return counted
