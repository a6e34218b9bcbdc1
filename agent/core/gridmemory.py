"""What a restarted agent knows of the grid: the values that a store gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.breach import BreachTally
from agent.core.commands import LastSeen
from agent.core.limits import Timeline
from agent.model.grid import OperatorConfig
from agent.model.limits import LimitKind


@dataclass(frozen=True, slots=True, kw_only=True)
class GridMemory:
    """Everything that survives a restart. Heartbeats do not: a fresh start waits for one."""

    timeline: Timeline = field(default_factory=Timeline)
    last_seen: Mapping[str, LastSeen] = field(default_factory=dict)
    configs: Mapping[str, OperatorConfig] = field(default_factory=dict)
    tallies: Mapping[LimitKind, BreachTally] = field(default_factory=dict)
