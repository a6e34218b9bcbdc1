"""``[surplus]``: what counts beyond the meters, and what is wrong with it."""

from typing import Any

import pytest

from agent.config import AgentConfig
from sterna.config import parse
from sterna.errors import ConfigError

BASE: dict[str, Any] = {"fleet": "f", "site": "s", "state_dir": "state"}
GRID = {"operator": "none", "failsafe_import_w": 4000.0, "openadr": {"url": "http://127.0.0.1:1/"}}


def test_it_is_taken() -> None:
    surplus = {"price_below_per_kwh": 0.0, "price_w": 5000.0, "curtailed_w": 3000.0}
    made = parse(BASE | {"grid": GRID, "surplus": surplus}, AgentConfig, name="agent.toml")
    assert made.surplus is not None
    assert made.surplus.price_w == 5000.0


@pytest.mark.parametrize(
    ("surplus", "fault"),
    [
        ({}, "surplus.price_below_per_kwh: missing"),
        ({"price_below_per_kwh": 0.0}, "surplus.price_w: missing"),
        ({"price_w": 1.0, "curtailed_w": 1.0}, "surplus.price_below_per_kwh: missing"),
        ({"curtailed_w": 0.0}, "surplus.curtailed_w: expected more than zero"),
    ],
)
def test_what_is_wrong_is_named(surplus: dict[str, float], fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(BASE | {"grid": GRID, "surplus": surplus}, AgentConfig, name="agent.toml")
    assert fault in str(refused.value)


RTU: dict[str, Any] = {"listen": "127.0.0.1:502", "clients": ["127.0.0.1"], "writers": ["127.0.0.1"]}
PLANT: dict[str, Any] = {
    "meters": [
        {"name": "plant", "role": "generation", "host": "h", "writable": ["generation-limit"]},
        {"name": "grid", "role": "grid", "host": "h", "unit_id": 2},
    ],
    "setpoints": [{"meter": "plant", "rule": "export-limit", "rated_w": 9.0, "export_limit_w": 5.0}],
}


@pytest.mark.parametrize(
    ("surplus", "more", "fault"),
    [
        (
            {"price_below_per_kwh": 0.0, "price_w": 1.0},
            {},
            "surplus.price_below_per_kwh: nobody tells prices",
        ),
        ({"curtailed_w": 1.0}, {}, "surplus.curtailed_w: nobody limits the export"),
        ({"curtailed_w": 1.0}, {"grid": {"operator": "none", "modbus": RTU}}, "nobody limits the export"),
    ],
)
def test_somebody_must_tell_it(surplus: dict[str, float], more: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(
            BASE | {"grid": {"operator": "none"}, "surplus": surplus} | more, AgentConfig, name="agent.toml"
        )
    assert fault in str(refused.value)


def test_an_rtu_that_limits_the_export_is_enough() -> None:
    grid = {"operator": "none", "modbus": RTU}
    made = parse(
        BASE | PLANT | {"grid": grid, "surplus": {"curtailed_w": 1.0}}, AgentConfig, name="agent.toml"
    )
    assert made.surplus is not None
