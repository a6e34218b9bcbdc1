"""Names of the sources of limits, and which of them owe us heartbeats."""

from agent.config import AgentConfig

MQTT = "mqtt"
OPENADR = "openadr"
MODBUS = "modbus"
RELAY = "relay"


def operators(config: AgentConfig) -> tuple[str, ...]:
    """Name the configured sources whose silence is a fault."""
    grid = config.grid
    owing = {
        MQTT: grid.operator != "none",
        OPENADR: grid.openadr is not None,
        MODBUS: grid.modbus is not None and bool(grid.modbus.writers),
        RELAY: grid.relay is not None,
    }
    return tuple(source for source, owes in owing.items() if owes)
