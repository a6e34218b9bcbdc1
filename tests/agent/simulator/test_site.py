"""A simulated site as the shipped meters see it, with every fault, on real sockets."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from agent.core.sitepower import site_power
from agent.devices.meters_sunspec import SunSpecMeter
from agent.modbus import ModbusBus
from agent.model.readings import MeterReading, MeterRole, Quality
from agent.simulator import cli
from agent.simulator.site import UNITS, SimulatedSite
from sterna.clock import SystemClock
from sterna.errors import ConfigError, PeerProtocolError, TransientError
from tests.brokers import Broker
from tests.conftest import Eventually
from tests.ports import free_port

HOST = "127.0.0.1"
NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
ROLES = {"inverter": MeterRole.GENERATION, "grid": MeterRole.GRID, "load": MeterRole.LOAD}
BASIC = "--site miami --place miami --pv-w 3000 --wind-w 12000 --trace-start 2023-03-30T03:00Z --speedup 480"


def arguments(*more: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args([*BASIC.split(), *(str(part) for part in more)])


class Bench:
    """A site that is served, its two files, and meters that look at it."""

    def __init__(self, folder: Path) -> None:
        self.faults_path, self.compute_path = folder / "faults.json", folder / "watts"
        self.now = NOW
        files = ("--fault-path", self.faults_path, "--compute-power-path", self.compute_path)
        self.site: SimulatedSite = cli.build_site(arguments("--load-meter", *files), now=NOW)
        self.site.tick(NOW, 0.0)
        self.meters: dict[str, SunSpecMeter] = {}

    @asynccontextmanager
    async def up(self) -> AsyncIterator["Bench"]:
        async with self.site.server(HOST, 0) as server:
            buses = {}
            for name, role in ROLES.items():
                bus = ModbusBus(
                    HOST, server.port, clock=SystemClock(), timeout_s=0.15, retries=0, reconnect_delay_s=0.01
                )
                buses[name] = bus
                self.meters[name] = SunSpecMeter(name, role, bus, clock=SystemClock(), unit=UNITS[name])
            try:
                yield self
            finally:
                for bus in buses.values():
                    bus.close()

    def fail(self, **faults: object) -> None:
        self.faults_path.write_text(json.dumps(faults))
        self.tick()

    def tick(self) -> None:
        self.now += timedelta(seconds=1)
        self.site.tick(self.now, 1.0)

    async def poll(self) -> dict[str, MeterReading]:
        return {name: await meter.poll() for name, meter in self.meters.items()}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Bench(tmp_path).up() as bench:
        yield bench


async def test_meters_see_the_plant_and_the_balance_finds_its_surplus(bench: Bench) -> None:
    for compute_w in (0.0, 1500.0):
        bench.compute_path.write_text(str(compute_w))
        bench.tick()
        state = bench.site.state
        assert state is not None
        readings = await bench.poll()
        assert readings["inverter"].active_power_w == pytest.approx(state.generation_w, abs=1)
        assert readings["grid"].active_power_w == pytest.approx(state.grid_w, abs=1)
        assert readings["load"].active_power_w == pytest.approx(1000.0)
        site = site_power(
            readings, meters={n: r for n, r in ROLES.items() if n != "load"}, now=NOW, compute_w=compute_w
        )
        assert site.surplus_w == pytest.approx(state.generation_w - 1000.0, abs=2)
        assert site.surplus_w is not None and site.surplus_w > 1200


async def test_counters_count_real_seconds(bench: Bench) -> None:
    before = await bench.poll()
    state = bench.site.tick(bench.now, 3600.0)
    after = await bench.poll()
    assert before["inverter"].energy_export_wh is not None and after["inverter"].energy_export_wh is not None
    made_wh = after["inverter"].energy_export_wh - before["inverter"].energy_export_wh
    assert made_wh == pytest.approx(state.generation_w, abs=2)


async def test_limited_generation(bench: Bench) -> None:
    bench.fail(limit_generation_w=500)
    readings = await bench.poll()
    assert readings["inverter"].active_power_w == 500.0
    assert readings["grid"].active_power_w == 500.0


async def test_nan_is_bad_for_integers_and_floats(bench: Bench) -> None:
    bench.fail(inverter="nan", grid="nan", load="nan")
    for reading in (await bench.poll()).values():
        assert (reading.quality, reading.active_power_w) == (Quality.BAD, None)


async def test_stuck_stands_still_while_the_others_move(bench: Bench) -> None:
    before = await bench.poll()
    bench.fail(grid="stuck")
    bench.now += timedelta(seconds=30)
    bench.tick()
    after = await bench.poll()
    assert after["grid"].active_power_w == before["grid"].active_power_w
    assert after["grid"].frequency_hz == before["grid"].frequency_hz
    assert after["inverter"].active_power_w != before["inverter"].active_power_w


@pytest.mark.parametrize("fault", ["dead", "slow", "garbage"])
async def test_a_device_that_does_not_answer_well_and_its_recovery(
    bench: Bench, fault: str, eventually: Eventually
) -> None:
    await bench.poll()
    bench.fail(grid=fault, slow_s=1.5)
    for _ in range(4):
        with pytest.raises((TransientError, PeerProtocolError)):
            await bench.meters["grid"].poll()
        assert (await bench.meters["inverter"].poll()).quality is Quality.OK
    bench.fail()

    async def recovered() -> bool:
        try:
            return (await bench.meters["grid"].poll()).quality is Quality.OK
        except (TransientError, PeerProtocolError):
            return False

    await eventually(recovered, what="the meter's recovery")


async def test_garbage_is_never_taken_for_power(bench: Bench) -> None:
    bench.fail(grid="garbage")
    for _ in range(6):
        with pytest.raises((TransientError, PeerProtocolError)):
            await bench.meters["grid"].poll()


@pytest.mark.parametrize(
    ("more", "word"),
    [(("--speedup", 0), "speedup"), (("--pv-w", -1), "pv-w"), (("--tick-s", "nan"), "tick-s")],
)
def test_arguments_that_make_no_sense(more: tuple[object, ...], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        cli.build_site(arguments(*more), now=NOW)


def test_a_fleet_agrees_on_trace_time() -> None:
    args = arguments("--start-at", "2026-03-30T12:00:00Z")
    early, late = (cli.build_site(args, now=NOW + timedelta(seconds=s)) for s in (0, 5))
    assert early.time == late.time


PROGRAM = """
import argparse, logging, sys
from agent.simulator import cli
logging.basicConfig(level=logging.INFO)
parser = argparse.ArgumentParser()
cli.add_arguments(parser)
sys.exit(cli.run(parser.parse_args()))
"""


@asynccontextmanager
async def simulator(*more: object) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-c", PROGRAM, *BASIC.split(), *(str(part) for part in more)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.procs
@pytest.mark.broker
async def test_the_process_serves_publishes_and_stops_on_sigterm(
    tmp_path: Path, eventually: Eventually
) -> None:
    broker, port = Broker(tmp_path), free_port()
    await broker.start()
    mqtt = ("--mqtt-host", broker.host, "--mqtt-port", broker.port, "--forecast-period-s", 0.2, "--seed", 3)
    try:
        async with simulator("--port", port, "--tick-s", 0.05, *mqtt) as process:
            with grid_meter_at(port) as meter:

                async def answers() -> bool:
                    try:
                        return (await meter.poll()).quality is Quality.OK
                    except TransientError:
                        return False

                await eventually(answers, within_s=15, what="the simulator's meter")
            first, second = await forecasts(broker, 2)
            assert first["source"] == "plant" and len(first["slots"]) == 48
            assert datetime.fromisoformat(second["issued"]) > datetime.fromisoformat(first["issued"])
            broker.kill()
            await broker.start()
            assert len(await forecasts(broker, 1)) == 1, "it comes back with the broker"
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                _, err = await process.communicate()
            assert process.returncode == 0, err.decode()
    finally:
        broker.kill()


@pytest.mark.procs
@pytest.mark.parametrize(
    ("more", "code"), [(("--speedup", -1), 2), (("--bind", "192.0.2.1"), 1)], ids=["usage", "not our address"]
)
async def test_the_process_says_why_it_cannot_start(more: tuple[object, ...], code: int) -> None:
    async with simulator(*more) as process, asyncio.timeout(15):
        _, err = await process.communicate()
    assert process.returncode == code
    assert b"the simulator" in err and b"Traceback" not in err


@contextmanager
def grid_meter_at(port: int) -> Iterator[SunSpecMeter]:
    bus = ModbusBus(HOST, port, clock=SystemClock(), timeout_s=0.5, retries=0, reconnect_delay_s=0.05)
    yield SunSpecMeter("grid", MeterRole.GRID, bus, clock=SystemClock(), unit=UNITS["grid"])
    bus.close()


async def forecasts(broker: Broker, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(15),
        aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client,
    ):
        await client.subscribe("plant/v1/miami/forecast", qos=1)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            found.append(json.loads(message.payload))
            if len(found) == count:
                break
    return found
