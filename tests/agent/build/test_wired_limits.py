"""The daemon with an RTU, a relay or a broker at it: configured, ended, started again."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.core.rtu_registers import ADDRESSES
from tests.agent.build.test_setpoints import EXPORT_LIMIT, WRITABLE, config_text
from tests.agent.devices.obedient import ObedientSite
from tests.agent.grid.rtu_rig import BLOCK, Rtu, rtu, wide
from tests.brokers import Broker
from tests.ports import free_port
from tests.system.daemons import Daemon, Daemons, until
from tests.system.dso import Dso, dso
from tests.system.harness import OPERATOR

pytestmark = pytest.mark.procs

CONFIG = """
fleet = "f"
site = "s"
state_dir = "state"

[grid]
operator = "none"
failsafe_import_w = 3000.0
heartbeat_timeout_s = 2.0

[grid.modbus]
listen = "127.0.0.1:{port}"
clients = ["127.0.0.1"]
writers = ["127.0.0.1"]
rated_import_w = 11000.0

[grid.relay]
debounce_s = 0.1
poll_period_s = 0.05

[[grid.relay.contacts]]
name = "w4"
limit_w = 1500.0
kind = "file"
path = "w4"

[[meters]]
name = "grid"
role = "grid"
kind = "fake"
fake_power_w = 2345.0

