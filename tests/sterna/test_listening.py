import pytest

from sterna.listening import address_fault, host_fault


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("c.example:7400", ""),
        ("10.0.0.1:0", ""),
        ("[fd00::1]:7400", ""),
        ("unix:/run/c.sock", ""),
        ("c.example", "expected host:port"),
        (":7400", "expected host:port"),
        ("fd00::1:7400", "in brackets"),
        ("c:port", "expected a port"),
        ("https://c:1", "expected a host alone"),
        ("c d:1", "has no blanks"),
    ],
)
def test_addresses(address: str, fault: str) -> None:
    said = address_fault(address)
    assert fault in said and bool(fault) is bool(said)


@pytest.mark.parametrize("host", ["10.0.0.1", "meter.local", "fd00::1", "localhost"])
def test_hosts(host: str) -> None:
    assert host_fault(host) == ""
