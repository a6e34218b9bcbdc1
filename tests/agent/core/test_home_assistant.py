"""What Home Assistant is told: documents that fit the figures, and figures in which missing is null."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from agent.core.home_assistant import ENTITIES, Announcement, figures
from agent.model.limits import Envelope, GridState, Limit
from agent.model.readings import Quality, SitePower

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
POWER = SitePower(
    measured_at=NOW,
    quality=Quality.ESTIMATED,
    grid_w=-1200.04,
    generation_w=3000.0,
    available_w=None,
    battery_w=None,
    compute_w=0.0,
    site_load_w=1800.0,
    surplus_w=1200.0,
)
LIMIT = Limit(
    source="mqtt",
    command_id="c",
    limit_w=4200.0,
    start_at=NOW,
    end_at=NOW + timedelta(hours=1),
    ramp_s=0.0,
    reason="",
)


def announcement(site: str = "north") -> Announcement:
    return Announcement(site=site, version="1.0", prefix="homeassistant", period_s=10.0)


def test_every_entity_shows_a_figure_and_every_figure_has_an_entity() -> None:
    told = figures(
        Envelope(state=GridState.INIT, limits=()), None, breaches=0, export_breaches=0, unachievable=False
    )
    assert set(told) == {entity.key for entity in ENTITIES}
    for topic, document in announcement().documents().items():
        shown = re.fullmatch(r"\{\{ value_json\.(\w+) \}\}", json.loads(document)["value_template"])
        assert shown is not None
        assert topic.split("/")[3] == shown[1]


def test_a_document() -> None:
    document = json.loads(announcement().documents()["homeassistant/sensor/sterna_north/surplus_w/config"])
    device = document.pop("device")
    assert device["identifiers"] == ["sterna_north"]
    assert document == {
        "name": "Surplus",
        "unique_id": "sterna_north_surplus_w",
        "state_topic": "sterna/north/state",
        "value_template": "{{ value_json.surplus_w }}",
        "availability_topic": "sterna/north/availability",
        "expire_after": 30,
        "device_class": "power",
        "unit_of_measurement": "W",
        "state_class": "measurement",
        "origin": {"name": "sterna-agent", "sw_version": "1.0"},
    }


@pytest.mark.parametrize("site", ["north", "süd.1", "a b"])
def test_ids_have_only_letters_that_home_assistant_takes(site: str) -> None:
    for topic, document in announcement(site).documents().items():
        assert re.fullmatch(r"[a-z_]+/[a-z_]+/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+/config", topic)
        assert json.loads(document)["state_topic"] == f"sterna/{site}/state"


def test_ids_are_unique() -> None:
    ids = [json.loads(document)["unique_id"] for document in announcement().documents().values()]
    assert len(set(ids)) == len(ids) == len(ENTITIES)


def test_figures_of_a_site_under_a_limit() -> None:
    envelope = Envelope(state=GridState.LIMITED, limits=(LIMIT,))
    assert figures(envelope, POWER, breaches=2, export_breaches=1, unachievable=True) == {
        "grid_w": -1200.0,
        "generation_w": 3000.0,
        "battery_w": None,
        "compute_w": 0.0,
        "load_w": 1800.0,
        "surplus_w": 1200.0,
        "limit_w": 4200.0,
        "limit_source": "mqtt",
        "limit_until": "2026-11-23T13:00:00+00:00",
        "state": "LIMITED",
        "quality": "ESTIMATED",
        "breaches": 2,
        "export_breaches": 1,
        "unachievable": True,
    }


def test_what_is_unknown_is_null_and_never_zero() -> None:
    told = figures(
        Envelope(state=GridState.INIT, limits=()), None, breaches=0, export_breaches=0, unachievable=False
    )
    assert {key for key, value in told.items() if value is None} == {
        "grid_w",
        "generation_w",
        "battery_w",
        "compute_w",
        "load_w",
        "surplus_w",
        "limit_w",
        "limit_source",
        "limit_until",
    }
    assert told["quality"] == "BAD"