[gpu]
kind = "none"
"""
INIT, UNLIMITED, LIMITED, FAILSAFE = range(4)
NOBODY, MODBUS, RELAY, FROM_FAILSAFE = 0, 1, 4, 6
OPEN, CLOSED = "1\n", "0\n"


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    daemons = Daemons(tmp_path)
    try:
        yield daemons
    finally:
        daemons.end_all()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Rtu]:
    async def up() -> bool:
        with contextlib.suppress(OSError):
            async with rtu(port):
                return True
        return False

    await until(up, within_s=20, what="the server's port")
    async with rtu(port) as peer:
        yield peer


async def state(peer: Rtu) -> tuple[object, ...]:
    """Return state of the RTU's link, who limits, and whether the RTU's limit is on; alive while it looks."""
    await peer.beat()
    block = await peer.block()
    return block["State"], block["Src"], block["ImpLimW"]


@contextlib.asynccontextmanager
async def running(daemons: Daemons, folder: Path) -> AsyncIterator[Daemon]:
    """Run the agent of `agent.toml`, which must stop cleanly; a failure comes with the end of its log."""
    agent = daemons.add("agent", "sterna-agent", "run", "--config", str(folder / "agent.toml"))
    agent.start()
    try:
        yield agent
    except AssertionError as failure:
        failure.add_note(daemons.tails())
        raise
    assert await asyncio.to_thread(agent.stop) == 0


async def test_an_rtu_and_a_relay_at_one_site(daemons: Daemons, tmp_path: Path) -> None:
    port, contact = free_port(), tmp_path / "w4"
    (tmp_path / "agent.toml").write_text(CONFIG.format(port=port))
    contact.write_text(OPEN)
    async with running(daemons, tmp_path) as agent:
        await _obeys(agent, port, contact)


async def _obeys(agent: Daemon, port: int, contact: Path) -> None:
    async def seen(peer: Rtu, *wanted: object) -> None:
        async def same() -> bool:
            return await state(peer) == wanted

        await until(same, within_s=15, what=json.dumps(wanted), poll_s=0.1)

    async with connected(port) as peer:
        assert await state(peer) == (INIT, FROM_FAILSAFE, None)
        assert await peer.limit(2000, duration_s=3600, seq=7) is None
        await seen(peer, LIMITED, MODBUS, 2000)
        metered = await peer.block()
        assert (metered["W"], metered["AckSeq"]) == (2345, 7)
        contact.write_text(CLOSED)
        await seen(peer, LIMITED, RELAY, 2000)
        agent.kill()
    contact.write_text(OPEN)
    agent.start()
    async with connected(port) as peer:
        peer.beats = 100
        await seen(peer, INIT, MODBUS, 2000)
        block = await peer.block()
        assert isinstance(block["ImpLimRvrtRem"], int)
        assert 3500 < block["ImpLimRvrtRem"] <= 3600
        assert await peer.limit(None, seq=7) == 3, "the sequence has survived"
        assert await peer.limit(None, seq=8) is None
        await seen(peer, UNLIMITED, NOBODY, None)
        contact.unlink()
        await seen(peer, UNLIMITED, FROM_FAILSAFE, None)
        contact.write_text(OPEN)
        await seen(peer, UNLIMITED, NOBODY, None)
        assert await peer.write(BLOCK + 20, wide(2500)) is None
    async with connected(port) as peer:

        async def lost() -> bool:
            block = await peer.block()
            return (block["State"], block["Src"], block["FsImpLimW"]) == (FAILSAFE, FROM_FAILSAFE, 2500)

        await until(lost, within_s=15, what="fail-safe after silence")


async def test_the_plant_obeys_an_export_limit_of_the_rtu_also_after_a_kill(
    daemons: Daemons, tmp_path: Path
) -> None:
    site, port = ObedientSite(), free_port()
    served = f'listen = "127.0.0.1:{port}", clients = ["127.0.0.1"], writers = ["127.0.0.1"]'
    async with site.server() as meters:
        text = config_text(meters.port, EXPORT_LIMIT, poll_s=0.2, plant=WRITABLE)
        modbus = f'grid = {{ operator = "none", modbus = {{ {served}, rated_export_w = 10000.0 }} }}'
        (tmp_path / "agent.toml").write_text(text.replace('grid = { operator = "none" }', modbus))
        async with running(daemons, tmp_path) as agent:
            await _curtails(agent, port, site)


async def _curtails(agent: Daemon, port: int, site: ObedientSite) -> None:
    async def exported(most_w: float, least_w: float, what: str) -> None:
        await until(lambda: -most_w <= site.grid_w <= -least_w, within_s=30, what=what)

    async with connected(port) as peer:
        await exported(5_000.0, 4_500.0, "the site's own limit")
        command = [1, 2_000, 10_000, 0, *wide(3_600)]
        assert await peer.write(ADDRESSES[704] + 14, command) is None
        await exported(2_000.0, 1_500.0, "20 % of WMax")
        agent.kill()
    agent.start()
    async with connected(port) as peer:
        registers = await peer.read(ADDRESSES[704] + 14, 8)
        assert isinstance(registers, list)
        assert registers[:4] == [1, 2_000, 10_000, 0]
        assert 3_500 < registers[6] << 16 | registers[7] <= 3_600
        await exported(2_000.0, 1_500.0, "the limit that was stored")
        assert await peer.write(ADDRESSES[704] + 14, [0]) is None
        await exported(5_000.0, 4_500.0, "the site's own limit again")


@pytest.mark.broker
async def test_the_plant_obeys_an_export_limit_over_mqtt_also_while_the_agent_restarts(
    daemons: Daemons, tmp_path: Path
) -> None:
    site, broker = ObedientSite(), Broker(tmp_path)
    await broker.start()
    try:
        async with site.server() as meters, dso(broker, "s") as operator:
            text = config_text(
                meters.port,
                EXPORT_LIMIT.replace("reversion_s = 10", "reversion_s = 600"),
                poll_s=0.2,
                plant=WRITABLE,
            )
            mqtt = f'mqtt = {{ host = "127.0.0.1", port = {broker.port}, insecure = true }}'
            grid = f'grid = {{ operator = "{OPERATOR}", trust_clock = "always", {mqtt} }}'
            (tmp_path / "agent.toml").write_text(text.replace('grid = { operator = "none" }', grid))
            async with running(daemons, tmp_path) as agent:
                await _obeys_over_mqtt(agent, operator, site)
    finally:
        broker.kill()


async def _obeys_over_mqtt(agent: Daemon, operator: Dso, site: ObedientSite) -> None:
    async def exported(most_w: float, least_w: float, what: str) -> None:
        await until(lambda: -most_w <= site.grid_w <= -least_w, within_s=30, what=what)

    def told(limit_w: float | None) -> bool:
        status = operator.last("status")
        return status.get("online") is True and status["exportLimitW"] == limit_w

    await exported(5_000.0, 4_500.0, "the site's own limit")
    await until(lambda: told(None), within_s=30, what="a site that is linked")
    sent = await operator.send(operator.command(2_000.0, kind="EXPORT_CAPACITY_LIMIT"))
    await exported(2_000.0, 1_500.0, "the operator's limit")
    await until(lambda: told(2_000.0), within_s=30, what="a status with the limit")
    status = operator.last("status")
    assert (status["exportLimitSource"], status["achievableExportMinW"]) == ("mqtt-export", 0.0)
    assert operator.acks(sent)[0]["status"] == "ACCEPTED"
    assert await asyncio.to_thread(agent.stop) == 0
    assert site.grid_w >= -2_000.0, "a stop lifts nothing"
    operator.heard.clear()
    agent.start()
    await until(lambda: told(2_000.0), within_s=30, what="the limit that was stored")
    assert site.grid_w >= -2_000.0, "nor does a start"
    await operator.send(operator.command(None, kind="EXPORT_CAPACITY_LIMIT"))
    await exported(5_000.0, 4_500.0, "the site's own limit again")
