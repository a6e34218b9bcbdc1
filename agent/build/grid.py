"""The grid desk, the ladder that keeps its limit, and the link to the operator's broker."""

import logging
import ssl
from pathlib import Path

from agent.build.base import Build
from agent.build.sources import MQTT, operators
from agent.config.grid import MqttTable
from agent.core.commands import Rules
from agent.core.failsafe import ExitWithoutLimit, FailsafeSettings
from agent.core.forecast_feed import parse_forecast
from agent.core.ladder import LadderSettings
from agent.core.operator import ConfigBounds
from agent.grid.desk import GridDesk
from agent.grid.mqtt import MqttLink
from agent.model.grid import Refusal
from agent.store import commands as command_store
from agent.tasks.liaison import News
from agent.uplink.link import Uplink
from sterna.config import read_secret
from sterna.errors import ConfigError


log = logging.getLogger(__name__)

# The link beats at each status and at each attempt to connect.
MQTT_DEADLINE_S = 60.0


def make_desk(build: Build, store: command_store.CommandStore) -> GridDesk:
    """Make the grid desk over its store."""
    config, clock = build.config, build.clock
    grid = config.grid
    standing_w = {} if grid.local_limit_w is None else {"local": grid.local_limit_w}
    return GridDesk(
        clock=clock,
        store=store,
        operators=operators(build.config),
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


def ladder_settings(build: Build) -> LadderSettings:
    """Make the settings of the power ladder."""
    config, power = build.config, build.config.power
    return LadderSettings(
        margin_w=power.margin_w,
        idle_w=config.gpu.idle_w,
        cap_rise_w_per_s=power.cap_rise_w_per_s,
        resume_margin_w=power.resume_margin_w,
        resume_hold_s=power.resume_hold_s,
        move_after_s=power.move_after_s,
        meter_grace_s=power.meter_grace_s,
    )


def open_mqtt(build: Build, desk: GridDesk, news: News, link: Uplink | None) -> MqttLink | None:
    """Make the link to the grid operator's broker, and have it run; None: there is none."""
    config, base_dir, clock = build.config, build.base_dir, build.clock
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
    broker = MqttLink(
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
        on_beat=build.pulse.heart("mqtt", MQTT_DEADLINE_S).beat,
    )
    build.loops["mqtt"] = broker.run
    return broker


def _tls_context(table: MqttTable, base_dir: Path) -> ssl.SSLContext | None:
    if table.tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(base_dir / table.tls.ca))
        context.load_cert_chain(base_dir / table.tls.cert, base_dir / table.tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"agent.toml: grid.mqtt.tls: cannot be used: {error}") from error
    return context
