"""The policy `oracle`, in replay alone: `sterna` that knows the surplus to come and what each job has left.

It shows what better forecasts could still bring. It is no bound: it decides job by job, obeys the same gates
and pays for every move. Nobody gets below the bound (`bound`, `deferral_bound`).
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from coordinator.core.bookings import Bookings
from coordinator.core.deferral import DeferralRules
from coordinator.core.deferring import may_defer, plan_deferring
from coordinator.core.horizon import HorizonJudge
from coordinator.core.manner import Manner
from coordinator.core.moving import plan
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings, Policy
from coordinator.model.decision import Decision
from coordinator.model.view import FleetView, JobView
from coordinator.replay.exact import run
from coordinator.replay.foresight import MakeForesight, Perfect
from coordinator.replay.record import Record, settings_of
from coordinator.replay.world import World

ORACLE = "oracle"
REACH_FRAC = 0.5
"""Share of the planner's horizon over which it counts: the truth holds for longer than a forecast."""


class OraclePolicy:
    """Follow the energy that will be there, for as long as each job still runs.

    Parameters
    ----------
    reach_frac : float
        Share of the planner's `horizon_s` over which energy is counted, above 0, at most 1.
    """

    def __init__(self, *, reach_frac: float = REACH_FRAC) -> None:
        self._rules = DeferralRules()
        self._manner = Manner(
            policy=ORACLE,
            loss="no longer covers every job there, or ends before a move could",
            need_w=_all_there_w,
            judge=partial(_OracleJudge, reach_frac=reach_frac),
            slack_margin_s=self._rules.margin_s,
        )

    @property
    def name(self) -> str:
        """Return ``oracle``."""
        return ORACLE

    def decide(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Decide as `sterna` does, from what it knows; see `Policy.decide`."""
        return self._plan(view, settings, tells=True)

    def act(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Start and move as `decide` does, and say no more than that; see `BriefPolicy.act`."""
        return self._plan(view, settings, tells=False)

    def _plan(self, view: FleetView, settings: PlannerSettings, *, tells: bool) -> tuple[Decision, ...]:
        moves = partial(plan, settings=settings, manner=self._manner, tells=tells)
        if not may_defer(view):
            return moves(view)
        return plan_deferring(view, self._rules, moves, policy=ORACLE, tells=tells)


class _OracleJudge(HorizonJudge):
    """Counts no energy beyond the end of a job."""

    def until_s(self, jobs: Sequence[JobView]) -> NDArray[np.float64]:
        left = [
            np.inf if job.declared_work_s is None else max(0.0, job.declared_work_s - job.progressed_s)
            for job in jobs
        ]
        until: NDArray[np.float64] = np.minimum(super().until_s(jobs), np.array(left))
        return until


def replayed(world: World, name: str, foresight: MakeForesight, *, declared: bool) -> Record:
    """Replay one world under the policy of that name; the oracle knows everything, whatever is asked for.

    Parameters
    ----------
    world : World
        The world.
    name : str
        Of a policy, or ``oracle``.
    foresight : MakeForesight
        What other policies are told of the future.
    declared : bool
        Whether jobs declare their work to them.
    """
    policy: Policy = OraclePolicy() if name == ORACLE else policy_named(name)
    sees: MakeForesight = Perfect if name == ORACLE else foresight
    return run(world, policy, settings_of(world), sees(world), declared=declared or name == ORACLE)


def _all_there_w(bookings: Bookings, job: JobView) -> float:
    return bookings.draw_w(job.site_id or "")
