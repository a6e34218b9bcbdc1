"""What a replay leaves behind, and the planner's numbers that a world fixes for it."""

from dataclasses import dataclass
from typing import Any

from coordinator.core.policy import PlannerSettings
from coordinator.replay.journal import Interval
from coordinator.replay.transfers import Transfer
from coordinator.replay.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one policy did to one world; `asked`: how often it was asked; `transfers`: where they are told."""

    policy: str
    intervals: tuple[Interval, ...]
    asked: int
    transfers: tuple[Transfer, ...] = ()


def settings_of(world: World, **numbers: float) -> PlannerSettings:
    """Return the planner's numbers as a world fixes them; others by keyword.

    No margin is asked for before a move: recorded hours hold still, and a margin costs some energy.
    """
    fixed: dict[str, Any] = {
        "gain_margin_frac": 0.0,
        "alpha": world.costs.alpha,
        "eta": world.costs.eta,
        "network_wh_per_gb": world.costs.network_wh_per_gb,
    }
    return PlannerSettings(**(fixed | numbers))
