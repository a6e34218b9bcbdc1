"""Who could leave at all: a look at a few watts, before anything is rated.

Weeks of a replay, and most ticks of a fleet, are made of moments in which nobody could.
"""

from collections.abc import Callable
from datetime import datetime
from math import inf

from coordinator.core.bookings import Bookings
from coordinator.core.policy import PlannerSettings
from coordinator.model.view import FleetView, JobView, SiteView


def could_leave(
    running: list[JobView],
    view: FleetView,
    bookings: Bookings,
    settings: PlannerSettings,
    need_w: Callable[[Bookings, JobView], float],
) -> list[JobView]:
    """Leave out running jobs that would stay in any case, by looks at a few watts; it may keep too many.

    A move takes less than alpha of what forecasts span, else it is not feasible: a job that is covered
    for that long stays. Where no site has surplus left for one more, only those that must go could.

    Parameters
    ----------
    running : list of JobView
        Jobs at known sites.
    view, bookings, settings
        The fleet, what is promised, the planner's numbers.
    need_w : callable
        Returns the watts that the surplus where a job is must cover for it to stay.
    """
    ends = [
        site.forecast.slots[-1].end_at
        for site in view.sites.values()
        if site.forecast is not None and site.forecast.slots
    ]
    reach_at = view.now + settings.alpha * (max(ends, default=view.now) - view.now)
    sure_w = {site.site_id: _sure_w(site, view, reach_at) for site in view.sites.values()}
    found = [
        job
        for job in running
        if must_leave(view.sites[job.site_id or ""])
        or (job.may_migrate and not need_w(bookings, job) <= sure_w[job.site_id or ""])
    ]
    left_w = max(
        (
            site.surplus_w - bookings.draw_w(site.site_id)
            for site in view.sites.values()
            if site.surplus_w is not None
            and site.surplus_quality_ok
            and bookings.free_slots(site.site_id) > 0
        ),
        default=0.0,
    )
    # A hair's breadth, since the sums of watts are taken in another order where it is decided.
    return [job for job in found if must_leave(view.sites[job.site_id or ""]) or job.power_w <= left_w + 1e-6]


def must_leave(site: SiteView) -> bool:
    """Tell whether a site wants its jobs gone, surplus or not."""
    return site.draining or site.wants_to_shed


def _sure_w(site: SiteView, view: FleetView, reach_at: datetime) -> float:
    """Return the watts that the median surplus of a site keeps from now to an instant; -inf: unknown."""
    if site.surplus_w is None or not site.surplus_quality_ok or site.forecast is None:
        return -inf
    if site.forecast.paths_w is not None:
        return -inf  # most paths may dip below each slot's median at some time or other
    known_at, least_w = view.now, site.surplus_w
    for slot in site.forecast.slots:
        if known_at > reach_at:
            break
        if slot.end_at <= known_at:
            continue
        if slot.start_at > known_at:
            return -inf
        if slot.start_at > view.now:
            least_w = min(least_w, max(slot.p10_w, slot.p50_w))
        known_at = slot.end_at
    return least_w if known_at > reach_at else -inf
