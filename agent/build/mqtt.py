"""The link to the grid operator's broker: its certificates, its operator's keys, its reports."""

import logging
from functools import partial

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.build.files import broker_tls, secret
from agent.config.mqtt import MqttTable
from agent.config.setpoints import curtails
from agent.core.forecast_feed import parse_forecast
from agent.grid.desk import GridDesk
from agent.grid.mqtt import EXPORTS, SOURCE, MqttLink
from agent.grid.ports import Seal
from agent.grid.wire import Topics
from agent.model.grid import Refusal
from agent.tasks.liaison import News
from agent.uplink.link import Uplink

log = logging.getLogger(__name__)

# The link beats at each status and at each attempt to connect.
MQTT_DEADLINE_S = 60.0


def make_seal(build: Build, table: MqttTable) -> Seal | None:
    """Make what tells the operator's messages from others; None: no key is configured."""
    if not table.operator_keys:
        return None
    from agent.grid.signing import OperatorSeal  # sites without a key do not pay for it
    from sterna.signing import load_verifier

    topics = Topics(operator=build.config.grid.operator, site=build.config.site)
    keys = [load_verifier(build.base_dir / path) for path in table.operator_keys]
    return OperatorSeal(keys=keys, base_topic=topics.base)


def open_mqtt(build: Build, desk: GridDesk, news: News, link: Uplink | None, table: MqttTable) -> MqttLink:
    """Make the link to the grid operator's broker, and have it run."""
    config, base_dir, clock = build.config, build.base_dir, build.clock

    async def take_forecast(payload: bytes) -> None:
        forecast = parse_forecast(payload, now=clock.now())
        if isinstance(forecast, Refusal):
            log.warning("the plant's forecast was refused", extra={"reason": str(forecast)})
        elif link is not None:
            link.publish_forecast(forecast)

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
        password=secret(base_dir, table.password_file),
        tls_context=broker_tls(table, base_dir, "grid.mqtt"),
        telemetry_period_s=config.grid.telemetry_period_s,
        session_expiry_s=table.session_expiry_s,
        on_beat=build.pulse.heart("mqtt", MQTT_DEADLINE_S).beat,
    )
    build.links["mqtt"] = lambda: broker.connected
    build.loops["mqtt"] = broker.run
    if table.report_interval_s > 0:
        _report(build, desk, news, broker, table.report_interval_s)
    return broker


def _report(build: Build, desk: GridDesk, news: News, broker: MqttLink, interval_s: float) -> None:
    from agent.tasks.event_reports import EventReports
    from agent.tasks.measurements import SiteMeasurements

    measurements = SiteMeasurements(snapshot=news.snapshot, envelope=desk.envelope)
    build.listeners.append(measurements.take)
    measured = build.measured(measurements)
    for source in (SOURCE, EXPORTS) if curtails(build.config.setpoints) else (SOURCE,):
        reports = EventReports(
            speaking=partial(desk.speaking, source),
            measurements=measured,
            publish=broker.report,
            client_name=build.config.site,
            interval_s=interval_s,
            clock=build.clock,
        )
        name = f"{source}-reports"
        build.loops[name] = partial(reports.run, build.pulse.heart(name, LOOP_DEADLINE_S))
