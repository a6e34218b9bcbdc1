"""The agent as one process: every part built and handed to the others, every loop named."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.build.clock import make_clock_trust, watch_clock
from agent.build.gpu import open_gpu
from agent.build.grid import make_desk
from agent.build.jobs import make_carriage, make_keeper, serve_checkpoints
from agent.build.links import make_peers, open_uplink
from agent.build.meters import Lines, declared_batteries, make_lines, make_meters
from agent.build.power import budget_settings
from agent.config import AgentConfig
from agent.devices.meters import Meter, run_meter
from agent.grid.desk import GridDesk
from agent.jobs.keeper import Keeper
from agent.shim import files
from agent.store import commands as command_store
from agent.store import jobs as job_store
from agent.store import telemetry as telemetry_store
from agent.store.db import FILE_NAME, Database
from agent.tasks.control import Control, run_control
from agent.tasks.liaison import LateSink, Liaison, News, TicketKey, run_leases
from agent.tasks.sense import Senses, run_senses
from agent.uplink.link import Uplink
from sterna.clock import SystemClock
from sterna.notify import Notifier
from sterna.supervise import Pulse, supervise

SENSE_PERIOD_S = 1.0
LEASE_PERIOD_S = 1.0
TELEMETRY_SPILL_SAMPLES = 10


async def run(config: AgentConfig, base_dir: Path) -> int:
    """Run the agent until it is stopped.

    Parameters
    ----------
    config : AgentConfig
        Checked.
    base_dir : Path
        Folder that relative paths count from.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    ConfigError
        What the configuration names cannot be used: a certificate, a port, a GPU kind.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        build = Build(
            config=config,
            base_dir=base_dir,
            clock=clock,
            stack=stack,
            pulse=Pulse(clock),
            clock_trust=make_clock_trust(config.grid, base_dir),
        )
        await _assemble(build)
        return await supervise(
            build.loops,
            notifier=Notifier.from_environment(),
            pulse=build.pulse,
            status=f"site {config.site}: {len(build.loops)} loops",
        )


async def _assemble(build: Build) -> None:
    """Build every part, hand it to the others, and name the loops of those that run."""
    config, clock = build.config, build.clock
    boot_id = files.boot_id()
    database, telemetry = await _open_store(build)
    desk = make_desk(build, command_store.CommandStore(database, boot_id=boot_id))
    await desk.recover()
    lines, peers, ticket_key = make_lines(build), make_peers(build), TicketKey()
    meters = make_meters(build, lines)
    gpu = await open_gpu(build, {meter.role for meter in meters}, database)
    senses = Senses(
        meters={meter.name: meter.role for meter in meters},
        gpu=gpu,
        clock=clock,
        batteries=declared_batteries(config.meters),
    )
    carriage = make_carriage(build, peers)
    server = serve_checkpoints(build, peers, carriage, ticket_key)
    address = await build.stack.enter_async_context(server)
    reports = LateSink()
    keeper = make_keeper(build, job_store.JobRecords(database), carriage, boot_id, reports)
    await keeper.open()
    liaison = Liaison(
        keeper=keeper,
        gpu=gpu,
        ticket_key=ticket_key,
        checkpoint_address=address,
        idle_power_w=config.gpu.idle_w,
        free_bytes=carriage.store.free_bytes,
        container_engines=tuple(config.containers.engines()),
        container_mounts=tuple(config.containers.mounts),
    )
    link = open_uplink(build, peers, liaison, telemetry, boot_id)
    if link is not None:
        reports.sink = link.publish_job
    control = Control(
        desk=desk,
        senses=senses,
        keeper=keeper,
        gpu=gpu,
        settings=budget_settings(build),
        request_move=link.request_move if link is not None else lambda _request: None,
        clock=clock,
    )
    desk.on_limit = control.wake
    if config.settlement.enabled:
        from agent.build.settlement import open_settlement  # before the links, whose reports tell of it

        await open_settlement(build, database, desk, control, boot_id)
    news = News(desk=desk, senses=senses, control=control, uplink=link, clock=clock)
    _open_operators(build, desk, news, liaison, link)
    _open_household(build, lines, news)
    if config.metrics is not None:
        from agent.build.metrics import open_metrics  # sites that are not scraped do not pay for it

        meters = open_metrics(
            build,
            config.metrics,
            meters=meters,
            news=news,
            carriage=carriage,
            telemetry=telemetry,
            database=database,
        )
    watch_clock(build)
    _name_site_loops(build, meters, control, news, telemetry)
    _name_job_loops(build, keeper, link)


