"""Everything that the agent of `agent_footprint.py --profile full` talks to, and collectd beside it.

A plant with three Modbus devices, Mosquitto with an operator that beats, an OpenADR VTN with an event, an RTU
that beats and reads, a real coordinator over mutual TLS, and a scraper. collectd, where it is installed,
polls the registers that the agent polls, as often, and writes them to CSV files.
"""

import asyncio
import contextlib
import json
import shutil
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiomqtt

from agent.core.rtu_registers import ADDRESSES
from agent.devices.meters_sunspec import POLLED
from agent.grid.wire import stamp
from agent.model.sunspec import (
    BASE_ADDRESSES,
    COMMON,
    HEADER,
    INVERTER,
    METER,
    METER_FLOAT,
    SUNS,
    Model,
    Type,
)
from agent.model.sunspec.der_ac import DER_AC
from agent.model.sunspec.load_limit import LOAD_LIMIT
from sterna.cancellation import heed
from sterna.clock import SystemClock
from tests.agent.grid.rtu_rig import rtu
from tests.brokers import Broker

OPERATOR, SITE = "dso", "north"
UNITS = (
    ("inverter", "generation", 1, INVERTER),
    ("grid", "grid", 2, METER),
    ("load", "load", 3, METER_FLOAT),
)
LIMIT_W = 8000.0
SCRAPE_PERIOD_S = 5.0
RTU_PERIOD_S = 1.0
MAX_READ = 125
HEARTBEAT_PERIOD_S = 10.0
CLIENT_SECRET = "footprint"
COLLECTD_PLUGINS = Path("/usr/lib/collectd")
KINDS = {Type.INT16: "Int16", Type.SUNSSF: "Int16", Type.INT32: "Int32", Type.FLOAT32: "Float"}
CLOCK = SystemClock()

CONFIG = """\
fleet = "bench"
site = "north"
state_dir = "{folder}/state"
log_level = "warning"

[tls]
ca = "{ca}"
cert = "{cert}"
key = "{key}"

[coordinator]
address = "127.0.0.1:{coordinator_port}"

[transfer]
listen = "127.0.0.1:0"

[metrics]
listen = "127.0.0.1:{metrics_port}"

[gpu]
kind = "fake"
idle_w = 5.0

[grid]
operator = "dso"
trust_clock = "always"
failsafe_import_w = 4200.0

[grid.mqtt]
host = "127.0.0.1"
port = {broker_port}
insecure = true

[grid.openadr]
url = "http://127.0.0.1:{vtn_port}/openadr3/3.1.0"
client_id = "ven"
client_secret_file = "{folder}/secret"

[grid.modbus]
listen = "127.0.0.1:{rtu_port}"
clients = ["127.0.0.1"]
writers = ["127.0.0.1"]
rated_import_w = 11000.0
"""
METER_TABLE = """
[[meters]]
name = "{name}"
role = "{role}"
host = "127.0.0.1"
port = {port}
unit_id = {unit}
"""
COORDINATOR_CONFIG = """\
fleet = "bench"
listen = "127.0.0.1:{coordinator_port}"
state_dir = "{folder}/coordinator"

[tls]
ca = "{ca}"
cert = "{cert}"
key = "{key}"

[[sites]]
id = "north"
"""


def agent_config(meter_port: int) -> str:
    """Return the agent's file with everything on, its paths and further ports still to be filled in."""
    meters = [
        METER_TABLE.format(name=name, role=role, port=meter_port, unit=unit) for name, role, unit, _ in UNITS
    ]
    return CONFIG + "".join(meters)


def events() -> str:
    """Return what the VTN publishes: a limit for the hour that has begun, in steps of five minutes."""
    start_at = CLOCK.now() - timedelta(minutes=1)
    intervals = [
        {
            "id": number,
            "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [8.0 + number / 10]}],
        }
        for number in range(12)
    ]
    period = {"start": stamp(start_at), "duration": "PT5M"}
    event = {"programID": "0", "eventName": "bench", "intervalPeriod": period, "intervals": intervals}
    return json.dumps([event])


@contextlib.asynccontextmanager
async def company(*, broker: Broker, rtu_port: int, metrics_port: int) -> AsyncIterator["Company"]:
    """Be the operator, the RTU and the scraper for as long as the block runs."""
    those = Company(metrics_port)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_operator(broker)),
            group.create_task(_rtu(rtu_port, those)),
            group.create_task(_scrape(those)),
        ]
        yield those
        for task in tasks:
            task.cancel()


