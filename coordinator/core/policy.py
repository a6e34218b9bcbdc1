"""What every policy is: one method from a fleet at an instant to one decision a job.

Owns the interface and the planner's settings. Knows no policy; `coordinator.core.policies` does.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from coordinator.core.feasibility import Tolerance
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.view import FleetView

_Allowed = tuple[str, Callable[[float], bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSettings:
    """The numbers that a policy may be tuned with; none of them assumes hours or minutes.

    Parameters
    ----------
    alpha : float
        Disruption tolerance: fraction of a window that a move may take, 0 < alpha <= 1.
    epsilon : float
        Accepted probability that a move turns out too long for its window, 0 <= epsilon < 1. Below the
        lowest quantile that forecasts state (0.10) no move is ever certain enough.
    eta : float
        WAN goodput efficiency, 0 < eta <= 1; 1 where link rates are measured goodput.
    network_wh_per_gb : float
        Energy of carrying a gigabyte (1e9 bytes), in Wh, >= 0.
    grid_renewable_frac : float
        Renewable share of what a site imports, 0 to 1; 0 when it is not known.
    min_residence_s : float
        Shortest stay before a voluntary move, in seconds, whatever the job itself asks for.
    gain_margin_s : float
        Renewable seconds that a voluntary move must gain at least.
    gain_margin_frac : float
        What it must gain on top, as a fraction of the renewable seconds that staying offers.
    horizon_s : float
        How far ahead renewable seconds are counted.
    effort_pairs : int
        Pairs of a job and a site that may be looked at again in a tick of a large fleet, to make a plan
        better that one pass has found; 0: that plan is good enough.
    """

    alpha: float = 0.10
    epsilon: float = 0.10
    eta: float = 1.0
    network_wh_per_gb: float = 1.9
    grid_renewable_frac: float = 0.0
    min_residence_s: float = 0.0
    gain_margin_s: float = 0.0
    gain_margin_frac: float = 0.10
    horizon_s: float = 86400.0
    effort_pairs: int = 1_000_000

    def __post_init__(self) -> None:
        found = [f"{name}: {fault}" for name, fault in faults(self)]
        if found:
            raise ValueError("; ".join(found))

    @property
    def tolerance(self) -> Tolerance:
        """Return what a move is held against."""
        return Tolerance(
            alpha=self.alpha,
            eta=self.eta,
            network_wh_per_gb=self.network_wh_per_gb,
            # Counted for the time after the source's window, when the job would draw from its grid.
            avoided_nonrenewable_frac=1.0 - self.grid_renewable_frac,
        )


_ABOVE_ZERO_TO_ONE: _Allowed = ("above 0, at most 1", lambda value: 0 < value <= 1)
_ZERO_OR_MORE: _Allowed = ("zero or more", lambda value: value >= 0)
_ALLOWED: Mapping[str, _Allowed] = {
    "alpha": _ABOVE_ZERO_TO_ONE,
    "epsilon": ("0 or more, below 1", lambda value: 0 <= value < 1),
    "eta": _ABOVE_ZERO_TO_ONE,
    "network_wh_per_gb": _ZERO_OR_MORE,
    "grid_renewable_frac": ("0 to 1", lambda value: 0 <= value <= 1),
    "min_residence_s": _ZERO_OR_MORE,
    "gain_margin_s": _ZERO_OR_MORE,
    "gain_margin_frac": _ZERO_OR_MORE,
    "horizon_s": ("more than zero", lambda value: value > 0),
    "effort_pairs": _ZERO_OR_MORE,
}


def faults(numbers: object) -> Iterator[tuple[str, str]]:
    """Yield which of the planner's numbers are out of their range, with what was expected.

    Parameters
    ----------
    numbers : object
        Has every field of `PlannerSettings`, as the coordinator's configuration does.
    """
    for name, (allowed, good) in _ALLOWED.items():
        value = getattr(numbers, name)
        if not good(value):
            yield name, f"expected {allowed}, got {value}"


class Policy(Protocol):
    """A way to place jobs. Pure: the same view and settings give the same decisions."""

    @property
    def name(self) -> str:
        """Return the name that configuration and stored decisions use."""
        ...

    def decide(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Decide about every job of the view.

        Parameters
        ----------
        view : FleetView
            The fleet at one instant.
        settings : PlannerSettings
            The planner's numbers.

        Returns
        -------
        tuple of Decision
            One for each job, in order of job id, STAY and WAIT included; each names every site with what
            speaks against it. Together they never oversubscribe a slot or a link.
        """
        ...


class BriefPolicy(Protocol):
    """A policy that can also decide without saying why: for a replay of weeks, where nobody reads it."""

    def act(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Return those decisions of `Policy.decide` that are not STAY or WAIT, without alternatives."""
        ...


def changes_of(policy: Policy, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
    """Return the decisions that change something, as quickly as the policy can give them.

    Alternatives may be missing; the choices are those of `Policy.decide`.
    """
    if hasattr(policy, "act"):  # as `isinstance` would find out too, in ten times as long
        return cast(BriefPolicy, policy).act(view, settings)
    same = (DecisionKind.STAY, DecisionKind.WAIT)
    return tuple(one for one in policy.decide(view, settings) if one.kind not in same)
