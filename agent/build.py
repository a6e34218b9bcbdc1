"""Makes each part of the agent from its table of the configuration. Decides nothing, runs nothing."""

import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import AgentConfig, MeterTable, MqttTable
from agent.core.commands import Rules
from agent.core.failsafe import ExitWithoutLimit, FailsafeSettings
from agent.core.forecast_feed import parse_forecast
from agent.core.ladder import LadderSettings
from agent.core.operator import ConfigBounds
from agent.devices.bus_shared import SharedBus
from agent.devices.gpu import open_provider
from agent.devices.gpu_ports import GpuProvider
from agent.devices.meters import Meter
from agent.devices.meters_fake import FakeMeter
from agent.devices.meters_sunspec import SunSpecMeter
from agent.grid.desk import GridDesk
from agent.grid.mqtt import MqttLink
from agent.jobs.book import ReportSink
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.keeper import Keeper
from agent.jobs.launch import Launcher
from agent.jobs.transfer import Transfers
from agent.jobs.transfer_server import CheckpointServicer
from agent.modbus import ModbusBus
from agent.model.grid import Refusal
from agent.model.readings import MeterRole, SitePower
from agent.store import commands as command_store
from agent.store import telemetry as telemetry_store
from agent.store.jobs import JobRecords
from agent.tasks.liaison import Liaison, News, TicketKey
from agent.uplink.link import Uplink
from agent.uplink.peers import Peers
from sterna import VERSION, rpc
from sterna.clock import Clock
from sterna.config import read_secret
from sterna.errors import ConfigError
from sterna.identity import Identity, Role, load_credentials
from sterna.supervise import Pulse

if TYPE_CHECKING:
    from agent.grid.openadr import OpenAdrVen

log = logging.getLogger(__name__)