class Company:
    """What came of it, counted."""

    def __init__(self, metrics_port: int) -> None:
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        self.figures: dict[str, float] = {}
        self.scrapes = 0
        self.rtu_rounds = 0

    def of(self, name: str) -> float:
        """Return a figure of the newest scrape, 0 where there is none."""
        return self.figures.get(name, 0.0)

    @property
    def polls(self) -> list[float]:
        """Polls of each meter that were answered, since the agent's start."""
        labels = [f'{{meter="{name}"}}' for name, *_ in UNITS]
        polls = [self.of(f"sterna_meter_polls_total{label}") for label in labels]
        errors = [self.of(f"sterna_meter_errors_total{label}") for label in labels]
        return [done - failed for done, failed in zip(polls, errors, strict=True)]

    @property
    def whole(self) -> bool:
        """Whether every part of the agent is at work."""
        links = all(
            self.of(f'sterna_link_connected{{link="{link}"}}') for link in ("mqtt", "openadr", "coordinator")
        )
        return links and self.rtu_rounds > 0 and all(polls > 0 for polls in self.polls)


async def _operator(broker: Broker) -> None:
    base = f"dr/v1/{OPERATOR}/{SITE}"
    limit: dict[str, Any] = {"v": 1, "id": "b-1", "seq": 1, "issued": stamp(CLOCK.now()), "active": True}
    limit |= {
        "kind": "IMPORT_CAPACITY_LIMIT",
        "valueW": LIMIT_W,
        "start": None,
        "durationS": None,
        "rampS": 2,
        "reason": "bench",
    }
    async with aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as mqtt:
        await mqtt.publish(f"{base}/limit", json.dumps(limit), qos=1, retain=True)
        for number in range(1_000_000):
            beat = json.dumps({"n": number, "t": stamp(CLOCK.now())})
            await mqtt.publish(f"{base}/heartbeat", beat)
            heed()
            await asyncio.sleep(HEARTBEAT_PERIOD_S)


async def _rtu(port: int, those: Company) -> None:
    """Beat, and read what the site draws and what limits it, every second."""
    while True:
        try:
            async with rtu(port) as client:
                while True:
                    await client.beat()
                    heed()
                    for model in (DER_AC, LOAD_LIMIT):
                        place = ADDRESSES[model.ids[0]]
                        assert isinstance(
                            await client.read(place, min(MAX_READ, model.length + HEADER)), list
                        )
                    those.rtu_rounds += 1
                    await asyncio.sleep(RTU_PERIOD_S)
        except OSError:  # the agent has not bound its port yet
            await asyncio.sleep(0.2)


async def _scrape(those: Company) -> None:
    while True:
        with contextlib.suppress(OSError):
            page = await asyncio.to_thread(_page, those.metrics_url)
            lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
            those.figures = {name: float(value) for name, _, value in lines}
            those.scrapes += 1
        await asyncio.sleep(SCRAPE_PERIOD_S if those.scrapes else 0.2)


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def collectd_argv(folder: Path, meter_port: int) -> list[str] | None:
    """Return the command of collectd on the same registers; None: it is not installed."""
    command = shutil.which("collectd", path="/usr/sbin:/usr/bin")
    if command is None or not (COLLECTD_PLUGINS / "modbus.so").exists():
        return None
    data, hosts = [], []
    for name, _, unit, model in UNITS:
        points = list(_registers(model))
        data += [DATA.format(name=f"{name}_{point}", base=base, kind=kind) for point, base, kind in points]
        collected = "".join(f'    Collect "{name}_{point}"\n' for point, _, _ in points)
        hosts.append(f'   <Slave {unit}>\n    Instance "{name}"\n{collected}   </Slave>\n')
    config = folder / "collectd.conf"
    config.write_text(
        COLLECTD.format(folder=folder, data="".join(data), slaves="".join(hosts), port=meter_port)
    )
    return [command, "-f", "-C", str(config)]


def collectd_values(folder: Path) -> int:
    """Count the values that collectd has written."""
    files = list((folder / "collectd").rglob("*_*-20*"))
    return sum(len(file.read_text().splitlines()) - 1 for file in files)


def _registers(model: Model) -> Iterator[tuple[str, int, str]]:
    """Return the points that the agent polls, and their scale factors, with address and collectd's type."""
    start = BASE_ADDRESSES[0] + len(SUNS) + COMMON.length + HEADER
    names = list(POLLED[model.name])
    names += sorted({sf for name in names if (sf := model.point(name).sf)})
    for name in names:
        point = model.point(name)
        kind = KINDS.get(point.type, "Uint32" if point.count == 2 else "Uint16")
        yield name, start + point.offset, kind


COLLECTD = """\
BaseDir "{folder}/collectd"
PIDFile "{folder}/collectd.pid"
PluginDir "/usr/lib/collectd"
TypesDB "/usr/share/collectd/types.db"
Interval 1
LoadPlugin csv
LoadPlugin modbus
<Plugin csv>
  DataDir "{folder}/collectd/csv"
</Plugin>
<Plugin modbus>
{data}  <Host "site">
   Address "127.0.0.1"
   Port "{port}"
   Interval 1
{slaves}  </Host>
</Plugin>
"""
DATA = """\
  <Data "{name}">
   RegisterBase {base}
   RegisterType {kind}
   RegisterCmd ReadHolding
   Type gauge
   Instance "{name}"
  </Data>
"""
