"""The agent as one process: every part built and handed to the others, every loop named."""

import asyncio
import logging
from collections.abc import Callable
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
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.keeper import Keeper
from agent.jobs.launch import Launcher
from agent.jobs.transfer import Transfers
from agent.model.readings import SitePower
from agent.store import commands as command_store
from agent.store import jobs as job_store
from agent.store import telemetry as telemetry_store
from agent.store.db import Database
from agent.tasks.control import Control, run_control
from agent.tasks.liaison import Liaison, News, TicketKey, run_leases
from agent.tasks.measurements import SiteMeasurements
from agent.tasks.sense import Senses, run_senses
from agent.uplink import link as uplink
from sterna.clock import Clock, SystemClock
from sterna.identity import Role
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
        config, heart = self.config, pulse.heart
        tasks: dict[str, object] = {}
        for meter, table in zip(self.meters, config.meters, strict=True):
            name = f"meter:{meter.name}"
            deadline_s = LOOP_DEADLINE_S + 10 * table.poll_interval_s
            tasks[name] = partial(
                run_meter, meter, self.clock, table.poll_interval_s, self.senses.take, heart(name, deadline_s)
            )
        tasks["senses"] = partial(
            run_senses,
            self.senses,
            desk=self.desk,
            telemetry=self.telemetry,
            publish=self.news.publish,
            on_balance=self.on_balance,
            period_s=SENSE_PERIOD_S,
            heart=heart("senses", LOOP_DEADLINE_S),
        )
        tasks["telemetry"] = partial(self.telemetry.run, heart("telemetry", 2 * LOOP_DEADLINE_S))
        tasks["control"] = partial(
            run_control,
            self.control,
            period_s=config.power.control_period_s,
            heart=heart("control", LOOP_DEADLINE_S),
        )
        tasks["jobs"] = partial(self.keeper.run, heart("jobs", LOOP_DEADLINE_S).beat)
        if self.mqtt is not None:
            tasks["mqtt"] = self.mqtt.run
        if self.openadr is not None:
            tasks["openadr"] = self.openadr.run
        if self.uplink is not None:
            tasks["uplink"] = partial(self.uplink.run, heart("uplink", uplink.BEAT_WITHIN_S))
            tasks["leases"] = partial(
                run_leases,
                self.keeper,
                self.uplink,
                period_s=LEASE_PERIOD_S,
                heart=heart("leases", LOOP_DEADLINE_S),
            )
        return tasks  # type: ignore[return-value]  # partials of coroutine functions


async def _assemble(pulse: Pulse, build: Builder) -> _Agent:
    config, base_dir, clock, stack = build.config, build.base_dir, build.clock, build.stack
    state_dir = base_dir / config.state_dir
    state_dir.mkdir(parents=True, exist_ok=True)
    boot_id = command_store.read_boot_id()
    database = await stack.enter_async_context(
        Database(
            state_dir / "agent.db",
            (*command_store.MIGRATIONS, *job_store.MIGRATIONS, *telemetry_store.MIGRATIONS),
        )
    )
    telemetry = telemetry_store.TelemetryStore(
        database=database, clock=clock, spill_after=TELEMETRY_SPILL_SAMPLES
    )
    await telemetry.open()
    stack.push_async_callback(telemetry.flush)
    desk = build.desk(command_store.CommandStore(database, boot_id=boot_id))
    await desk.recover()

    gpu = build.gpu()
    meters = build.meters()
    senses = Senses(meters={meter.name: meter.role for meter in meters}, gpu=gpu, clock=clock)
    peers = build.peers()
    ticket_key = TicketKey()
    checkpoints = CheckpointStore(state_dir / "checkpoints", clock)
    transfers = Transfers(
        store=checkpoints,
        clock=clock,
        open_channel=lambda address, site: peers.open(address, Role.SITE, site),
    )
    address = await stack.enter_async_context(
        build.checkpoint_server(peers, checkpoints, transfers, ticket_key)
    )
    holder: list[uplink.Uplink] = []  # the keeper reports to an uplink that is made after it
    keeper = Keeper(
        root=state_dir / "jobs",
        records=job_store.JobRecords(database),
        checkpoints=checkpoints,
        carrier=transfers,
        clock=clock,
        boot_id=boot_id,
        launcher=Launcher(site_id=config.site),
        on_report=lambda report: holder[0].publish_job(report) if holder else None,
        slots=config.jobs.slots,
        checkpoint_interval_s=config.jobs.checkpoint_interval_s,
        keep_checkpoints=config.jobs.keep_checkpoints,
    )
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
        holder.append(link)
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
    measurements = SiteMeasurements(snapshot=news.snapshot, envelope=desk.envelope)
    openadr = build.openadr(desk, measurements, pulse)
    return _Agent(
        config=config,
        clock=clock,
        meters=meters,
        senses=senses,
        desk=desk,
        mqtt=mqtt,
        openadr=openadr,
        on_balance=None if openadr is None else measurements.take,
        keeper=keeper,
        telemetry=telemetry,
        control=control,
        news=news,
        uplink=link,
    )


def start(config: AgentConfig, base_dir: Path) -> int:
    """Run the agent in a fresh event loop."""
    return asyncio.run(run(config, base_dir))
