"""URLs of Modbus devices: what they mean, and what is wrong with one."""

import pytest

from agent.cli.address import Address, parse_address, parse_units
from sterna.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("tcp://10.0.0.1", Address(kind="tcp", host="10.0.0.1", port=502)),
        ("tcp://meter.local:1502?unit=3", Address(kind="tcp", host="meter.local", port=1502, units=(3,))),
        ("tcp://[fd00::1]:503", Address(kind="tcp", host="fd00::1", port=503)),
        ("tls://roof", Address(kind="tls", host="roof", port=802)),
        ("rtutcp://gw?unit=1-3,7", Address(kind="rtu_over_tcp", host="gw", port=502, units=(1, 2, 3, 7))),
        ("rtu:///dev/ttyUSB0", Address(kind="serial", device="/dev/ttyUSB0")),
        (
            "rtu:///dev/ttyUSB0?baud=19200&parity=E&stopbits=2&unit=5",
            Address(
                kind="serial", device="/dev/ttyUSB0", baudrate=19200, parity="even", stopbits=2, units=(5,)
            ),
        ),
    ],
)
def test_good(url: str, address: Address) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("10.0.0.1:502", "expected tcp://, tls://, rtutcp://, rtu://"),
        ("http://10.0.0.1", "expected tcp://"),
        ("tcp://", "no host"),
        ("tcp://h:99999", "port: "),
        ("tcp://h/path", "nothing but host"),
        ("tcp://me@h", "nothing but host"),
        ("tcp://h?baud=9600", "unknown option baud; one of unit"),
        ("tcp://h?unit=248", "unit: expected 0 to 247, got 248"),
        ("tcp://h?unit=", "unit: expected 0 to 247, got nothing"),
        ("tcp://h?unit=5-3", "unit: expected 5 to 247, got 3"),
        ("rtu://dev/ttyUSB0", "expected a device, as in rtu:///dev/ttyUSB0"),
        ("rtu:///dev/x?parity=mark", "parity: expected N, E or O, got mark"),
        ("rtu:///dev/x?baud=fast", "baud: expected 50 to 4000000, got fast"),
        ("rtu:///dev/x?stopbits=3", "stopbits: expected 1 to 2"),
        ("rtu:///dev/x?host=h", "unknown option host"),
    ],
)
def test_faults_name_the_part(url: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_address(url)
    assert fault in str(refused.value)


def test_units_are_asked_once() -> None:
    assert parse_units("3,1-3,3") == (3, 1, 2)
