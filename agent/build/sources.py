"""Names of the sources of limits, and which of them owe us heartbeats."""

from agent.config import AgentConfig

MQTT = "mqtt"
OPENADR = "openadr"


def operators(config: AgentConfig) -> tuple[str, ...]:
    """Name the configured sources whose silence is a fault."""
    mqtt = () if config.grid.operator == "none" else (MQTT,)
    return mqtt if config.grid.openadr is None else (*mqtt, OPENADR)
