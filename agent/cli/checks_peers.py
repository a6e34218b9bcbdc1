"""The doctor's looks at others: meters, the operator's broker, the coordinator, the VTN."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from agent.build.files import broker_tls, secret
from agent.build.meters import Lines, open_meter
from agent.cli.dial import trouble_at
from agent.cli.findings import Finding, fail, good, skipped, warn
from agent.cli.mqtt_knock import Door, KnockError, knock
from agent.config import AgentConfig
from agent.config.meters import MeterTable
from agent.devices.meters import Meter
from agent.model.readings import Quality
from sterna.clock import Clock
from sterna.errors import ConfigError, PeerProtocolError, SternaError
from sterna.identity import Role

TRIES = 3
MEND_ADDRESS = (
    "is it powered, is the network up, are host and port right, is Modbus TCP enabled in the device?"
)


async def check_meters(
    config: AgentConfig, base_dir: Path, clock: Clock, *, timeout_s: float
) -> AsyncIterator[Finding]:
    """Read every meter as the agent would."""
    if not config.meters:
        mend = "add [[meters]]; `sterna-agent probe` prints them"
        yield warn("meters", "none: the site's power is unknown", mend)
    lines = Lines(config=config, base_dir=base_dir, clock=clock)
    try:
        for table in config.meters:
            part = f"meter {table.name}"
            try:
                meter = open_meter(table, lines, base_dir=base_dir, clock=clock)
            except ConfigError as error:
                yield fail(part, str(error), "see `sterna-agent check-config`")
                continue
            yield await _meter(part, table, meter, clock, timeout_s)
    finally:
        lines.close()


async def _meter(part: str, table: MeterTable, meter: Meter, clock: Clock, timeout_s: float) -> Finding:
    fault = ""
    place = "" if table.bus else f"tcp://{table.host}:{table.port}"
    probe = f"sterna-agent probe {place or 'URL'}"
    for _ in range(TRIES):
        try:
            async with asyncio.timeout(timeout_s):
                reading = await meter.poll()
        except TimeoutError:
            fault = f"no answer within {timeout_s:g} s"
            continue
        except PeerProtocolError as error:
            return fail(part, str(error), f"do role, table and unit_id fit what `{probe}` prints?")
        except SternaError as error:
            fault = str(error)
            continue
        age_s = clock.boottime_s() - reading.measured_boottime_s
        if reading.quality is not Quality.OK or reading.active_power_w is None:
            return fail(
                part,
                f"{reading.quality.value}: {reading.fault}",
                f"is max_power_w = {table.max_power_w:g} right?",
            )
        return good(
            part, f"{table.role}, {reading.active_power_w:.0f} W, {reading.quality.value}, {age_s:.1f} s old"
        )
    if place and (trouble := await trouble_at(table.host, table.port, timeout_s)):
        return fail(part, f"{table.host}:{table.port}: {trouble}", MEND_ADDRESS)
    return fail(part, fault, f"is it powered, wired and enabled? see what `{probe}` finds")


async def check_broker(config: AgentConfig, base_dir: Path, *, timeout_s: float) -> Finding:
    """Knock at the operator's broker under a client id of our own."""
    part, table = "broker", config.grid.mqtt
    if table is None:
        return skipped(part, "no [grid.mqtt]")
    from agent.grid.wire import Topics

    place = f"{table.host}:{table.port}"
    try:
        door = Door(
            host=table.host,
            port=table.port,
            client_id=f"{table.client_id or f'sterna-{config.site}'}-doctor",
            username=table.username or None,
            password=secret(base_dir, table.password_file),
            tls=broker_tls(table, base_dir, "grid.mqtt"),
        )
    except ConfigError as error:
        return fail(part, str(error), "see `sterna-agent check-config`")
    topic = Topics(operator=config.grid.operator, site=config.site).of("limit")
    try:
        granted = await knock(door, topic, timeout_s=timeout_s)
    except KnockError as error:
        return fail(part, f"{place}: {error}", "check host, port, TLS files and password with the operator")
    if not granted:
        return fail(
            part, f"{place}: lets us in, but not to {topic}", "ask the operator for the right to read it"
        )
    return good(part, f"{place}: lets us in, and to {topic}")


async def check_coordinator(
    config: AgentConfig, base_dir: Path, clock: Clock, *, timeout_s: float
) -> Finding:
    """Ask the coordinator for its health."""
    part, table = "coordinator", config.coordinator
    if table is None:
        return skipped(part, "no [coordinator]: the site runs alone")
    from agent.build.links import load_peers
    from sterna.rpc import check_health

    try:
        peers = load_peers(config, base_dir, clock.now())
        channel = peers.open(table.address, Role.COORDINATOR, table.id)
    except ConfigError as error:
        return fail(part, str(error), "see `sterna-agent check-config`")
    try:
        await check_health(channel, timeout_s=timeout_s)
    except SternaError as error:
        mend = "does it run, is the port open, is its certificate of this fleet?"
        return fail(part, f"{table.address}: {error}", mend)
    finally:
        await channel.close(None)
    return good(part, f"{table.address}: serves")


async def check_vtn(config: AgentConfig, base_dir: Path, clock: Clock, *, timeout_s: float) -> Finding:
    """Ask the VTN for its programs, as the client that the site is."""
    part, table = "vtn", config.grid.openadr
    if table is None:
        return skipped(part, "no [grid.openadr]")
    from agent.build.openadr import make_vtn

    target = urlsplit(table.url)
    host, port = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    if trouble := await trouble_at(host, port, timeout_s):
        return fail(part, f"{host}:{port}: {trouble}", "is the network up, and the URL right?")
    try:
        async with asyncio.timeout(timeout_s):
            programs = await make_vtn(table, base_dir, clock).programs()
    except ConfigError as error:
        return fail(part, str(error), "see `sterna-agent check-config`")
    except TimeoutError:
        return fail(part, f"{table.url}: no answer within {timeout_s:g} s", "is the URL that of a VTN?")
    except SternaError as error:
        return fail(part, str(error), "check url, client_id, client_secret_file and ca with the operator")
    return good(part, f"{table.url}: shows {len(programs)} programs")
