"""Home Assistant, which finds the site by itself over MQTT."""

from collections.abc import Iterable

from agent.config.mqtt import BrokerTable


class HomeAssistantTable(BrokerTable, frozen=True, kw_only=True):
    """``[home_assistant]``: the broker that Home Assistant listens to (docs/home-assistant.md)."""

    enabled: bool = True
    """False: what was announced before is taken back, and nothing is told."""
    discovery_prefix: str = "homeassistant"
    """As set in Home Assistant's MQTT integration."""
    period_s: float = 10.0
    """How often the figures are told."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        yield from super().faults()
        if not 1 <= self.period_s <= 300:
            yield "period_s", f"expected 1 to 300, got {self.period_s:g}"
        if not self.discovery_prefix or set(self.discovery_prefix) & set("+#"):
            yield (
                "discovery_prefix",
                f'part of a topic: not empty, without "+" and "#", got "{self.discovery_prefix}"',
            )
