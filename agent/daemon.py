"""The agent as one process: every part built and handed to the others, every loop named."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.build import Builder
from agent.config import AgentConfig
from agent.devices.meters import Meter, run_meter
from agent.grid.desk import GridDesk
from agent.grid.mqtt import MqttLink
from agent.jobs.keeper import Keeper
from agent.model.readings import SitePower
from agent.store import commands as command_store
from agent.store import jobs as job_store
from agent.store import telemetry as telemetry_store
from agent.store.db import Database
from agent.tasks.control import Control, run_control
from agent.tasks.liaison import LateSink, Liaison, News, TicketKey, run_leases
from agent.tasks.sense import Senses, run_senses
from agent.uplink import link as uplink
from sterna.clock import Clock, SystemClock
from sterna.notify import Notifier
from sterna.supervise import Pulse, RootTasks, supervise

if TYPE_CHECKING:
    from agent.grid.openadr import OpenAdrVen

log = logging.getLogger(__name__)

SENSE_PERIOD_S = 1.0
LEASE_PERIOD_S = 1.0
TELEMETRY_SPILL_SAMPLES = 10
# A loop that talks to a device or disk may be slow for a while before it counts as hung.
LOOP_DEADLINE_S = 30.0

Loops = dict[str, Callable[[], Coroutine[object, object, None]]]


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
    pulse = Pulse(clock)
    async with AsyncExitStack() as stack:
        agent = await _assemble(pulse, Builder(config=config, base_dir=base_dir, clock=clock, stack=stack))
        tasks = agent.tasks(pulse)
        return await supervise(
            tasks,
            notifier=Notifier.from_environment(),
            pulse=pulse,
            status=f"site {config.site}: {len(tasks)} loops",
        )


@dataclass(slots=True, kw_only=True)
class _Agent:
    """All parts, built."""

    config: AgentConfig
    clock: Clock
    meters: tuple[Meter, ...]
    senses: Senses
    desk: GridDesk
    mqtt: MqttLink | None
    openadr: "OpenAdrVen | None"
    on_balance: Callable[[SitePower], None] | None
    keeper: Keeper
    telemetry: telemetry_store.TelemetryStore
    control: Control
    news: News
    uplink: uplink.Uplink | None

    def tasks(self, pulse: Pulse) -> RootTasks:
        """Every loop of the daemon, named."""
        return {**self._meter_loops(pulse), **self._site_loops(pulse), **self._link_loops(pulse)}

    def _meter_loops(self, pulse: Pulse) -> Loops:
        loops: Loops = {}
        for meter, table in zip(self.meters, self.config.meters, strict=True):
            name, period_s = f"meter:{meter.name}", table.poll_interval_s
            heart = pulse.heart(name, LOOP_DEADLINE_S + 10 * period_s)
            loops[name] = partial(run_meter, meter, self.clock, period_s, self.senses.take, heart)
        return loops

    def _site_loops(self, pulse: Pulse) -> Loops:
        heart = pulse.heart
        return {
            "senses": partial(
                run_senses,
                self.senses,
                desk=self.desk,
                telemetry=self.telemetry,
                publish=self.news.publish,
                on_balance=self.on_balance,
                period_s=SENSE_PERIOD_S,
                heart=heart("senses", LOOP_DEADLINE_S),
            ),
            "telemetry": partial(self.telemetry.run, heart("telemetry", 2 * LOOP_DEADLINE_S)),
            "control": partial(
                run_control,
                self.control,
                period_s=self.config.power.control_period_s,
                heart=heart("control", LOOP_DEADLINE_S),
            ),
            "jobs": partial(self.keeper.run, heart("jobs", LOOP_DEADLINE_S).beat),
        }

    def _link_loops(self, pulse: Pulse) -> Loops:
        loops: Loops = {}
        if self.mqtt is not None:
            loops["mqtt"] = self.mqtt.run
        if self.openadr is not None:
            loops["openadr"] = self.openadr.run
        if self.uplink is not None:
            loops["uplink"] = partial(self.uplink.run, pulse.heart("uplink", uplink.BEAT_WITHIN_S))
            heart = pulse.heart("leases", LOOP_DEADLINE_S)
            loops["leases"] = partial(
                run_leases, self.keeper, self.uplink, period_s=LEASE_PERIOD_S, heart=heart
            )
        return loops


async def _open_store(build: Builder) -> tuple[Database, telemetry_store.TelemetryStore]:
    """Open the one file of the agent, and the samples that wait in it."""
    database = await build.stack.enter_async_context(
        Database(
            build.state_dir / "agent.db",
            (*command_store.MIGRATIONS, *job_store.MIGRATIONS, *telemetry_store.MIGRATIONS),
        )
    )
    telemetry = telemetry_store.TelemetryStore(
        database=database, clock=build.clock, spill_after=TELEMETRY_SPILL_SAMPLES
    )
    await telemetry.open()
    build.stack.push_async_callback(telemetry.flush)
    return database, telemetry


async def _assemble(pulse: Pulse, build: Builder) -> _Agent:
    config, clock = build.config, build.clock
    boot_id = command_store.read_boot_id()
    database, telemetry = await _open_store(build)
    desk = build.desk(command_store.CommandStore(database, boot_id=boot_id))
    await desk.recover()
    gpu, meters, peers, ticket_key = build.gpu(), build.meters(), build.peers(), TicketKey()
    senses = Senses(meters={meter.name: meter.role for meter in meters}, gpu=gpu, clock=clock)
    checkpoints, transfers = build.carriage(peers)
    server = build.checkpoint_server(peers, checkpoints, transfers, ticket_key)
    address = await build.stack.enter_async_context(server)
    reports = LateSink()
    keeper = build.keeper(job_store.JobRecords(database), checkpoints, transfers, boot_id, reports)
    await keeper.open()
    liaison = Liaison(
        keeper=keeper,
        gpu=gpu,
        ticket_key=ticket_key,
        checkpoint_address=address,
        idle_power_w=config.gpu.idle_w,
        free_bytes=checkpoints.free_bytes,
    )
    link = build.uplink(peers, liaison, telemetry, boot_id)
    if link is not None:
        reports.sink = link.publish_job
    control = Control(
        desk=desk,
        senses=senses,
        keeper=keeper,
        gpu=gpu,
        settings=build.ladder(),
        request_move=link.request_move if link is not None else lambda _request: None,
        clock=clock,
    )
    news = News(desk=desk, senses=senses, control=control, uplink=link, clock=clock)
    mqtt = build.mqtt(desk, news, link, pulse)
    if mqtt is not None:
        control.on_change = mqtt.status_changed
    openadr, on_balance = build.openadr(desk, news, pulse)
    return _Agent(
        config=config,
        clock=clock,
        meters=meters,
        senses=senses,
        desk=desk,
        mqtt=mqtt,
        openadr=openadr,
        on_balance=on_balance,
        keeper=keeper,
        telemetry=telemetry,
        control=control,
        news=news,
        uplink=link,
    )


def start(config: AgentConfig, base_dir: Path) -> int:
    """Run the agent in a fresh event loop."""
    return asyncio.run(run(config, base_dir))
