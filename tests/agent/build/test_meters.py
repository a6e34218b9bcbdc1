"""Lines as configured, each to a peer that speaks its framing: TCP, TLS, RTU over TCP, a serial line."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.build.meters import Lines, declared_batteries, make_meter
from agent.config import AgentConfig
from agent.modbus import NotConnectedError
from agent.modbus_server import RegisterDevice, RegisterServer
from agent.model.readings import DeclaredBattery, Quality
from sterna.clock import SystemClock
from sterna.config import parse
from sterna.errors import ConfigError, PermanentError, TransientError
from sterna.identity import Role
from sterna.tls import mutual_tls
from tests.agent.devices.obedient import HOST, ObedientSite
from tests.agent.devices.test_bus import line_to
from tests.conftest import Fleet

HEAD = 'fleet = "f"\nsite = "s"\nstate_dir = "state"\ngrid = { operator = "none" }\n'
METER = '[[meters]]\nname = "grid"\nrole = "grid"\nbus = "b"\nunit_id = 2\n'


def lines_of(text: str, base_dir: Path = Path()) -> Lines:
    config = parse(tomllib.loads(HEAD + text), AgentConfig, name="agent.toml")
    return Lines(config=config, base_dir=base_dir, clock=SystemClock())


async def polled_w(lines: Lines) -> float | None:
    table = lines.config.meters[0]
    try:
        reading = await make_meter(table, lines.of(table), base_dir=lines.base_dir, clock=lines.clock).poll()
    finally:
        lines.close()
    assert reading.quality is Quality.OK
    return reading.active_power_w


def test_what_is_declared_of_batteries() -> None:
    meter = '[[meters]]\nname = "b"\nrole = "battery"\nkind = "fake"\n'
    declared = "[meters.battery]\ncapacity_wh = 8000.0\nreserve_frac = 0.2\nserves_site = true\n"
    config = lines_of(meter + declared).config
    assert declared_batteries(config.meters) == {
        "b": DeclaredBattery(capacity_wh=8000.0, reserve_frac=0.2, serves_site=True)
    }
    assert declared_batteries(lines_of(meter).config.meters) == {}
    with pytest.raises(ConfigError, match=r"meters\[0\].battery: the meter has the role grid"):
        lines_of((meter + declared).replace('"battery"', '"grid"'))


async def test_modbus_tcp() -> None:
    site = ObedientSite()
    async with site.server() as server:
        bus = f'[[buses]]\nname = "b"\nkind = "tcp"\nhost = "{HOST}"\nport = {server.port}\n'
        assert await polled_w(lines_of(bus + METER)) == site.grid_w


@pytest.mark.parametrize("signed_by_others", [False, True])
async def test_modbus_tls(fleet: Fleet, other_fleet: Fleet, signed_by_others: bool) -> None:
    site = ObedientSite()
    served = fleet.files(Role.SITE, "device", (HOST,))
    ours = (other_fleet if signed_by_others else fleet).files(Role.SITE, "agent")
    server = site.server()
    server.tls = mutual_tls(
        "modbus tls",
        ca_file=served.ca_file,
        cert_file=served.cert_file,
        key_file=served.key_file,
        server=True,
    )
    async with server:
        bus = (
            f'[[buses]]\nname = "b"\nkind = "tls"\nhost = "{HOST}"\nport = {server.port}\n'
            f'tls = {{ ca = "{ours.ca_file}", cert = "{ours.cert_file}", key = "{ours.key_file}" }}\n'
        )
        if signed_by_others:
            with pytest.raises(TransientError):
                await polled_w(lines_of(bus + METER))
        else:
            assert await polled_w(lines_of(bus + METER)) == site.grid_w


@pytest.mark.parametrize("serial", [False, True], ids=["over tcp", "serial"])
async def test_rtu(serial: bool) -> None:
    site = ObedientSite()
    server = site.server()
    server.rtu, server.outgoing = True, None
    async with server, line_to(server.port) as device:
        place = f'device = "{device}"\nbaudrate = 38400' if serial else f'host = "{HOST}"'
        kind = "serial" if serial else "rtu_over_tcp"
        port = "" if serial else f"port = {server.port}\n"
        bus = f'[[buses]]\nname = "b"\nkind = "{kind}"\n{place}\n{port}min_gap_s = 0.002\n'
        assert await polled_w(lines_of(bus + METER)) == site.grid_w


async def test_a_serial_line_that_cannot_be_set_as_wanted_says_so() -> None:
    async with RegisterServer(HOST, 0, [], rtu=True) as server, line_to(server.port) as device:
        bus = f'[[buses]]\nname = "b"\nkind = "serial"\ndevice = "{device}"\nparity = "even"\n'
        with pytest.raises(
            NotConnectedError, match=r"cannot connect: .*Invalid argument"
        ):  # a pty has no parity
            await polled_w(lines_of(bus + METER))


async def test_meters_of_one_line_share_its_one_connection() -> None:
    text = '[[buses]]\nname = "b"\nkind = "tcp"\nhost = "h"\n' + METER + METER.replace('"grid"', '"load"')
    lines = lines_of(text)
    assert lines.of(lines.config.meters[0]) is lines.of(lines.config.meters[1])
    inline = lines_of(
        '[[meters]]\nname = "a"\nrole = "grid"\nhost = "h"\n[[meters]]\nname = "b"\nrole = "load"\nhost = "h"'
    )
    assert inline.of(inline.config.meters[0]) is inline.of(inline.config.meters[1])


async def test_only_the_units_that_are_named_may_be_written_to() -> None:
    asked: list[int] = []

    async def read(address: int, count: int) -> Sequence[int]:
        return [0] * count

    async def write(address: int, values: Sequence[int]) -> None:
        asked.append(address)

    devices = [RegisterDevice(unit=unit, spans={0: 10}, read=read, write=write) for unit in (1, 2)]
    async with RegisterServer(HOST, 0, devices) as server:
        meter = '[[meters]]\nname = "m{0}"\nrole = "grid"\nhost = "{1}"\nport = {2}\nunit_id = {0}\n'
        text = (
            meter.format(1, HOST, server.port)
            + 'writable = ["active-power"]\n'
            + meter.format(2, HOST, server.port)
        )
        lines = lines_of(text)
        bus = lines.of(lines.config.meters[1])
        with pytest.raises(PermanentError, match="unit 2: is read-only"):
            bus.allow_writes(2, [range(10)])
        with pytest.raises(PermanentError):
            await bus.write_registers(1, 0, [1])
        bus.allow_writes(1, [range(2)])
        await bus.write_registers(1, 0, [1])
        with pytest.raises(PermanentError):
            await bus.write_registers(2, 0, [1])
        lines.close()
    assert asked == [0]


def test_certificates_that_cannot_be_used_name_their_bus(tmp_path: Path) -> None:
    bus = '[[buses]]\nname = "roof"\nkind = "tls"\nhost = "h"\ntls = { ca = "a", cert = "b", key = "c" }\n'
    lines = lines_of(bus + METER.replace('"b"', '"roof"'), tmp_path)
    with pytest.raises(ConfigError, match=r'agent.toml: buses "roof": tls: '):
        lines.of(lines.config.meters[0])
