"""Where a job that runs nowhere may start: the rules that hold under every policy."""

from datetime import datetime
from math import inf

from coordinator.core.bookings import Bookings
from coordinator.core.containers import lack
from coordinator.model.decision import Alternative, Decision, DecisionKind, Term
from coordinator.model.view import FleetView, JobView, Phase, SiteView

NEAR_S = 7200.0
"""A job with no more than this to spare to its deadline starts before those that have waited longer."""


def slots_term(free_slots: int) -> Term:
    """Return the term that says whether a slot is free."""
    return Term(
        name="slots",
        value=float(free_slots),
        limit=1.0,
        unit="1",
        satisfied=free_slots >= 1,
        remedy="" if free_slots >= 1 else "a job that ends or leaves there",
    )


def is_open(site: SiteView) -> bool:
    """Tell whether a site takes jobs at all, whatever slots it has."""
    return site.available and not (site.draining or site.wants_to_shed or site.emergency)


def site_rejections(site: SiteView, free_slots: int) -> tuple[str, ...]:
    """Return why no job may arrive at a site now, every reason; empty when one may."""
    reasons = []
    if site.draining:
        reasons.append("the site is draining")
    elif not site.available:
        reasons.append("the site is not available")
    if site.wants_to_shed:
        reasons.append("the site asks for jobs to be moved away")
    if site.emergency:
        reasons.append("a grid emergency is in force there")
    if free_slots < 1:
        reasons.append(f"no free slot: all {site.slots} are held")
    return tuple(reasons)


def arrival_rejections(
    job: JobView, site: SiteView, bookings: Bookings, arrives_s: float = 0.0
) -> tuple[str, ...]:
    """Return why this job may not arrive at a site, so many seconds from now; empty when it may."""
    lacking = lack(job.container, site.container_engines, site.container_mounts)
    limited = bookings.against(job, site.site_id, arrives_s)
    reasons = site_rejections(site, bookings.free_slots(site.site_id))
    return reasons + tuple(reason for reason in (lacking, limited) if reason)


def start_rejections(job: JobView, site: SiteView, bookings: Bookings) -> tuple[str, ...]:
    """Return why a job may not start at a site now, every reason; empty when it may."""
    reasons = list(arrival_rejections(job, site, bookings))
    if job.must_start_at_holder and site.site_id not in job.held_at:
        coming = job.coming_to == site.site_id
        reasons.append(
            "its checkpoint is on its way there"
            if coming
            else "no verified checkpoint of the job is there, and it has progress to lose"
        )
    return tuple(reasons)


def plain_alternative(
    job: JobView,
    site: SiteView,
    bookings: Bookings,
    rejections: tuple[str, ...],
    *,
    feasible: bool,
    score: float = 0.0,
) -> Alternative:
    """Return an alternative whose only figures are the free slots and what a grid limit leaves."""
    return Alternative(
        site_id=site.site_id,
        feasible=feasible,
        score=score,
        terms=(slots_term(bookings.free_slots(site.site_id)), *bookings.limit_terms(job, site.site_id)),
        rejections=rejections,
    )


def leave_alone(job: JobView, view: FleetView, bookings: Bookings, policy: str, reason: str) -> Decision:
    """Return the decision that changes nothing: STAY where the job is, WAIT when it is nowhere."""
    alternatives = tuple(
        plain_alternative(
            job, site, bookings, () if site.site_id == job.site_id else (reason,), feasible=False
        )
        for site in sites_in_order(view)
    )
    return Decision(
        job_id=job.job_id,
        decided_at=view.now,
        policy=policy,
        kind=DecisionKind.WAIT if job.site_id is None else DecisionKind.STAY,
        source_site=job.site_id,
        target_site=job.site_id,
        reason=reason,
        alternatives=alternatives,
    )


def sites_in_order(view: FleetView) -> tuple[SiteView, ...]:
    """Return the sites by id, so that the order of a mapping never decides anything."""
    return tuple(view.sites[site_id] for site_id in sorted(view.sites))


def jobs_in_start_order(view: FleetView) -> tuple[JobView, ...]:
    """Return the queued jobs: those whose deadline is near, the nearest first, then the longest waiting."""
    queued = (job for job in view.jobs.values() if job.phase is Phase.QUEUED)
    return tuple(sorted(queued, key=_start_order))


def is_pressing(job: JobView) -> bool:
    """Tell whether a job's own deadline is near, and can still be kept.

    One that cannot be kept presses nobody: else to state an impossible one would be the way to the front.
    """
    return job.deadline_slack_s is not None and 0.0 <= job.deadline_slack_s <= NEAR_S


def _start_order(job: JobView) -> tuple[float, datetime, str]:
    left_s = job.deadline_slack_s if is_pressing(job) else None
    return (inf if left_s is None else left_s, job.submitted_at, job.job_id)


HELD_REASONS = {
    Phase.PAUSED: "the job is paused",
    Phase.MIGRATING: "a migration of the job is under way",
    Phase.HELD: "the job is starting, paused by its site or out of contact",
}
"""Why a policy leaves a job of this phase alone."""
