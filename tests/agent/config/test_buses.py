"""Lines, meters and set-points in agent.toml: what is good, and every fault by its table and key."""

import tomllib
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.config.buses import BusTable
from sterna.config import parse
from sterna.errors import ConfigError

HEAD = """
fleet = "f"
site = "s"
state_dir = "state"
grid = { operator = "none" }
"""
TLS_FILES = 'tls = { ca = "ca.pem", cert = "c.pem", key = "k.pem" }'
PLANT = """
[[meters]]
name = "plant"
role = "generation"
host = "10.0.0.1"
writable = ["generation-limit"]
[[meters]]
name = "grid"
role = "grid"
host = "10.0.0.2"
[[meters]]
name = "battery"
role = "battery"
host = "10.0.0.3"
writable = ["storage-rates", "battery-connection"]
"""
LIMIT = '[[setpoints]]\nmeter = "plant"\nrule = "export-limit"\nrated_w = 1e4\nexport_limit_w = 5e3\n'


def read(text: str) -> AgentConfig:
    return parse(tomllib.loads(HEAD + text), AgentConfig, name="agent.toml")


def bus(text: str, meter: str = "") -> str:
    return f'[[buses]]\nname = "b"\n{text}\n[[meters]]\nname = "m"\nrole = "grid"\nbus = "b"\n{meter}'


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('kind = "tcp"\nhost = "h"', ("h", 502)),
        ('kind = "tcp"\nhost = "h"\nport = 1502\nmin_gap_s = 0.05', ("h", 1502)),
        (f'kind = "tls"\nhost = "h"\n{TLS_FILES}', ("h", 802)),
        ('kind = "rtu_over_tcp"\nhost = "h"', ("h", 502)),
        ('kind = "serial"\ndevice = "/dev/ttyUSB0"\nparity = "even"\nstopbits = 2', ("/dev/ttyUSB0", 0)),
    ],
)
def test_lines(text: str, place: tuple[str, int]) -> None:
    config = read(bus(text))
    assert config.buses[0].place == place
    assert config.meters[0].bus == "b"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (bus('kind = "tcp"'), ["buses[0].host: missing"]),
        (bus('kind = "tls"\nhost = "h"'), ["buses[0].tls: [buses.tls]"]),
        (bus(f'kind = "tcp"\nhost = "h"\n{TLS_FILES}'), ["buses[0].tls: [buses.tls]"]),
        (
            bus('kind = "serial"\nhost = "h"\nport = 5'),
            ["buses[0].device: missing", "buses[0].host: a serial", "buses[0].port: a serial"],
        ),
        (bus('kind = "tcp"\nhost = "h"\ndevice = "/dev/x"'), ["buses[0].device: is for serial lines"]),
        (bus('kind = "serial"\ndevice = "/dev/x"\nparity = "mark"'), ["buses[0].parity: invalid enum"]),
        (bus('kind = "serial"\ndevice = "/dev/x"\nstopbits = 3'), ["buses[0].stopbits: invalid enum"]),
        (
            bus('kind = "tcp"\nhost = "h"\nport = 70000\ntimeout_s = 0\nmin_gap_s = -1\nbaudrate = 0'),
            ["buses[0].port: ", "buses[0].baudrate: ", "buses[0].timeout_s: ", "buses[0].min_gap_s: "],
        ),
        (bus('kind = "tcp"\nhost = "h"', 'host = "h"'), ["meters[0].bus: says already"]),
        (
            bus('kind = "tcp"\nhost = "h"', 'kind = "fake"\nwritable = ["active-power"]'),
            ["meters[0].writable: "],
        ),
        ('[[meters]]\nname = "m"\nrole = "grid"\nbus = "b"', ['meters[0].bus: no bus is named "b"']),
        (
            '[[meters]]\nname = "m"\nrole = "grid"',
            ["meters[0].host: missing for a sunspec meter; or name its bus"],
        ),
        (
            bus('kind = "tcp"\nhost = "h"') + '\n[[buses]]\nname = "b"\nkind = "tcp"\nhost = "i"',
            ['buses: two buses are named "b"'],
        ),
        (
            bus('kind = "tcp"\nhost = "h"') + '\n[[buses]]\nname = "c"\nkind = "rtu_over_tcp"\nhost = "h"',
            ['buses[1]: leads where bus "b" leads'],
        ),
        (
            bus('kind = "tcp"\nhost = "h"') + '\n[[meters]]\nname = "n"\nrole = "load"\nhost = "h"',
            ['meters[1].host: bus "b" leads there'],
        ),
        (
            '[[meters]]\nname = "m"\nrole = "grid"\nhost = "h"\n'
            '[[meters]]\nname = "n"\nrole = "load"\nhost = "h"\nrtu_over_tcp = true',
            ["meters[1].rtu_over_tcp: another meter at h:502 says otherwise"],
        ),
        (
            LIMIT,
            ['setpoints[0].meter: no meter is named "plant"', "setpoints[0]: needs a meter of the role grid"],
        ),
        (PLANT + LIMIT + LIMIT, ['setpoints[1]: "plant" has two set-points']),
        (
            PLANT + LIMIT.replace('"plant"', '"grid"'),
            ['"grid" lacks writable', "has the role grid; this rule"],
        ),
        (
            PLANT + LIMIT + "reversion_s = 5\nrise_w_per_s = 0\nband_w = -1",
            ["setpoints[0].reversion_s", "setpoints[0].rise_w_per_s", "setpoints[0].band_w"],
        ),
        (
            PLANT + '[[setpoints]]\nmeter = "battery"\nrule = "charge-surplus"\ncontrol = "storage-rates"\n'
            "max_charge_w = 100.0",
            ["setpoints[0].min_charge_w: 200.0 is more"],
        ),
        (
            PLANT + '[[setpoints]]\nmeter = "battery"\nrule = "fixed"\ncontrol = "battery-connection"\n'
            "values = { SetOp = 3.0 }",
            ["setpoints[0].values.SetOp: expected 1 to 2"],
        ),
        (
            PLANT + '[[setpoints]]\nmeter = "battery"\nrule = "fixed"\ncontrol = "battery-connection"\n'
            "values = { SetOpp = 1.0 }",
            ["setpoints[0].values: battery-connection takes SetOp"],
        ),
        (PLANT + '[[setpoints]]\nmeter = "plant"\nrule = "export"', ["setpoints[0].rule: unknown 'export'"]),
    ],
)
def test_faults_name_table_and_key(text: str, faults: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        read(text)
    lines = str(refused.value).splitlines()
    assert len(lines) == len(faults), lines
    for line, fault in zip(lines, faults, strict=True):
        assert line.startswith("agent.toml: ") and fault in line


def test_a_good_set_point_of_each_rule() -> None:
    config = read(
        PLANT
        + LIMIT
        + """
    [[setpoints]]
    meter = "battery"
    rule = "charge-surplus"
    control = "storage-rates"
    max_charge_w = 4000.0
    [[setpoints]]
    meter = "battery"
    rule = "fixed"
    control = "battery-connection"
    values = { SetOp = 1.0 }
    allow_lasting = true
    """
    )
    assert [table.set_by for table in config.setpoints] == [
        "generation-limit",
        "storage-rates",
        "battery-connection",
    ]


def test_the_default_ports() -> None:
    assert BusTable(name="b", kind="serial", device=Path("/dev/x")).place == ("/dev/x", 0)