GRID_SOURCE = "mqtt"
"""Name of the MQTT operator among the sources of limits."""
OPENADR_SOURCE = "openadr"
"""Name of the VTN among the sources of limits."""
OPENADR_DEADLINE_S = 90.0
# The link beats at each status and at each attempt to connect.
MQTT_DEADLINE_S = 60.0
CHECKPOINT_SERVICE = "sterna.v1.CheckpointService"


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Makes parts from the configuration.

    Parameters
    ----------
    config : AgentConfig
        Checked.
    base_dir : Path
        Folder that relative paths count from.
    stack : AsyncExitStack
        Closes what was opened.
    """

    config: AgentConfig
    base_dir: Path
    clock: Clock
    stack: AsyncExitStack

    @property
    def state_dir(self) -> Path:
        """Return the folder of everything that survives a restart; made when missing."""
        folder = self.base_dir / self.config.state_dir
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def carriage(self, peers: Peers) -> tuple[CheckpointStore, Transfers]:
        """Make the checkpoint store and what fetches into it."""
        store = CheckpointStore(self.state_dir / "checkpoints", self.clock)
        transfers = Transfers(
            store=store,
            clock=self.clock,
            open_channel=lambda address, site: peers.open(address, Role.SITE, site),
        )
        return store, transfers

    def keeper(
        self,
        records: JobRecords,
        checkpoints: CheckpointStore,
        transfers: Transfers,
        boot_id: str,
        on_report: ReportSink,
    ) -> Keeper:
        """Make the keeper of the site's jobs."""
        table = self.config.jobs
        return Keeper(
            root=self.state_dir / "jobs",
            records=records,
            checkpoints=checkpoints,
            carrier=transfers,
            clock=self.clock,
            boot_id=boot_id,
            launcher=Launcher(site_id=self.config.site),
            on_report=on_report,
            slots=table.slots,
            checkpoint_interval_s=table.checkpoint_interval_s,
            keep_checkpoints=table.keep_checkpoints,
        )

    def desk(self, store: command_store.CommandStore) -> GridDesk:
        """Make the grid desk over its store."""
        config, clock = self.config, self.clock
        grid = config.grid
        standing_w = {} if grid.local_limit_w is None else {"local": grid.local_limit_w}
        return GridDesk(
            clock=clock,
            store=store,
            operators=self._operators(),
            settings=FailsafeSettings(
                failsafe_import_w=grid.failsafe_import_w,
                heartbeat_timeout_s=grid.heartbeat_timeout_s,
                failsafe_min_s=grid.failsafe_min_s,
                exit_without_limit=ExitWithoutLimit(grid.exit_without_limit),
            ),
            rules=Rules(site=config.site, hard_minimum_w=grid.minimum_limit_w, max_skew_s=grid.clock_skew_s),
            bounds=ConfigBounds(),
            standing_limits_w=standing_w,
            tolerance_w=grid.meter_tolerance_w,
        )

    def _operators(self) -> tuple[str, ...]:
        """Name the sources that owe us heartbeats."""
        grid = self.config.grid
        mqtt = () if grid.operator == "none" else (GRID_SOURCE,)
        return mqtt if grid.openadr is None else (*mqtt, OPENADR_SOURCE)

    def ladder(self) -> LadderSettings:
        """Make the settings of the power ladder."""
        config, power = self.config, self.config.power
        return LadderSettings(
            margin_w=power.margin_w,
            idle_w=config.gpu.idle_w,
            cap_rise_w_per_s=power.cap_rise_w_per_s,
            resume_margin_w=power.resume_margin_w,
            resume_hold_s=power.resume_hold_s,
            move_after_s=power.move_after_s,
            meter_grace_s=power.meter_grace_s,
        )

    def gpu(self) -> GpuProvider | None:
        """Open the node's GPU; None: the site has none."""
        table = self.config.gpu
        if table.kind == "none":
            return None
        gpu = open_provider(
            table.kind,
            clock=self.clock,
            idle_w=table.idle_w,
            max_w=table.max_w,
            compute_power_path=None if table.power_path is None else self.base_dir / table.power_path,
        )
        self.stack.callback(gpu.close)
        return gpu

    def meters(self) -> tuple[Meter, ...]:
        """Make the meters, with one bus per address: devices behind one gateway take turns."""
        buses: dict[tuple[str, int], SharedBus] = {}
        return tuple(self._meter(table, buses) for table in self.config.meters)

    def _meter(self, table: MeterTable, buses: dict[tuple[str, int], SharedBus]) -> Meter:
        clock, role = self.clock, MeterRole(table.role)
        if table.kind == "fake":
            return FakeMeter(table.name, role, clock=clock, power_w=partial(float, table.fake_power_w))
        key = (table.host, table.port)
        if key not in buses:
            line = ModbusBus(
                table.host,
                table.port,
                clock=clock,
                timeout_s=table.timeout_s,
                rtu_over_tcp=table.rtu_over_tcp,
            )
            self.stack.callback(line.close)
            buses[key] = SharedBus(line, clock=clock)
        if table.kind == "sunspec":
            return SunSpecMeter(
                table.name,
                role,
                buses[key],
                clock=clock,
                unit=table.unit_id,
                invert=table.invert,
                max_power_w=table.max_power_w,
            )
        from agent.devices import meters_tables as tables  # few sites have such meters
        from agent.devices.meters_registers import RegisterMeter

        file = table.table_file
        return RegisterMeter(
            table.name,
            role,
            buses[key],
            clock=clock,
            table=tables.shipped_table(table.table)
            if file is None
            else tables.load_table(self.base_dir / file),
            unit=table.unit_id,
            invert=table.invert,
            max_power_w=table.max_power_w,
        )

    def peers(self) -> Peers:
        """Load our certificate and say who we are.

        Raises
        ------
        ConfigError
            A certificate file cannot be used; it is named.
        """
        config, base_dir = self.config, self.base_dir
        credentials = None
        if config.tls is not None:
            credentials = load_credentials(
                ca_file=base_dir / config.tls.ca,
                cert_file=base_dir / config.tls.cert,
                key_file=base_dir / config.tls.key,
                now=self.clock.now(),
                expected=Identity(fleet=config.fleet, role=Role.SITE, name=config.site),
            )
        return Peers(fleet=config.fleet, site=config.site, credentials=credentials, insecure=config.insecure)

    @asynccontextmanager
    async def checkpoint_server(
        self, peers: Peers, store: CheckpointStore, transfers: Transfers, ticket_key: TicketKey
    ) -> AsyncIterator[str | None]:
        """Serve checkpoints; yields the address that others dial, None when the site does not listen."""
        config = self.config
        if config.transfer is None:
            yield None
            return
        listen = config.transfer.listen
        server = rpc.make_server()
        servicer = CheckpointServicer(
            site_id=config.site,
            store=store,
            arrivals=transfers.arrivals,
            clock=self.clock,
            ticket_key=ticket_key,
            peer=peers.site_of,
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

    def uplink(
        self, peers: Peers, liaison: Liaison, telemetry: telemetry_store.TelemetryStore, boot_id: str
    ) -> Uplink | None:
        """Make the session with the coordinator; None: the site runs alone."""
        table = self.config.coordinator
        if table is None:
            return None
        return Uplink(
            open_channel=lambda: peers.open(table.address, Role.COORDINATOR, table.id),
            site_id=self.config.site,
            agent_version=VERSION,
            boot_id=boot_id,
            handler=liaison,
            telemetry=telemetry,
            clock=self.clock,
            backoff_max_s=table.backoff_max_s,
        )

    def mqtt(self, desk: GridDesk, news: News, link: Uplink | None, pulse: Pulse) -> MqttLink | None:
        """Make the link to the grid operator's broker; None: there is none."""
        config, base_dir, clock = self.config, self.base_dir, self.clock
        table = config.grid.mqtt
        if table is None:
            return None

        async def take_forecast(payload: bytes) -> None:
            forecast = parse_forecast(payload, now=clock.now())
            if isinstance(forecast, Refusal):
                log.warning("the plant's forecast was refused", extra={"reason": str(forecast)})
            elif link is not None:
                link.publish_forecast(forecast)

        password_file = table.password_file
        return MqttLink(
            host=table.host,
            port=table.port,
            operator=config.grid.operator,
            site=config.site,
            client_id=table.client_id or f"sterna-{config.site}",
            desk=desk,
            snapshot=news.snapshot,
            clock=clock,
            on_forecast=take_forecast,
            username=table.username or None,
            password=None if password_file is None else read_secret(base_dir / password_file),
            tls_context=_tls_context(table, base_dir),
            telemetry_period_s=config.grid.telemetry_period_s,
            on_beat=pulse.heart("mqtt", MQTT_DEADLINE_S).beat,
        )

    def openadr(
        self, desk: GridDesk, news: News, pulse: Pulse
    ) -> "tuple[OpenAdrVen, Callable[[SitePower], None]] | tuple[None, None]":
        """Make the VEN, and what it wants told of each balance; None: the site has no VTN."""
        config, table = self.config, self.config.grid.openadr
        if table is None:
            return None, None
        from agent.core.openadr.plan import LimitSettings  # sites without a VTN do not pay for it
        from agent.grid.openadr import OpenAdrVen
        from agent.grid.openadr_feed import PlanFeed
        from agent.grid.openadr_http import HttpClient
        from agent.grid.openadr_mqtt import MqttNotifier
        from agent.grid.openadr_reports import Reporter
        from agent.grid.openadr_rest import RestVtn
        from agent.tasks.measurements import SiteMeasurements

        measurements = SiteMeasurements(snapshot=news.snapshot, envelope=desk.envelope)
        secret_file = table.client_secret_file
        trust = None if table.ca is None else ssl.create_default_context(cafile=str(self.base_dir / table.ca))
        vtn = RestVtn(
            url=table.url,
            client_id=table.client_id or None,
            client_secret=None if secret_file is None else read_secret(self.base_dir / secret_file),
            http=HttpClient(tls_context=trust),
            clock=self.clock,
        )
        ven_name, resource_name = (
            table.ven_name or f"sterna-{config.site}",
            table.resource_name or config.site,
        )
        ven = OpenAdrVen(
            vtn=vtn,
            feed=PlanFeed(desk=desk, source=OPENADR_SOURCE, clock=self.clock),
            clock=self.clock,
            ven_name=ven_name,
            resource_name=resource_name,
            settings=LimitSettings(
                fallback_w=config.grid.failsafe_import_w,
                level_limits_w={int(level): limit_w for level, limit_w in table.level_limits_w.items()},
                subscription_w=table.subscription_w,
                reference_w=table.reference_w,
                minimum_w=config.grid.minimum_limit_w,
            ),
            programs=table.programs,
            reporter=Reporter(
                vtn=vtn,
                measurements=measurements,
                clock=self.clock,
                ven_name=ven_name,
                resource_name=resource_name,
            ),
            notifier=MqttNotifier(vtn=vtn, client_id=f"{ven_name}-openadr") if table.notifier else None,
            poll_period_s=table.poll_period_s,
            on_beat=pulse.heart("openadr", OPENADR_DEADLINE_S).beat,
        )
        return ven, measurements.take


def _tls_context(table: MqttTable, base_dir: Path) -> ssl.SSLContext | None:
    if table.tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(base_dir / table.tls.ca))
        context.load_cert_chain(base_dir / table.tls.cert, base_dir / table.tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"agent.toml: grid.mqtt.tls: cannot be used: {error}") from error
    return context
