"""``[metrics]``: loopback, or mutual TLS."""

import pytest

from agent.config import AgentConfig
from sterna.config import parse
from sterna.errors import ConfigError

BASE = {"fleet": "f", "site": "s", "state_dir": "state", "grid": {"operator": "none"}}
FILES = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}


def config(**metrics: object) -> AgentConfig:
    return parse(BASE | {"metrics": metrics}, AgentConfig, name="agent.toml")


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({}, ("127.0.0.1", 9464)),
        ({"listen": "[::1]:0"}, ("::1", 0)),
        ({"listen": "192.0.2.10:9464", "tls": FILES}, ("192.0.2.10", 9464)),
    ],
)
def test_where_it_listens(given: dict[str, object], address: tuple[str, int]) -> None:
    table = config(**given).metrics
    assert table is not None
    assert table.address == address


def test_without_the_table_there_is_no_port() -> None:
    assert parse(BASE, AgentConfig, name="agent.toml").metrics is None


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"listen": "0.0.0.0:9464"}, "metrics.listen: expected ADDRESS:PORT of one interface, no wildcard"),
        ({"listen": "9464"}, "metrics.listen: expected ADDRESS:PORT"),
        ({"listen": "127.0.0.1:99999"}, "metrics.listen: expected ADDRESS:PORT"),
        ({"listen": "192.0.2.10:9464"}, "metrics.tls: plaintext is for loopback only, not for 192.0.2.10"),
        ({"port": 9464}, "metrics.port"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config(**given)
    assert fault in str(raised.value)
