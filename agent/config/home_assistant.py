"""Home Assistant, which finds the site by itself over MQTT."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from agent.config.mqtt import LOOPBACK, MqttTlsTable


class HomeAssistantTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[home_assistant]``: the broker that Home Assistant listens to (docs/home-assistant.md)."""

    host: str
    port: int = 8883
    enabled: bool = True
    """False: what was announced before is taken back, and nothing is told."""
    username: str = ""
    password_file: Path | None = None
    tls: MqttTlsTable | None = None
    insecure: bool = False
    """Plaintext; loopback only."""
    discovery_prefix: str = "homeassistant"
    """As set in Home Assistant's MQTT integration."""
    period_s: float = 10.0
    """How often the figures are told."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.tls is None and not self.insecure:
            yield "tls", "missing; give [home_assistant.tls], or insecure = true on loopback"
        if self.tls is not None and (self.tls.cert is None) != (self.tls.key is None):
            yield "tls", "cert and key go together"
        if self.insecure and self.host not in LOOPBACK:
            yield "insecure", f"plaintext is for loopback only, not for {self.host}"
        if not 1 <= self.port <= 65535:
            yield "port", f"expected 1 to 65535, got {self.port}"
        if not 1 <= self.period_s <= 300:
            yield "period_s", f"expected 1 to 300, got {self.period_s:g}"
        if not self.discovery_prefix or set(self.discovery_prefix) & set("+#"):
            yield (
                "discovery_prefix",
                f'part of a topic: not empty, without "+" and "#", got "{self.discovery_prefix}"',
            )
