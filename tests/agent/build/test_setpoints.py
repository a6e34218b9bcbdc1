"""Set-points as configured, on a site that obeys: the meters, the rule and the writes, over real sockets."""

import asyncio
import contextlib
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.build.base import Build
from agent.build.meters import Lines, make_lines, make_meters
from agent.build.setpoints import open_setpoints
from agent.config import AgentConfig
from agent.core.setpoints import ExportLimit
from agent.devices.bus_setpoints import SetPoint
from agent.devices.meters import run_meter
from agent.modbus import ModbusBus
from agent.model.limits import Limit
from agent.model.readings import MeterRole
from agent.model.sunspec import DER_CONTROLS, encode
from agent.tasks.sense import Senses
from agent.tasks.setpoints import Steward
from sterna.clock import FakeClock, SystemClock
from sterna.config import parse
from sterna.supervise import Pulse
from tests.agent.devices.obedient import BATTERY, CONTROLS, HOST, PLANT, ObedientSite
from tests.conftest import Eventually
from tests.system.daemons import Daemons, until

SITE = """
fleet = "f"
site = "s"
state_dir = "state"
grid = {{ operator = "none" }}

[[meters]]
name = "plant"
role = "generation"
host = "{host}"
port = {port}
unit_id = 1
max_power_w = 30000.0
poll_interval_s = {poll_s}
{plant}

[[meters]]
name = "grid"
role = "grid"
host = "{host}"
port = {port}
unit_id = 2
poll_interval_s = {poll_s}

[[meters]]
name = "battery"
role = "battery"
host = "{host}"
port = {port}
unit_id = 3
poll_interval_s = {poll_s}
{battery}
"""
EXPORT_LIMIT = """
[[setpoints]]
meter = "plant"
rule = "export-limit"
rated_w = 20000.0
export_limit_w = 5000.0
rise_w_per_s = 100000.0
grace_s = 0.3
reversion_s = 10
"""
CHARGE = """
[[setpoints]]
meter = "battery"
rule = "charge-surplus"
control = "active-power"
max_charge_w = 6000.0
rise_w_per_s = 100000.0
grace_s = 0.3
"""
LIMIT = Limit(
    source="openadr",
    command_id="",
    limit_w=2_000.0,
    start_at=datetime(2026, 11, 22, tzinfo=UTC),
    end_at=None,
    ramp_s=0.0,
    reason="",
)
WRITABLE = 'writable = ["generation-limit"]'


def config_text(
    port: int, setpoints: str = "", *, poll_s: float = 0.05, plant: str = "", battery: str = ""
) -> str:
    return SITE.format(host=HOST, port=port, plant=plant, battery=battery, poll_s=poll_s) + setpoints


@asynccontextmanager
async def living(
    site: ObedientSite, setpoints: str, exports: Callable[[], tuple[Limit, ...]] = tuple, **more: str
) -> AsyncIterator[Lines]:
    """Run the meters and set-points of a configuration against a site; on leaving all is let go."""
    clock = SystemClock()
    async with site.server() as server, AsyncExitStack() as stack:
        document = tomllib.loads(config_text(server.port, setpoints, **more))  # type: ignore[arg-type]
        config = parse(document, AgentConfig, name="agent.toml")
        build = Build(config=config, base_dir=Path(), clock=clock, stack=stack, pulse=Pulse(clock))
        lines = make_lines(build)
        meters = make_meters(build, lines)
        senses = Senses(meters={meter.name: meter.role for meter in meters}, gpu=None, clock=clock)
        open_setpoints(build, lines, senses, exports)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    run_meter(meter, clock, 0.05, senses.take, build.pulse.heart(meter.name, 9.0))
                )
                for meter in meters
            ]
            tasks += [group.create_task(loop()) for loop in build.loops.values()]
            yield lines
            for task in tasks:
                task.cancel()


async def test_an_operators_export_limit_lowers_the_configured_one_while_it_is_in_force(
    eventually: Eventually,
) -> None:
    site, told = ObedientSite(), [LIMIT]
    async with living(site, EXPORT_LIMIT, lambda: tuple(told), plant=WRITABLE):
        await eventually(lambda: -2_000.0 <= site.grid_w <= -1_500.0, what="the operator's limit")
        told.clear()
        await eventually(lambda: -5_000.0 <= site.grid_w <= -4_500.0, what="the site's own limit")
    assert site.plant_w == site.sun_w


async def test_a_restart_lifts_no_limit_of_an_operator(eventually: Eventually) -> None:
    site = ObedientSite()
    async with living(site, EXPORT_LIMIT, lambda: (LIMIT,), plant=WRITABLE):
        await eventually(lambda: -2_000.0 <= site.grid_w <= -1_500.0, what="the operator's limit")
    assert -2_000.0 <= site.grid_w <= -1_500.0, "the device's own timer ends it, not the agent"


