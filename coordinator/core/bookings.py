"""What one planning tick has already promised: slots, link rates and watts at each site.

Starts from what the view says is held; grows while decisions are taken, so that two of them never
take the same slot or the same bits per second.
"""

from collections.abc import Iterable
from math import inf

from coordinator.model.view import FleetView, JobView, Phase


class Bookings:
    """The free slots, link rates and planned draw of a fleet while one tick decides.

    A slot or rate that a move will free is not given away in the same tick: the move may fail.

    Parameters
    ----------
    view : FleetView
        The fleet at the instant of the decision.
    """

    def __init__(self, view: FleetView) -> None:
        self._free_slots = {s.site_id: max(0, s.slots - s.slots_held) for s in view.sites.values()}
        self._free_bps = {pair: max(0.0, link.free_bps) for pair, link in view.links.items()}
        self._whole_bps = {pair: link.whole_bps for pair, link in view.links.items()}
        self._up_bps = {s.site_id: _at_least_0(s.uplink_free_bps) for s in view.sites.values()}
        self._down_bps = {s.site_id: _at_least_0(s.downlink_free_bps) for s in view.sites.values()}
        self._residents: dict[str, list[JobView]] = {site_id: [] for site_id in view.sites}
        for job in sorted(view.jobs.values(), key=_allotment_order):
            site_id = draws_at(job)
            if site_id in self._residents:
                self._residents[site_id].append(job)
        self._draw_w = {site_id: _watts(jobs) for site_id, jobs in self._residents.items()}

    def free_slots(self, site_id: str) -> int:
        """Return the slots that nobody holds or was promised, >= 0."""
        return self._free_slots.get(site_id, 0)

    def free_bps(self, source: str, destination: str) -> float | None:
        """Return the rate that no transfer was promised, in bit/s; None when no link is known.

        It is what the link, the source's uplink and the destination's downlink all have left.
        """
        free_bps = self._free_bps.get((source, destination))
        if free_bps is None:
            return None
        return min(free_bps, self._up_bps.get(source, inf), self._down_bps.get(destination, inf))

    def whole_bps(self, source: str, destination: str) -> float | None:
        """Return the rate of a link with nothing on it, in bit/s; None when it is not known."""
        return self._whole_bps.get((source, destination))

    def draw_w(self, site_id: str) -> float:
        """Return the watts of all jobs that run at the site, are bound for it or were promised to it."""
        return self._draw_w.get(site_id, 0.0)

    def need_here_w(self, job: JobView) -> float:
        """Return what the surplus at the job's site must cover for the job to run on it, in watts.

        Surplus is allotted to jobs that may not move first, then to the longest resident; a job needs
        its own watts on top of those of the jobs before it.
        """
        need_w = 0.0
        for other in self._residents.get(job.site_id or "", ()):
            need_w += other.power_w
            if other.job_id == job.job_id:
                return need_w
        return need_w + job.power_w

    def start(self, job: JobView, site_id: str) -> None:
        """Promise a slot and the job's watts at a site."""
        self._free_slots[site_id] -= 1
        self._residents[site_id].append(job)
        self._draw_w[site_id] = _watts(self._residents[site_id])

    def move(self, job: JobView, destination: str, rate_bps: float) -> None:
        """Promise a slot and the job's watts at the destination, and a rate on the link to it."""
        assert job.site_id is not None  # only a job that is somewhere can move
        pair = (job.site_id, destination)
        free_bps = self.free_bps(*pair)
        assert free_bps is not None and rate_bps <= free_bps
        self._free_bps[pair] -= rate_bps
        self._up_bps[job.site_id] -= rate_bps
        self._down_bps[destination] -= rate_bps
        leaving = self._residents[job.site_id]
        self._residents[job.site_id] = [other for other in leaving if other.job_id != job.job_id]
        self._draw_w[job.site_id] = _watts(self._residents[job.site_id])
        self.start(job, destination)


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
