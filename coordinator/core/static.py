"""The policy `static`: a job starts at its home when a slot is free there, and never moves.

The yardstick of every comparison: what the same jobs would draw if nobody moved them.
"""

from coordinator.core.bookings import Bookings
from coordinator.core.policy import PlannerSettings
from coordinator.core.starting import (
    HELD_REASONS,
    jobs_in_start_order,
    leave_alone,
    plain_alternative,
    sites_in_order,
    start_rejections,
)
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.view import FleetView, JobView, Phase


class StaticPolicy:
    """Start at home, stay for ever."""

    @property
    def name(self) -> str:
        """Return ``static``."""
        return "static"

    @property
    def never_moves(self) -> bool:
        """Tell that no job ever leaves its home, so that a replay need not ask."""
        return True

    def decide(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Start queued jobs at their homes and leave all others where they are.

        A job without a home, or whose home does not hold the checkpoint that it must start from, takes
        the first site by id where it may start.
        """
        bookings = Bookings(view)
        decisions = {job.job_id: self._start(job, view, bookings) for job in jobs_in_start_order(view)}
        for job in view.jobs.values():
            if job.phase is not Phase.QUEUED:
                reason = HELD_REASONS.get(job.phase, "static never moves a job")
                decisions[job.job_id] = leave_alone(job, view, bookings, self.name, reason)
        return tuple(decisions[job_id] for job_id in sorted(decisions))

    def _start(self, job: JobView, view: FleetView, bookings: Bookings) -> Decision:
        home = job.home_site
        if home is not None and job.must_start_at_holder and home not in job.held_at:
            home = None  # its progress is elsewhere; waiting for home would be for ever
        alternatives = []
        target: str | None = None
        for site in sites_in_order(view):
            rejections = start_rejections(job, site, bookings)
            feasible = not rejections
            if home is not None and site.site_id != home:
                rejections += (f"not the job's home, which is {home}",)
            if not rejections and target is not None:
                rejections = (f"{target} comes first by id",)
            if not rejections:
                target = site.site_id
            alternatives.append(plain_alternative(job, site, bookings, rejections, feasible=feasible))
        if target is not None:
            bookings.start(job, target)
        return Decision(
            job_id=job.job_id,
            decided_at=view.now,
            policy=self.name,
            kind=DecisionKind.WAIT if target is None else DecisionKind.START,
            source_site=None,
            target_site=target,
            reason=_reason(home, target),
            alternatives=tuple(alternatives),
        )


def _reason(home: str | None, target: str | None) -> str:
    if target is None:
        return "no site may take it now" if home is None else f"waits for a slot at its home {home}"
    return (
        f"starts at its home {target}"
        if home is not None
        else f"starts at {target}, the first with a free slot"
    )