def _open_operators(build: Build, desk: GridDesk, news: News, liaison: Liaison, link: Uplink | None) -> None:
    """Open the ways by which grid operators reach the site, those that it has."""
    config = build.config
    offers = None
    if link is not None and (config.grid.mqtt is not None or config.grid.openadr is not None):
        from agent.build.offers import open_offers  # before the links, whose reports tell of them

        offers = open_offers(build, desk, news, liaison)
    if config.grid.mqtt is not None:
        from agent.build.mqtt import open_mqtt  # sites without a broker do not pay for it

        broker = open_mqtt(build, desk, news, link, config.grid.mqtt)
        news.control.on_change = broker.status_changed
        if offers is not None:
            from agent.build.offers import publish_offers

            publish_offers(build, offers, broker)
    if config.grid.openadr is not None:
        from agent.build.openadr import open_openadr  # sites without a VTN do not pay for it

        open_openadr(build, desk, news, config.grid.openadr)
    if config.grid.modbus is not None:
        from agent.build.rtu import open_rtu  # sites without an RTU do not pay for it

        open_rtu(build, desk, news, config.grid.modbus)
    if config.grid.relay is not None:
        from agent.build.relay import open_relay  # few sites have contacts

        open_relay(build, desk, config.grid.relay)
    if config.surplus is not None and config.surplus.curtailed_w is not None:
        from agent.build.surplus import declare_curtailment  # few sites have such a rule

        declare_curtailment(build, desk, news, config.surplus.curtailed_w)


def _open_household(build: Build, lines: Lines, news: News) -> None:
    """Open what is the site's own: its set-points, and its place in a household."""
    config = build.config
    if config.setpoints:
        from agent.build.setpoints import least_export, open_setpoints  # few sites write to devices

        open_setpoints(build, lines, news.senses, news.desk.exports)
        news.least_export_w = least_export(build, news.senses)
    if config.home_assistant is not None:
        from agent.build.home_assistant import open_home_assistant  # sites without it do not pay for it

        open_home_assistant(build, news, config.home_assistant)


async def _open_store(build: Build) -> tuple[Database, telemetry_store.TelemetryStore]:
    """Open the one file of the agent, and the samples that wait in it."""
    migrations = [*command_store.MIGRATIONS, *job_store.MIGRATIONS, *telemetry_store.MIGRATIONS]
    salvaged: tuple[str, ...] = ()
    if build.config.settlement.enabled:
        from agent.store import settlement as settlement_store

        migrations += settlement_store.MIGRATIONS
        salvaged = settlement_store.TABLES
    database = await build.stack.enter_async_context(
        Database(
            build.state_dir / FILE_NAME,
            migrations,
            checks=(command_store.check, job_store.check),
            salvaged=salvaged,
        )
    )
    telemetry = telemetry_store.TelemetryStore(
        database=database, clock=build.clock, spill_after=TELEMETRY_SPILL_SAMPLES
    )
    await telemetry.open()
    build.stack.push_async_callback(telemetry.flush)
    return database, telemetry


def _name_site_loops(
    build: Build,
    meters: tuple[Meter, ...],
    control: Control,
    news: News,
    telemetry: telemetry_store.TelemetryStore,
) -> None:
    """Sense and obey."""
    config, heart, senses = build.config, build.pulse.heart, news.senses
    for meter, table in zip(meters, config.meters, strict=True):
        name, period_s = f"meter:{meter.name}", table.poll_interval_s
        beats = heart(name, LOOP_DEADLINE_S + 10 * period_s)
        build.loops[name] = partial(run_meter, meter, build.clock, period_s, senses.take, beats)
    build.loops["senses"] = partial(
        run_senses,
        senses,
        desk=news.desk,
        telemetry=telemetry,
        publish=news.publish,
        least_export_w=news.least_export_w,
        listeners=build.listeners,
        period_s=SENSE_PERIOD_S,
        heart=heart("senses", LOOP_DEADLINE_S),
    )
    build.loops["control"] = partial(
        run_control,
        control,
        period_s=config.power.control_period_s,
        heart=heart("control", LOOP_DEADLINE_S),
    )
    build.loops["telemetry"] = partial(telemetry.run, heart("telemetry", 2 * LOOP_DEADLINE_S))


def _name_job_loops(build: Build, keeper: Keeper, link: Uplink | None) -> None:
    """Mind the jobs, and ask for their leases."""
    heart = build.pulse.heart
    build.loops["jobs"] = partial(keeper.run, heart("jobs", LOOP_DEADLINE_S).beat)
    if link is not None:
        build.loops["leases"] = partial(
            run_leases, keeper, link, period_s=LEASE_PERIOD_S, heart=heart("leases", LOOP_DEADLINE_S)
        )


def start(config: AgentConfig, base_dir: Path) -> int:
    """Run the agent in a fresh event loop."""
    # Absolute: jobs and helpers run in folders of their own, where a relative path would mean another place.
    return asyncio.run(run(config, base_dir.absolute()))
