"""What Home Assistant is told of a site: MQTT discovery documents, and the figures that they point at.

Every document is retained under ``<prefix>/<component>/sterna_<site>/<key>/config``; an empty one takes the
entity away again. The figures are one JSON object under ``sterna/<site>/state``; null shows as unknown there.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.model.limits import Envelope, GridState
from agent.model.readings import Quality, SitePower

ONLINE, OFFLINE = b"online", b"offline"
EXPIRE_PERIODS = 3
_NOT_ID = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity; `about` are the fields of its document that are its own."""

    key: str
    name: str
    about: Mapping[str, object]
    component: str = "sensor"


_POWER = {"device_class": "power", "unit_of_measurement": "W", "state_class": "measurement"}

ENTITIES = (
    Entity("grid_w", "Grid power", _POWER),
    Entity("generation_w", "Generation", _POWER),
    Entity("battery_w", "Battery power", _POWER),
    Entity("compute_w", "Compute power", _POWER),
    Entity("load_w", "Other load", _POWER),
    Entity("surplus_w", "Surplus", _POWER),
    Entity("limit_w", "Import limit", _POWER),
    Entity("limit_source", "Import limit by", {}),
    Entity("limit_until", "Import limit until", {"device_class": "timestamp"}),
    Entity("state", "Grid state", {"device_class": "enum", "options": [state.value for state in GridState]}),
    Entity("quality", "Quality", {"device_class": "enum", "options": [each.value for each in Quality]}),
    Entity("breaches", "Breaches", {"state_class": "total_increasing"}),
    Entity("export_breaches", "Export breaches", {"state_class": "total_increasing"}),
    Entity(
        "unachievable",
        "Limit unachievable",
        {"device_class": "problem", "payload_on": "True", "payload_off": "False"},
        "binary_sensor",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """Everything about one site in Home Assistant.

    Parameters
    ----------
    site, version : str
        Of the agent.
    prefix : str
        Of the discovery topics.
    period_s : float
        How often the figures are told.
    """

    site: str
    version: str
    prefix: str
    period_s: float

    @property
    def node(self) -> str:
        """Return the name that the site has in ids."""
        return "sterna_" + _NOT_ID.sub("_", self.site)

    def topic(self, leaf: str) -> str:
        """Return ``sterna/<site>/<leaf>``."""
        return f"sterna/{self.site}/{leaf}"

    def documents(self) -> dict[str, bytes]:
        """Return every discovery document by its topic."""
        return {self._place(entity): json.dumps(self._document(entity)).encode() for entity in ENTITIES}

    def _place(self, entity: Entity) -> str:
        return f"{self.prefix}/{entity.component}/{self.node}/{entity.key}/config"

    def _document(self, entity: Entity) -> dict[str, object]:
        return {
            "name": entity.name,
            "unique_id": f"{self.node}_{entity.key}",
            "state_topic": self.topic("state"),
            "value_template": f"{{{{ value_json.{entity.key} }}}}",
            "availability_topic": self.topic("availability"),
            "expire_after": round(EXPIRE_PERIODS * self.period_s),
            **entity.about,
            "device": {
                "identifiers": [self.node],
                "name": f"Sterna {self.site}",
                "manufacturer": "Sterna",
                "model": "sterna-agent",
                "sw_version": self.version,
            },
            "origin": {"name": "sterna-agent", "sw_version": self.version},
        }


def figures(
    envelope: Envelope, power: SitePower | None, *, breaches: int, export_breaches: int, unachievable: bool
) -> dict[str, object]:
    """Return the figures that the entities show, by key; None is unknown."""
    binding = envelope.binding
    return {
        "grid_w": None if power is None else _w(power.grid_w),
        "generation_w": None if power is None else _w(power.generation_w),
        "battery_w": None if power is None else _w(power.battery_w),
        "compute_w": None if power is None else _w(power.compute_w),
        "load_w": None if power is None else _w(power.site_load_w),
        "surplus_w": None if power is None else _w(power.surplus_w),
        "limit_w": None if binding is None else _w(binding.limit_w),
        "limit_source": None if binding is None else binding.source,
        "limit_until": None if binding is None else _stamp(binding.end_at),
        "state": envelope.state.value,
        "quality": Quality.BAD.value if power is None else power.quality.value,
        "breaches": breaches,
        "export_breaches": export_breaches,
        "unachievable": unachievable,
    }


def _w(power_w: float | None) -> float | None:
    return None if power_w is None else round(power_w, 1)


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
