"""The policy `sterna`: look a stretch ahead, weigh expected renewable energy, move what gains the most.

It differs from `feasibility-aware` in what a move is worth and in who may leave (`horizon`), and in how sure
it wants to be. The paper's tests of time and break-even stay gates. Why, and what was tried:
docs/planning.md. Jobs that may wait are held back and paused by `deferring`; `slowing` slows down.
"""

from dataclasses import replace
from functools import partial

from coordinator.core.bookings import Bookings
from coordinator.core.bulk import BulkMoves
from coordinator.core.deferral import DeferralRules
from coordinator.core.deferring import may_defer, plan_deferring
from coordinator.core.horizon import HorizonJudge
from coordinator.core.judgement import Judge
from coordinator.core.manner import Manner
from coordinator.core.moving import plan
from coordinator.core.policy import PlannerSettings
from coordinator.core.slowing import may_slow, with_slowing
from coordinator.model.decision import Decision
from coordinator.model.view import FleetView, JobView

_NAME = "sterna"


class SternaPolicy:
    """Follow the energy that can be expected over a rolling horizon.

    Parameters
    ----------
    reach_frac : float
        Share of the planner's `horizon_s` over which energy is counted, above 0, at most 1.
    epsilon : float
        Least accepted risk in the time test: the energy is an expectation already, so the gate only keeps
        out moves that are more likely than this to be too long. The planner's own, where that is higher.
    rules : DeferralRules or None
        When holding jobs back ends; None: the usual.

    Raises
    ------
    ValueError
        A figure is out of its range.
    """

    def __init__(
        self, *, reach_frac: float = 0.125, epsilon: float = 0.5, rules: DeferralRules | None = None
    ) -> None:
        if not 0.0 < reach_frac <= 1.0:
            raise ValueError(f"reach_frac {reach_frac}: expected above 0, at most 1")
        if not 0.0 <= epsilon < 1.0:
            raise ValueError(f"epsilon {epsilon}: expected 0 or more, below 1")
        self._epsilon = epsilon
        self._rules = rules or DeferralRules()
        self._manner = Manner(
            policy=_NAME,
            loss="no longer covers every job there, or ends before a move could",
            need_w=_all_there_w,
            judge=partial(HorizonJudge, reach_frac=reach_frac),
            slack_margin_s=self._rules.margin_s,
            by_energy=True,
            bulk=_bulk,
        )

    @property
    def name(self) -> str:
        """Return ``sterna``."""
        return _NAME

    def decide(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Start what waits, relieve sites that are crowded, leave the rest; see `Policy.decide`.

        Of several jobs that could leave, those on draining sites come first, then those on sites that
        ask to shed, then the one that gains most energy; ties go by job id. In a large fleet
        (`moving.LARGE_PAIRS`) the decisions name no alternatives.
        """
        return self._plan(view, settings, tells=True)

    def act(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Start and move as `decide` does, and say no more than that; see `BriefPolicy.act`."""
        return self._plan(view, settings, tells=False)

    def _plan(self, view: FleetView, settings: PlannerSettings, *, tells: bool) -> tuple[Decision, ...]:
        moves = partial(plan, settings=self._tuned(settings), manner=self._manner, tells=tells)
        made = (
            plan_deferring(view, self._rules, moves, policy=_NAME, tells=tells)
            if may_defer(view)
            else moves(view)
        )
        if not may_slow(view):
            return made
        return with_slowing(view, made, policy=_NAME, slack_margin_s=self._rules.margin_s, tells=tells)

    def _tuned(self, settings: PlannerSettings) -> PlannerSettings:
        return replace(settings, epsilon=max(settings.epsilon, self._epsilon))


def _bulk(judge: Judge, slack_margin_s: float) -> BulkMoves:
    assert isinstance(judge, HorizonJudge)  # as this policy's manner makes it
    return BulkMoves(judge, slack_margin_s)


def _all_there_w(bookings: Bookings, job: JobView) -> float:
    return bookings.draw_w(job.site_id or "")
