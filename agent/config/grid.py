"""The grid operator: who may limit the site, and what holds when nobody speaks."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from agent.config.mqtt import MqttTable
from agent.config.relay import RelayTable
from agent.config.rtu import RtuTable


class OpenAdrTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[grid.openadr]``: the site as a VEN of an OpenADR 3.1 VTN (docs/openadr.md)."""

    url: str
    """Base URL of the VTN; https, or loopback."""
    client_id: str = ""
    """OAuth client; empty: the VTN asks for none."""
    client_secret_file: Path | None = None
    """Its first line is the client's secret."""
    ven_name: str = ""
    """Default: ``sterna-<site>``."""
    resource_name: str = ""
    """Default: the site."""
    programs: tuple[str, ...] = ()
    """Names or ids of the programs to follow; empty: all that the VTN shows us."""
    poll_period_s: float = 30.0
    """Between two polls, which are heartbeats: 1 to 60."""
    notifier: bool = True
    """Listen to the VTN's MQTT notifications where it has them; polling goes on."""
    subscription_w: float | None = None
    """Import that holds when the VTN's schedule has run out."""
    level_limits_w: dict[str, float] = {}
    """Import limit per SIMPLE level, e.g. {"1" = 8000.0, "2" = 6000.0, "3" = 4200.0}."""
    reference_w: float | None = None
    """What relative set-points count from."""
    ca: Path | None = None
    """CA of the VTN's certificate; default: the system's."""
    failsafe_export_w: float | None = None
    """Export that holds until the VTN is heard, and while it is silent; absent: what it last told holds."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if bool(self.client_id) != (self.client_secret_file is not None):
            yield "client_secret_file", "client_id and client_secret_file go together"
        for level in self.level_limits_w:
            if level not in {"1", "2", "3"}:
                yield "level_limits_w", f'levels are "1" to "3", got "{level}"'
        if not 1 <= self.poll_period_s <= 60:
            yield "poll_period_s", f"polls are heartbeats: expected 1 to 60, got {self.poll_period_s}"
        if self.failsafe_export_w is not None and self.failsafe_export_w < 0:
            yield "failsafe_export_w", f"expected zero or more, got {self.failsafe_export_w:g}"


class GridTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[grid]``: who may limit the site, and what holds when nobody speaks."""

    operator: str
    """Id of the grid operator in the topics, or "none" for a site without one."""
    failsafe_import_w: float = 0.0
    """Grid import that holds in INIT and FAILSAFE."""
    failsafe_min_s: float = 7200.0
    """Shortest stay in FAILSAFE (EEBus LPC: 2 h to 24 h)."""
    heartbeat_timeout_s: float = 120.0
    """Silence after which the operator counts as lost."""
    exit_without_limit: Literal["stay", "after_120_s"] = "stay"
    """What happens when the heartbeat is back but no limit or release follows."""
    minimum_limit_w: float = 0.0
    """Limits below this are refused: the site cannot go lower without harm."""
    clock_skew_s: float = 30.0
    """Commands whose issue time is further off are refused."""
    trust_clock: Literal["kernel", "file", "always"] = "kernel"
    """Whose word it takes to believe the calendar: that the kernel's clock is kept by NTP, that
    `trust_clock_file` is there, or nobody's. Unbelieved, only commands for less power are taken."""
    trust_clock_file: str = "/run/systemd/timesync/synchronized"
    """file: made by whoever keeps the clock, and gone while it is not kept; so not one that must be there."""
    local_limit_w: float | None = None
    """The site operator's own limit on grid import."""
    meter_tolerance_w: float = 50.0
    """Meter error that is not counted as a breach."""
    telemetry_period_s: float = 1.0
    """How often the operator is told the site's balance."""
    mqtt: MqttTable | None = None
    openadr: OpenAdrTable | None = None
    modbus: RtuTable | None = None
    relay: RelayTable | None = None

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.operator != "none" and self.mqtt is None:
            yield "mqtt", f'missing for operator "{self.operator}"'
        for key in (
            "failsafe_import_w",
            "failsafe_min_s",
            "minimum_limit_w",
            "local_limit_w",
            "meter_tolerance_w",
            "clock_skew_s",
        ):
            if (getattr(self, key) or 0.0) < 0:
                yield key, f"expected zero or more, got {getattr(self, key)}"
        if self.operator == "none" and self.mqtt is not None and self.mqtt.failsafe_export_w is not None:
            yield "mqtt.failsafe_export_w", "nobody's silence counts; name an operator"
        if not 1 <= self.telemetry_period_s <= 4:
            yield "telemetry_period_s", f"expected 1 to 4, got {self.telemetry_period_s:g}"
        if not self.operator or not self.operator.isprintable() or set(self.operator) & set("/+#"):
            yield (
                "operator",
                f'part of a topic: not empty and without "/", "+" and "#", got "{self.operator}"',
            )
        for contact in () if self.relay is None else self.relay.contacts:
            if 0 <= contact.limit_w < self.minimum_limit_w:
                yield "relay.contacts", f'"{contact.name}" asks for less than minimum_limit_w'
        if self.heartbeat_timeout_s <= 0:
            yield "heartbeat_timeout_s", f"expected more than zero, got {self.heartbeat_timeout_s}"
