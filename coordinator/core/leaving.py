"""Who could leave at all: a look at a few watts, before anything is rated.

Weeks of a replay, and most ticks of a fleet, are made of moments in which nobody could.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from math import inf

import numpy as np
from numpy.typing import NDArray

from coordinator.core.bookings import Bookings
from coordinator.core.limits import HAIR_W
from coordinator.core.policy import PlannerSettings
from coordinator.model.view import FleetView, JobView, SiteView
from sterna.units import w_to_kw

Array = NDArray[np.float64]

DRAIN, SHED, VOLUNTARY = 2, 1, 0
"""How urgently a job must leave: the higher goes first."""


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
    pressed = {site_id for site_id, site in view.sites.items() if how_urgent(site, bookings) != VOLUNTARY}
    found = [
        job
        for job in running
        if job.site_id in pressed
        or (job.may_migrate and not need_w(bookings, job) <= sure_w[job.site_id or ""])
    ]
    if view.is_valued:
        return found  # a place without surplus may be the cheaper one
    left_w = max(
        (
            known_w - bookings.draw_w(site.site_id)
            for site in view.sites.values()
            if (known_w := site.known_surplus_w) is not None and bookings.free_slots(site.site_id) > 0
        ),
        default=0.0,
    )
    # A hair's breadth, since the sums of watts are taken in another order where it is decided.
    return [job for job in found if job.site_id in pressed or job.power_w <= left_w + 1e-6]


def how_urgent(site: SiteView, bookings: Bookings) -> int:
    """Return how urgently jobs must leave a site, surplus or not: `DRAIN`, `SHED` or `VOLUNTARY`."""
    if site.draining:
        return DRAIN
    return SHED if too_many_s(site, bookings) > 0.0 else VOLUNTARY


def too_many_s(site: SiteView, bookings: Bookings) -> float:
    """Return for how long some jobs of a site will have to stand still; 0: none has to; inf: unknown."""
    if site.wants_to_shed:
        return inf
    bound = bookings.pressing(site.site_id)
    return 0.0 if bound is None else bound.lasts_s


def worthwhile_s(jobs: Sequence[JobView], bookings: Bookings, until_s: Array, horizon_s: float) -> Array:
    """Return until when being elsewhere is worth it: so long, too, as a limit here would stop jobs.

    That counts only for sites with room under every limit that begins before the one here ends.

    Parameters
    ----------
    jobs, bookings
        The rows, and what is promised.
    until_s : array
        Shape (J, S): until when it is by the surplus, in seconds from now.
    horizon_s : float
        How far ahead anything counts.
    """
    until_s, rooms_w = until_s.copy(), dict[str, Array]()
    for row, job in enumerate(jobs):
        here = job.site_id or ""
        bound = bookings.pressing(here)
        if bound is None:
            continue
        if here not in rooms_w:
            rooms_w[here] = bookings.rooms_w(np.zeros(until_s.shape[1]), ahead_s=bound.end_s)
        free = rooms_w[here] >= job.power_w - HAIR_W
        until_s[row, free] = np.maximum(until_s[row, free], min(bound.lasts_s, horizon_s))
    return until_s


def why_leave(site: SiteView, bookings: Bookings, now: datetime, *, leaves: bool) -> str:
    """Say why jobs must leave a site; `leaves` False: of one that cannot."""
    if site.draining:
        return f"{site.site_id} is draining"
    bound = bookings.pressing(site.site_id)
    if site.wants_to_shed or bound is None:
        return f"{site.site_id} asks for jobs to be moved away"
    if bound.start_s <= 0.0:
        return f"the grid limit at {site.site_id} leaves less than the jobs there draw"
    limit = f"{w_to_kw(bound.limit_w):g} kW at {now + timedelta(seconds=bound.start_s):%H:%M} UTC"
    return f"{'leaves' if leaves else 'would leave'} before the limit of {limit}"


def _sure_w(site: SiteView, view: FleetView, reach_at: datetime) -> float:
    """Return the watts that the median surplus of a site keeps from now to an instant; -inf: unknown."""
    if site.known_surplus_w is None or site.forecast is None:
        return -inf
    if site.forecast.paths_w is not None:
        return -inf  # most paths may dip below each slot's median at some time or other
    known_at, least_w = view.now, site.known_surplus_w
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
