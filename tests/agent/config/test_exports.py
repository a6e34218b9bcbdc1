"""What holds of the export while an operator is silent: who may be silent, and what keeps it."""

from typing import Any

import pytest

from agent.config import AgentConfig
from sterna.config import parse
from sterna.errors import ConfigError
from tests.agent.config.test_surplus import BASE, PLANT

MQTT: dict[str, Any] = {"host": "127.0.0.1", "insecure": True, "failsafe_export_w": 500.0}
OPENADR: dict[str, Any] = {"url": "http://127.0.0.1:1/", "failsafe_export_w": 500.0}
BOTH: dict[str, Any] = {"operator": "dso", "mqtt": MQTT, "openadr": OPENADR}
NEGATIVE = {"failsafe_export_w": -1.0}


def read(grid: dict[str, Any], **more: Any) -> AgentConfig:
    return parse(BASE | PLANT | {"grid": grid} | more, AgentConfig, name="agent.toml")


def test_each_link_has_its_own() -> None:
    grid = read(BOTH).grid
    assert grid.mqtt is not None and grid.openadr is not None
    assert (grid.mqtt.failsafe_export_w, grid.openadr.failsafe_export_w) == (500.0, 500.0)


@pytest.mark.parametrize(
    ("grid", "more", "fault"),
    [
        ({"mqtt": MQTT | NEGATIVE}, {}, "grid.mqtt.failsafe_export_w: expected zero or more, got -1"),
        (
            {"openadr": OPENADR | NEGATIVE},
            {},
            "grid.openadr.failsafe_export_w: expected zero or more, got -1",
        ),
        ({"operator": "none"}, {}, "grid.mqtt.failsafe_export_w: nobody's silence counts"),
        ({}, {"setpoints": []}, "grid.mqtt.failsafe_export_w: nothing obeys it"),
        ({}, {"setpoints": []}, "grid.openadr.failsafe_export_w: nothing obeys it"),
    ],
)
def test_what_nobody_could_keep_is_named(grid: dict[str, Any], more: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(BOTH | grid, **more)
    assert fault in str(refused.value)


def test_an_operator_over_mqtt_may_curtail_what_counts_as_surplus() -> None:
    made = read({"operator": "dso", "mqtt": MQTT}, surplus={"curtailed_w": 1.0})
    assert made.surplus is not None
