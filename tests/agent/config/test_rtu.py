"""``[grid.modbus]`` and ``[grid.relay]``: what is wrong is named, all of it."""

import pytest

from agent.build.sources import operators
from agent.config import AgentConfig
from sterna.config import parse
from sterna.errors import ConfigError

BASE = {"fleet": "f", "site": "s", "state_dir": "state"}
RTU = {"listen": "127.0.0.1:502", "clients": ["127.0.0.1"]}
GPIO = {"name": "w1", "limit_w": 4200.0, "line": 17}


def config(**grid: object) -> AgentConfig:
    return parse(BASE | {"grid": {"operator": "none"} | grid}, AgentConfig, name="agent.toml")


@pytest.mark.parametrize(
    ("listen", "address"),
    [("192.0.2.10:502", ("192.0.2.10", 502)), ("[2001:db8::1]:802", ("2001:db8::1", 802))],
)
def test_where_it_listens(listen: str, address: tuple[str, int]) -> None:
    table = config(modbus=RTU | {"listen": listen}).grid.modbus
    assert table is not None
    assert table.address == address


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"listen": "0.0.0.0:502"},
            "grid.modbus.listen: expected ADDRESS:PORT of one interface, no wildcard",
        ),
        ({"listen": "[::]:502"}, "grid.modbus.listen"),
        ({"listen": "site.example:502"}, "grid.modbus.listen"),
        ({"listen": "127.0.0.1"}, "grid.modbus.listen"),
        ({"listen": "127.0.0.1:70000"}, "grid.modbus.listen"),
        ({"clients": []}, "grid.modbus.clients: nobody may connect"),
        ({"clients": ["192.0.2.1/24"]}, "grid.modbus.clients: 192.0.2.1/24 has host bits set"),
        ({"writers": ["scada"]}, "grid.modbus.writers: 'scada'"),
        (
            {"writers": ["127.0.0.1"], "writer_roles": [], "tls": {"ca": "a", "cert": "b", "key": "c"}},
            "grid.modbus.writer_roles",
        ),
        ({"unit_id": 256}, "grid.modbus.unit_id"),
        ({"idle_s": 5.0}, "grid.modbus.idle_s: heartbeats may be 60 s apart"),
        ({"rated_import_w": 0.0}, "grid.modbus.rated_import_w"),
        ({"phases": 2}, "grid.modbus.phases"),
        (
            {"failsafe_export_w": -1.0, "writers": ["127.0.0.1"]},
            "grid.modbus.failsafe_export_w: expected zero or more, got -1",
        ),
        ({"failsafe_export_w": 1.0}, "grid.modbus.failsafe_export_w: nobody may write"),
        (
            {"failsafe_export_w": 1.0, "writers": ["127.0.0.1"]},
            'grid.modbus.failsafe_export_w: nothing obeys it: it needs [[setpoints]] rule = "export-limit"',
        ),
        ({"port": 502}, "grid.modbus.port: unknown key"),
    ],
)
def test_faults_of_the_server(change: dict, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(modbus=RTU | change)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"contacts": []}, "grid.relay.contacts: expected 1 to 4, got 0"),
        ({"contacts": [GPIO | {"name": f"w{n}"} for n in range(5)]}, "expected 1 to 4, got 5"),
        ({"contacts": [GPIO, GPIO]}, 'two contacts are named "w1"'),
        ({"contacts": [GPIO | {"limit_w": -1.0}]}, "grid.relay.contacts[0].limit_w: expected zero or more"),
        ({"contacts": [{"name": "w1", "limit_w": 1.0}]}, 'contacts[0].line: missing for kind = "gpio"'),
        ({"contacts": [GPIO | {"kind": "file"}]}, 'contacts[0].path: missing for kind = "file"'),
        ({"contacts": [GPIO | {"kind": "file", "path": "p"}]}, 'contacts[0].line: not for kind = "file"'),
        ({"contacts": [GPIO | {"complement_path": "p"}]}, "contacts[0].complement_path: not for"),
        ({"contacts": [GPIO | {"complement_line": 17}]}, "contacts[0].complement_line: is the same line"),
        ({"contacts": [GPIO | {"line": -1}]}, "contacts[0].line: expected zero or more"),
        ({"contacts": [GPIO | {"closed_level": 2}]}, "contacts[0].closed_level"),
        ({"contacts": [GPIO], "debounce_s": 11.0}, "grid.relay.debounce_s"),
        ({"contacts": [GPIO], "poll_period_s": 0.0}, "grid.relay.poll_period_s"),
    ],
)
def test_faults_of_the_relay(change: dict, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(relay=change)
    assert fault in str(caught.value)


def test_a_contact_that_asks_for_what_the_site_cannot_reach() -> None:
    with pytest.raises(ConfigError, match='"w1" asks for less than minimum_limit_w'):
        config(minimum_limit_w=5000.0, relay={"contacts": [GPIO]})


def test_who_owes_heartbeats() -> None:
    assert operators(config()) == ()
    assert operators(config(modbus=RTU)) == ()
    assert operators(config(modbus=RTU | {"writers": ["127.0.0.1"]}, relay={"contacts": [GPIO]})) == (
        "modbus",
        "relay",
    )
