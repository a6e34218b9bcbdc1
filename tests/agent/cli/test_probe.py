"""`sterna-agent probe` at real sockets: what it finds, and that its output is a configuration."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.cli.check_config import checked
from agent.devices.meters_tables import shipped_table
from agent.main import main
from agent.modbus_server import RegisterDevice, RegisterServer
from agent.model.registers import encode_value
from sterna.identity import Role
from sterna.tls import mutual_tls
from tests.agent.devices.obedient import HOST, ObedientSite
from tests.agent.devices.test_bus import line_to
from tests.conftest import Fleet

HEAD = 'fleet = "f"\nsite = "s"\nstate_dir = "state"\ngrid = { operator = "none" }\n'
FIGURES = {"active_power_w": 1234.0, "frequency_hz": 50.02, "power_factor": 1.0}
FIGURES |= {f"phase{n}_voltage_v": 230.0 + n for n in (1, 2, 3)}


def table_device(unit: int, name: str = "eastron-sdm630") -> RegisterDevice:
    table = shipped_table(name)
    registers = dict.fromkeys(range(400), 0)
    for register in table.registers:
        for place, word in enumerate(encode_value(table, register, FIGURES.get(register.name, 5.0))):
            registers[register.address + place] = word

    async def read(address: int, count: int) -> Sequence[int]:
        return [registers[address + n] for n in range(count)]

    return RegisterDevice(unit=unit, spans={0: 400}, read=read)


def dumb_device(unit: int) -> RegisterDevice:
    async def read(address: int, count: int) -> Sequence[int]:
        return [7] * count

    return RegisterDevice(unit=unit, spans={0: 4}, read=read)


async def probed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = await asyncio.to_thread(main, ["probe", *arguments])
    return code, capsys.readouterr().out


def accepted(tmp_path: Path, printed: str) -> list[tuple[str, str, int]]:
    """Paste what was printed below a bare configuration; return its meters."""
    path = tmp_path / "agent.toml"
    path.write_text(HEAD + printed)
    return [(meter.role, meter.kind, meter.unit_id) for meter in checked(path).meters]


async def test_it_prints_a_configuration_that_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = ObedientSite()
    server = site.server()
    server.devices = [*server.devices, table_device(7), dumb_device(8)]
    async with server:
        url = f"tcp://{HOST}:{server.port}"
        code, printed = await probed(capsys, url, "--units", "1,2,7,8,9", "--timeout-s", "0.3")
    assert code == 0
    assert "# unit 1: SunSpec device Maker; models 1, 103, 704" in printed
    assert "# reads 15000 W, 50.00 Hz" in printed
    assert "# unit 7: Eastron SDM630" in printed and "# reads 1234 W, 50.02 Hz" in printed
    assert "# less likely: eastron-sdm120" in printed
    assert "# unit 8: answers, but speaks no SunSpec and none of the tables fits" in printed
    assert accepted(tmp_path, printed) == [
        ("generation", "sunspec", 1),
        ("grid", "sunspec", 2),
        ("grid", "registers", 7),
    ]
    assert {function for unit, function in site.functions if unit != 8} <= {3, 4, 0x83, 0x84}, "it only reads"


@pytest.mark.parametrize(
    "name", ["eastron-sdm120", "janitza-b23", "schneider-iem3000", "carlo-gavazzi-em340"]
)
async def test_a_table_is_found_first_on_its_own_device(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = shipped_table(name)
    end = max(register.end for register in table.registers)
    registers = dict.fromkeys(range(end), 0)
    for register in table.registers:
        for place, word in enumerate(encode_value(table, register, FIGURES.get(register.name, 1.0))):
            registers[register.address + place] = word

    async def read(address: int, count: int) -> Sequence[int]:
        return [registers[address + n] for n in range(count)]

    async with RegisterServer(HOST, 0, [RegisterDevice(unit=1, spans={0: end}, read=read)]) as server:
        code, printed = await probed(capsys, f"tcp://{HOST}:{server.port}?unit=1", "--timeout-s", "0.3")
    assert code == 0 and f'table = "{name}"' in printed


async def test_tls_and_rtu_print_their_bus(
    tmp_path: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    site = ObedientSite()
    files = fleet.files(Role.SITE, "probed", (HOST,))
    server = site.server()
    server.tls = mutual_tls(
        "modbus tls", ca_file=files.ca_file, cert_file=files.cert_file, key_file=files.key_file, server=True
    )
    async with server:
        pem = ["--ca", str(files.ca_file), "--cert", str(files.cert_file), "--key", str(files.key_file)]
        code, printed = await probed(capsys, f"tls://{HOST}:{server.port}?unit=2", *pem)
        assert code == 0 and 'kind = "tls"' in printed
        assert accepted(tmp_path, printed) == [("grid", "sunspec", 2)]
        assert await asyncio.to_thread(main, ["probe", f"tls://{HOST}:{server.port}"]) == 2
        assert "needs --ca, --cert and --key" in capsys.readouterr().err
    async with (
        RegisterServer(HOST, 0, [table_device(1)], rtu=True) as gateway,
        line_to(gateway.port) as device,
    ):
        for url in (f"rtutcp://{HOST}:{gateway.port}?unit=1", f"rtu://{device}?baud=38400&unit=1"):
            code, printed = await probed(capsys, url, "--timeout-s", "0.3")
            assert code == 0 and "[[buses]]" in printed
            assert accepted(tmp_path, printed) == [("grid", "registers", 1)]


async def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    async with RegisterServer(HOST, 0, [table_device(1)]) as server:
        port = server.port
        code, printed = await probed(capsys, f"tcp://{HOST}:{port}?unit=9", "--timeout-s", "0.1")
        assert code == 1 and printed.startswith(f"# modbus {HOST}:{port}: nothing answers; unit ids tried: 9")
    code, printed = await probed(capsys, f"tcp://{HOST}:{port}?unit=1", "--timeout-s", "0.1")
    assert code == 1 and "cannot connect: connection refused" in printed
    code, printed = await probed(capsys, "tcp://nobody.invalid", "--timeout-s", "5")
    assert code == 1 and re.search("cannot connect: .*(name|resol)", printed)


@pytest.mark.parametrize(
    "arguments", [["tcp://"], ["tcp://h", "--units", "x"], ["tcp://h", "--timeout-s", "0"]]
)
def test_bad_arguments_are_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", *arguments]) == 2
    assert capsys.readouterr().err.startswith("sterna-agent: ")
