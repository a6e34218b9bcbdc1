"""What one planning tick has already promised: slots, link rates, watts at each site and under its limits.

Starts from what the view says is held; grows while decisions are taken, so that two of them never
take the same slot or the same bits per second.
"""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from math import inf, isfinite, isnan, nan

import numpy as np
from numpy.typing import NDArray

from coordinator.core.limits import AHEAD_S, Bound, Ceilings, limit_term
from coordinator.model.decision import Term
from coordinator.model.links import LinkTable
from coordinator.model.view import FleetView, JobView, LinkView, Phase

Array = NDArray[np.float64]

_NO_LINK = LinkView(source="", destination="", free_bps=nan)


class Bookings:
    """The free slots, link rates and planned draw of a fleet while one tick decides.

    A slot or rate that a move will free is not given away in the same tick: the move may fail. What is
    told of all sites at once is in order of their ids.

    Parameters
    ----------
    view : FleetView
        The fleet at the instant of the decision.
    """

    def __init__(self, view: FleetView) -> None:
        self._names = sorted(view.sites)
        sites = [view.sites[name] for name in self._names]
        self._column = {name: column for column, name in enumerate(self._names)}
        self._slots = np.array([max(0, site.slots - site.slots_held) for site in sites], dtype=np.int64)
        self._up_bps = {site.site_id: _at_least_0(site.uplink_free_bps) for site in sites}
        self._down_bps = np.array([_at_least_0(site.downlink_free_bps) for site in sites], dtype=np.float64)
        # A large fleet has a million links, of which a tick looks at those of a few sources.
        self._known_links = view.links
        self._link_bps: dict[str, Array] = {}
        self._residents: dict[str, list[JobView]] = {name: [] for name in self._names}
        for job in sorted(view.jobs.values(), key=_allotment_order):
            site_id = draws_at(job)
            if site_id in self._residents:
                self._residents[site_id].append(job)
        self._needs_w: dict[str, dict[str, float]] = {}
        self._draw_w = np.array([_watts(jobs) for jobs in self._residents.values()], dtype=np.float64)
        self._ceilings = Ceilings(view, self._names)
        self._limited_w = np.zeros(len(sites))
        for job in view.jobs.values() if self._ceilings else ():
            for site_id in {job.site_id, job.bound_for}:
                if site_id is not None and site_id in self._column:
                    self._limited_w[self._column[site_id]] += job.power_w

    @property
    def slots(self) -> NDArray[np.int64]:
        """Return the free slots of every site, >= 0; not to be written to."""
        return self._slots

    @property
    def draws_w(self) -> Array:
        """Return `draw_w` of every site; not to be written to."""
        return self._draw_w

    def free_slots(self, site_id: str) -> int:
        """Return the slots that nobody holds or was promised, >= 0."""
        column = self._column.get(site_id)
        return 0 if column is None else int(self._slots[column])

    def rates_from(self, source: str) -> Array:
        """Return `free_bps` from one site to every site; NaN: no link is known."""
        free_bps = np.minimum(self._links_of(source), self._up_bps.get(source, inf))
        return np.minimum(free_bps, self._down_bps)

    def free_bps(self, source: str, destination: str) -> float | None:
        """Return the rate that no transfer was promised, in bit/s; None when no link is known.

        It is what the link, the source's uplink and the destination's downlink all have left.
        """
        column = self._column.get(destination)
        if column is None:
            return None
        free_bps = float(self._links_of(source)[column])
        if isnan(free_bps):
            return None
        return min(free_bps, self._up_bps.get(source, inf), float(self._down_bps[column]))

    def whole_bps(self, source: str, destination: str) -> float | None:
        """Return the rate of a link with nothing on it, in bit/s; None when it is not known."""
        return self._known_links.get((source, destination), _NO_LINK).whole_bps

    def draw_w(self, site_id: str) -> float:
        """Return the watts of all jobs that run at the site, are bound for it or were promised to it."""
        column = self._column.get(site_id)
        return 0.0 if column is None else float(self._draw_w[column])

    def need_here_w(self, job: JobView) -> float:
        """Return what the surplus at the job's site must cover for the job to run on it, in watts.

        Surplus is allotted to jobs that may not move first, then to the longest resident; a job needs
        its own watts on top of those of the jobs before it.
        """
        needs_w = self._needs_w.get(job.site_id or "")
        if needs_w is None:
            residents = self._residents.get(job.site_id or "", [])
            sums_w = accumulate(other.power_w for other in residents)
            needs_w = dict(zip((other.job_id for other in residents), sums_w, strict=True))
            self._needs_w[job.site_id or ""] = needs_w
        known_w = needs_w.get(job.job_id)
        return self.draw_w(job.site_id or "") + job.power_w if known_w is None else known_w

    @property
    def limits_any(self) -> bool:
        """Tell whether a grid limit holds anywhere, or is known to come."""
        return bool(self._ceilings)

    def rooms_w(
        self, arrives_s: Array, columns: NDArray[np.intp] | None = None, ahead_s: float = AHEAD_S
    ) -> Array:
        """Return what grid limits leave sites for one more job, in watts; inf: no limit; below 0: none.

        What a move away will free is not given away, as for slots: until then it is drawn.

        Parameters
        ----------
        arrives_s : array
            Shape (..., S): when the job would arrive, in seconds from now; NaN: not known.
        columns : array or None
            Shape (S): which sites; None: all.
        ahead_s : float
            Limits count that begin so soon after the arrival.
        """
        some = np.arange(len(self._names)) if columns is None else columns
        found: Array = self._ceilings.most_w(some, arrives_s, ahead_s) - self._limited_w[some]
        return found

    def against(self, job: JobView, site_id: str, arrives_s: float = 0.0) -> str:
        """Say why the grid limits at a site do not leave what a job draws; "": they do."""
        column = self._column[site_id]
        return self._ceilings.against(column, float(self._limited_w[column]), job.power_w, arrives_s)

    def limit_terms(self, job: JobView, site_id: str, arrives_s: float = 0.0) -> tuple[Term, ...]:
        """Return the term of the grid limit that leaves least; none where there is no limit."""
        column = self._column[site_id]
        bound = self._ceilings.binding(column, arrives_s)
        if bound is None or not isfinite(bound.most_w):
            return ()
        return (limit_term(bound.most_w - float(self._limited_w[column]), job.power_w),)

    def here_terms(self, site_id: str) -> tuple[Term, ...]:
        """Return the term that says whether the limits in force leave what the jobs of a site draw."""
        most_w = self.limit_now_w(site_id)
        return (limit_term(most_w, self.draw_w(site_id)),) if isfinite(most_w) else ()

    def limit_now_w(self, site_id: str) -> float:
        """Return what the limits in force leave for all jobs of a site; inf: no limit, -inf: not known."""
        return self._ceilings.now_w(self._column[site_id])

    def pressing(self, site_id: str) -> Bound | None:
        """Return the limit, in force or about to be, that leaves less than the jobs of a site draw."""
        column = self._column.get(site_id)
        return None if column is None else self._ceilings.pressing(column, float(self._draw_w[column]))

    def start(self, job: JobView, site_id: str) -> None:
        """Promise a slot and the job's watts at a site."""
        self._slots[self._column[site_id]] -= 1
        self._limited_w[self._column[site_id]] += job.power_w
        self._residents[site_id].append(job)
        self._add_up(site_id)

    def move(self, job: JobView, destination: str, rate_bps: float) -> None:
        """Promise a slot and the job's watts at the destination, and a rate on the link to it."""
        assert job.site_id is not None  # only a job that is somewhere can move
        free_bps = self.free_bps(job.site_id, destination)
        assert free_bps is not None and rate_bps <= free_bps
        column = self._column[destination]
        self._links_of(job.site_id)[column] -= rate_bps
        self._up_bps[job.site_id] -= rate_bps
        self._down_bps[column] -= rate_bps
        leaving = self._residents[job.site_id]
        self._residents[job.site_id] = [other for other in leaving if other.job_id != job.job_id]
        self._add_up(job.site_id)
        self.start(job, destination)

    def take_back(self, job: JobView, destination: str, rate_bps: float) -> None:
        """Undo a `move` of this tick."""
        assert job.site_id is not None
        column = self._column[destination]
        self._links_of(job.site_id)[column] += rate_bps
        self._up_bps[job.site_id] += rate_bps
        self._down_bps[column] += rate_bps
        self._slots[column] += 1
        self._limited_w[column] -= job.power_w
        there = self._residents[destination]
        self._residents[destination] = [other for other in there if other.job_id != job.job_id]
        self._residents[job.site_id] = sorted([*self._residents[job.site_id], job], key=_allotment_order)
        self._add_up(destination)
        self._add_up(job.site_id)

    def _links_of(self, source: str) -> Array:
        found = self._link_bps.get(source)
        if found is None:
            links = self._known_links
            if isinstance(links, LinkTable):
                found = links.free_from(source, self._names)
            else:
                found = np.array([links.get((source, name), _NO_LINK).free_bps for name in self._names])
            found = self._link_bps[source] = np.maximum(found, 0.0)
        return found

    def _add_up(self, site_id: str) -> None:
        self._needs_w.pop(site_id, None)
        self._draw_w[self._column[site_id]] = _watts(self._residents[site_id])


def rooms_under_limits(view: FleetView) -> Mapping[str, float]:
    """Return what grid limits leave each site that has one for one more job now, in watts; below 0: none."""
    limited = [site.site_id for site in view.sites.values() if site.limits]
    if not limited:
        return {}
    rooms_w = Bookings(view).rooms_w(np.zeros(len(view.sites)))
    by_site = dict(zip(sorted(view.sites), rooms_w.tolist(), strict=True))
    return {site_id: by_site[site_id] for site_id in limited}


def draws_at(job: JobView) -> str | None:
    """Return the site whose surplus the job needs: where it runs, or where its migration takes it."""
    if job.phase is Phase.QUEUED:
        return None
    if job.phase is Phase.MIGRATING and job.bound_for is not None:
        return job.bound_for
    return job.site_id


def _watts(jobs: Iterable[JobView]) -> float:
    return sum(job.power_w for job in jobs)


def _at_least_0(free_bps: float | None) -> float:
    return inf if free_bps is None else max(0.0, free_bps)


def _allotment_order(job: JobView) -> tuple[bool, bool, float, str]:
    since = job.resident_since
    return (job.may_migrate, since is None, since.timestamp() if since is not None else 0.0, job.job_id)
