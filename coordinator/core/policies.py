"""The policies by name: the one list that configuration, replay and the operator's command share."""

from collections.abc import Callable

from coordinator.core.energy_only import EnergyOnlyPolicy
from coordinator.core.feasibility_aware import FeasibilityAwarePolicy
from coordinator.core.policy import Policy
from coordinator.core.static import StaticPolicy
from coordinator.core.sterna_policy import SternaPolicy
from sterna.errors import ConfigError

_MAKERS: dict[str, Callable[[], Policy]] = {
    "energy-only": EnergyOnlyPolicy,
    "feasibility-aware": FeasibilityAwarePolicy,
    "static": StaticPolicy,
    "sterna": SternaPolicy,
}


def policy_names() -> tuple[str, ...]:
    """Return the names that `policy_named` knows, in order."""
    return tuple(sorted(_MAKERS))


def policy_named(name: str) -> Policy:
    """Return the policy of that name.

    Raises
    ------
    ConfigError
        No policy has this name; the message lists those that exist.
    """
    maker = _MAKERS.get(name)
    if maker is None:
        raise ConfigError(f"policy {name!r}: expected one of {', '.join(policy_names())}")
    return maker()
