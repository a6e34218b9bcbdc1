"""Holding back within slack: who of a fleet runs now, who pauses where it is, and who does not start yet.

Surplus that nobody takes is lost, work that waits is not: so surplus goes to those with the least slack, and
what it does not cover waits as long as its slack, and the slots that others wait for, allow. Owns
that choice; moves are `moving`'s, what a stay brings is `horizon`'s.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, isinf

from coordinator.model.view import FleetView, JobView, Phase, SiteView

_HAIR_W = 1e-6  # sums of watts are taken in different orders


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferralRules:
    """When holding back ends.

    Parameters
    ----------
    margin_s : float
        Slack that is never used: the longest time between two ticks, and what a start may take.
    least_share : float
        Share of a job's draw that surplus must cover for it to run while it could wait, 0 to 1.
    queue_margin_s : float
        Slack that must be left to those that wait for a slot, if all ran on from now.
    unsure_margin_s : float
        Slack that must be left to those that wait for a slot of which nobody knows when it will be free.
    reach_s : float
        How far ahead the surplus counts for the choice of a site to start at.
    """

    margin_s: float = 3600.0
    least_share: float = 0.5
    queue_margin_s: float = 7200.0
    unsure_margin_s: float = 72000.0
    reach_s: float = 21600.0

    def enough(self, left_w: float, job: JobView) -> bool:
        """Tell whether what is left of a surplus makes it worth running a job that could wait."""
        return left_w >= self.least_share * job.power_w - _HAIR_W


def may_wait(job: JobView, rules: DeferralRules) -> bool:
    """Tell whether a job may be held back, or pause, until the next tick."""
    able = job.phase is Phase.QUEUED or job.may_pause
    return able and job.slack_s is not None and job.slack_s > rules.margin_s


def remaining_s(job: JobView) -> float:
    """Return the running time that a job still needs, by what it declares; infinity: nobody knows."""
    if job.declared_work_s is None:
        return inf
    return max(0.0, job.declared_work_s - job.progressed_s)


def slots_suffice(view: FleetView, rules: DeferralRules) -> bool:
    """Tell whether all that wait get a slot in time if every job waited until the next tick and then ran.

    Those with the least slack go first. A job that is under way to another site counts as if it ran there.
    """
    free = sum(max(0, site.slots - site.slots_held) for site in view.sites.values() if site.available)
    releases = [0.0] * free
    holders = (job for job in view.jobs.values() if job.phase is not Phase.QUEUED)
    releases += [rules.margin_s + remaining_s(job) for job in holders]
    heapq.heapify(releases)
    for job in in_need_order(job for job in view.jobs.values() if job.phase is Phase.QUEUED):
        start_s = heapq.heappop(releases) if releases else inf
        if start_s > 0.0 and not _in_time(job, start_s, rules):
            return False
        heapq.heappush(releases, max(start_s, rules.margin_s) + remaining_s(job))
    return True


def _in_time(job: JobView, start_s: float, rules: DeferralRules) -> bool:
    if job.slack_s is None:
        return False
    if isinf(start_s):
        return job.slack_s > rules.unsure_margin_s
    return start_s <= job.slack_s - rules.queue_margin_s


def in_need_order(jobs: Iterable[JobView]) -> list[JobView]:
    """Return jobs, those with the least slack first; a job that is not to wait comes before all."""
    return sorted(
        jobs, key=lambda job: (-inf if job.slack_s is None else job.slack_s, job.submitted_at, job.job_id)
    )


def runners(
    site: SiteView,
    residents: Sequence[JobView],
    rules: DeferralRules,
    *,
    pressed: bool,
    limit_w: float = inf,
) -> frozenset[str]:
    """Return the residents that run now; the others pause.

    Parameters
    ----------
    site : SiteView
        The site; an unknown surplus is none.
    residents : sequence of JobView
        Jobs that run there or are paused, and those that draw there otherwise.
    rules : DeferralRules
        When holding back ends.
    pressed : bool
        Somebody would wait too long for a slot: nobody pauses.
    limit_w : float
        What grid limits in force leave for all jobs there; -inf: unknown, and nobody who pauses goes on. Who
        cannot wait is the site's to pause, which asks for it to be moved away if that lasts.
    """
    left_w = surplus_w(site)
    run: set[str] = set()
    can_wait = []
    for job in residents:
        if pressed or job.phase is Phase.MIGRATING or not may_wait(job, rules):
            run.add(job.job_id)
            left_w -= job.power_w
            limit_w -= job.power_w
        else:
            can_wait.append(job)
    for job in in_need_order(can_wait):
        unknown = limit_w == -inf and job.phase is Phase.RUNNING
        if rules.enough(left_w, job) and (job.power_w <= limit_w + _HAIR_W or unknown):
            run.add(job.job_id)
            left_w -= job.power_w
            limit_w -= job.power_w
    return frozenset(run)


def surplus_w(site: SiteView) -> float:
    """Return the surplus that is known to be there, in watts, >= 0."""
    return max(0.0, site.known_surplus_w or 0.0)


def draws_now(job: JobView) -> bool:
    """Tell whether a job may draw where it is: all but those under way elsewhere, and those that wait."""
    return job.phase is not Phase.QUEUED and not (job.phase is Phase.MIGRATING and job.bound_for is not None)


def as_if_running(view: FleetView, started: dict[str, str]) -> FleetView:
    """Return the view for choosing moves: who paused wants to run, who starts is there, nobody is held."""
    jobs = {}
    for job_id, job in view.jobs.items():
        if job_id in started:
            jobs[job_id] = replace(
                job, phase=Phase.RUNNING, site_id=started[job_id], resident_since=view.now, may_migrate=False
            )
        elif job.phase is Phase.PAUSED:
            jobs[job_id] = replace(job, phase=Phase.RUNNING)
        elif job.phase is not Phase.QUEUED or job.slack_s is None:
            jobs[job_id] = job
    sites = dict(view.sites)
    for site_id in started.values():
        sites[site_id] = replace(sites[site_id], slots_held=sites[site_id].slots_held + 1)
    return replace(view, jobs=jobs, sites=sites)
