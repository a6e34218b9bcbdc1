"""The policy `feasibility-aware`: the paper's orchestrator, with our hysteresis and reservations.

When the surplus at a job's site is depleted (or will be before a move could be over), the job goes to
the time- and energy-feasible destination that gains the most renewable seconds. A job whose site has
surplus for it stays. What is the paper's and what is ours: docs/feasibility.md.
"""

from coordinator.core.bookings import Bookings
from coordinator.core.judgement import Judge
from coordinator.core.manner import Manner
from coordinator.core.moving import plan
from coordinator.core.policy import PlannerSettings
from coordinator.model.decision import Decision
from coordinator.model.view import FleetView

_MANNER = Manner(
    policy="feasibility-aware",
    loss="no longer covers the job, or ends before a move could",
    need_w=Bookings.need_here_w,
    judge=Judge,
)


class FeasibilityAwarePolicy:
    """Follow the surplus where a move is feasible."""

    @property
    def name(self) -> str:
        """Return ``feasibility-aware``."""
        return _MANNER.policy

    def decide(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Start what waits, move what has lost its surplus, leave the rest; see `Policy.decide`.

        Of several jobs that could leave, those on draining sites come first, then those on sites that
        ask to shed, then the one that gains most; ties go by job id.
        """
        return plan(view, settings, _MANNER, tells=True)

    def act(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Start and move as `decide` does, and say no more than that; see `BriefPolicy.act`."""
        return plan(view, settings, _MANNER, tells=False)