async def test_what_an_earlier_run_left_is_not_lifted_before_something_is_metered() -> None:
    site, clock = ObedientSite(), FakeClock(datetime(2026, 11, 22, tzinfo=UTC))
    site.plant.registers = encode(DER_CONTROLS, {**CONTROLS, "WMaxLimPctEna": 1, "WMaxLimPct": 10.0})
    async with (
        site.server() as server,
        ModbusBus(HOST, server.port, clock=clock, writable={PLANT: ()}) as bus,
    ):
        point = SetPoint(bus, clock=clock, unit=PLANT, control="generation-limit", allow_lasting=True)
        steward = Steward(
            name="plant",
            device="plant",
            rule=ExportLimit(
                rated_w=20_000.0, export_limit_w=5_000.0, band_w=200.0, rise_w_per_s=100.0, grace_s=30.0
            ),
            point=point,
            senses=Senses(
                meters={"plant": MeterRole.GENERATION, "grid": MeterRole.GRID}, gpu=None, clock=clock
            ),
            clock=clock,
            lasting=True,
        )
        for _ in range(30):
            await steward.step()
            clock.advance(1.0)
        assert (site.plant.writes, site.plant_w) == (0, 2_000.0)
        clock.advance(1.0)
        await steward.step()
        assert site.plant_w == 5_000.0, "after the grace the safe cap"


async def test_the_plant_is_curtailed_to_what_may_be_exported_and_let_go_at_the_end(
    eventually: Eventually,
) -> None:
    site = ObedientSite()
    async with living(site, EXPORT_LIMIT, plant=WRITABLE):
        assert site.grid_w == -13_000.0
        await eventually(lambda: -5_000.0 <= site.grid_w <= -4_500.0, what="the export limit")
        site.load_w = 200.0
        await eventually(lambda: -5_000.0 <= site.grid_w <= -4_500.0, what="the limit with less load")
        site.load_w = 30_000.0
        await eventually(lambda: site.plant_w == site.sun_w, what="a plant that is free")
        site.load_w = 2_000.0
        await eventually(lambda: site.grid_w >= -5_000.0, what="the limit again")
    assert site.plant_w == site.sun_w
    assert {unit for unit, function in site.functions if function == 16} == {PLANT}
    assert {function for _, function in site.functions} == {3, 16}


async def test_without_the_grid_meter_the_plant_makes_no_more_than_may_be_exported(
    eventually: Eventually,
) -> None:
    site = ObedientSite(grid_dead=True)
    async with living(site, EXPORT_LIMIT, plant=WRITABLE):
        await eventually(lambda: site.plant_w == 5_000.0, what="the safe cap")


async def test_the_battery_takes_what_would_be_exported(eventually: Eventually) -> None:
    site = ObedientSite(sun_w=5_000.0)
    async with living(site, CHARGE, battery='writable = ["active-power"]'):
        await eventually(lambda: 2_800 <= site.battery_w <= 3_000, what="charging from 3 kW of export")
        site.load_w = 4_900.0
        await eventually(lambda: site.battery_w == 0, what="a battery left to itself")
    assert {unit for unit, function in site.functions if function == 16} == {BATTERY}


async def test_a_fixed_set_point_is_renewed_before_the_devices_timer(eventually: Eventually) -> None:
    site = ObedientSite()
    fixed = """
    [[setpoints]]
    meter = "plant"
    rule = "fixed"
    control = "generation-limit"
    values = { WMaxLimPct = 30.0 }
    reversion_s = 10
    """
    async with living(site, fixed, plant=WRITABLE):
        await eventually(lambda: site.plant_w == 6_000.0, what="30 per cent")
        first = site.plant.writes
        await eventually(lambda: site.plant.writes > first, within_s=8.0, what="the renewal")
        assert site.plant_w == 6_000.0


async def test_a_set_point_is_set_again_on_a_device_that_came_back(eventually: Eventually) -> None:
    site = ObedientSite()
    async with living(site, EXPORT_LIMIT, plant=WRITABLE):
        await eventually(lambda: site.grid_w >= -5_000.0, what="the limit")
        site.plant.take(14, [0])  # somebody else switches it off, maybe before it is read back
        await eventually(
            lambda: site.grid_w >= -5_000.0, within_s=12.0, what="the limit, at the next renewal"
        )


async def test_a_site_without_set_points_sends_nothing_but_reads(eventually: Eventually) -> None:
    site = ObedientSite()
    async with living(site, "", plant=WRITABLE):
        await eventually(lambda: len({unit for unit, _ in site.functions}) == 3, what="three polled units")
    assert {function for _, function in site.functions} == {3}


@pytest.mark.procs
@pytest.mark.long
async def test_the_daemon_lets_go_when_it_is_stopped_and_the_device_when_it_is_killed(tmp_path: Path) -> None:
    site = ObedientSite()
    async with site.server() as server:
        config = tmp_path / "agent.toml"
        config.write_text(config_text(server.port, EXPORT_LIMIT, poll_s=0.2, plant=WRITABLE))
        daemons = Daemons(tmp_path)
        agent = daemons.add("agent", "sterna-agent", "run", "--config", str(config))
        with contextlib.ExitStack() as stack:
            stack.callback(daemons.end_all)
            agent.start()
            await until(lambda: site.grid_w >= -5_000.0, within_s=20, what=f"the limit\n{daemons.tails()}")
            assert await asyncio.to_thread(agent.stop) == 0
            assert site.plant_w == site.sun_w, daemons.tails()
            agent.start()
            await until(lambda: site.grid_w >= -5_000.0, within_s=20, what=f"the limit\n{daemons.tails()}")
            agent.kill()
            assert site.grid_w >= -5_000.0
            await until(lambda: site.plant_w == site.sun_w, within_s=12, what="the device's own reversion")
