"""What tells the ticks of one policy from those of another: whose figures they go by, and in which order.

Values and interfaces only; `moving` goes by them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator.core.bookings import Bookings
from coordinator.core.judgement import Judge
from coordinator.core.policy import PlannerSettings
from coordinator.model.view import FleetView, JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A move that was chosen and booked: column, rate, T_mig, when the window there ends, and its gain."""

    job: JobView
    column: int
    rate_bps: float
    total_s: float
    ends_s: float
    gain_s: float


class Bulk(Protocol):
    """Chooses voluntary moves of many jobs."""

    def run(self, jobs: Sequence[JobView]) -> Sequence[Made]:
        """Choose and book moves of jobs that may leave; return them in the order of booking."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What tells one policy's ticks from another's.

    `policy`: its name. `loss`: what a site's surplus does when a job may leave, as a sentence goes on.
    `need_w`: the watts that the surplus where a job is must cover for it to stay. `judge`: makes its judge.
    `slack_margin_s`: what a move must leave of a job's slack, in seconds. `by_energy`: of several
    jobs the one that gains most energy goes first; else most seconds of its own draw. `bulk`: makes, of the
    judge and that margin, who chooses the voluntary moves of a large fleet; None: as in a small one.
    """

    policy: str
    loss: str
    need_w: Callable[[Bookings, JobView], float]
    judge: Callable[[FleetView, PlannerSettings, Bookings], Judge]
    slack_margin_s: float = 0.0
    by_energy: bool = False
    bulk: Callable[[Judge, float], Bulk] | None = None
