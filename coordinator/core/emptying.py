"""Draining sites while one tick decides: who goes first, how many share a link, and words about it.

Knows no policy. Rates and order are those of `coordinator.core.sharing`.
"""

from collections import Counter
from collections.abc import Iterable

from coordinator.core import sharing
from coordinator.core.bookings import Bookings
from coordinator.core.judgement import Ratings
from coordinator.model.view import FleetView, JobView, Phase

Cell = tuple[int, int]
"""Row and column of a pair in `Ratings`."""


class Emptying:
    """The jobs that must leave draining sites.

    Parameters
    ----------
    view : FleetView
        The fleet at one instant.
    bookings : Bookings
        What this tick has promised; read again at each call.
    leaving : iterable of JobView
        Those that are to leave and have not been told to.
    """

    def __init__(self, view: FleetView, bookings: Bookings, leaving: Iterable[JobView]) -> None:
        self._view = view
        self._bookings = bookings
        self._waiting = Counter(job.site_id for job in leaving if job.may_migrate)
        self._crossing = Counter(
            (job.site_id, job.bound_for) for job in view.jobs.values() if job.phase is Phase.MIGRATING
        )

    def rate_bps(self, job: JobView, site_id: str, ratings: Ratings, cell: Cell) -> float:
        """Return the rate that a job gets over the link to a site; 0: others are on it."""
        free_bps = float(ratings.link_bps[cell])
        if not free_bps > 0.0:
            return 0.0
        pair = (job.site_id, site_id)
        whole_bps = max(free_bps, self._bookings.whole_bps(job.site_id or "", site_id) or 0.0)
        transfer_s, total_s = float(ratings.terms.transfer_s[cell]), float(ratings.terms.migration_s[cell])
        lanes = sharing.lanes(transfer_s * free_bps / whole_bps, total_s - transfer_s)
        taken = self._crossing[pair]
        return sharing.share_bps(
            whole_bps,
            free_bps,
            lanes_in_all=min(lanes, taken + self._bookings.free_slots(site_id)),
            taken=taken,
            waiting=max(1, self._waiting[job.site_id]),
        )

    def saved_w(self, job: JobView, ratings: Ratings, cell: Cell) -> float:
        """Return what a job's move saves for its time on the link; see `sharing.saved_w`."""
        return sharing.saved_w(
            job.power_w, float(ratings.gain_s[cell]), float(ratings.terms.transfer_s[cell])
        )

    def predicted_s(self, rate_bps: float, ratings: Ratings, cell: Cell) -> float:
        """Return what a move takes at most, should the others on its link never lend it their rates."""
        stretch = float(ratings.link_bps[cell]) / rate_bps - 1.0
        return float(ratings.terms.migration_s[cell] + ratings.terms.transfer_s[cell] * stretch)

    def leaves(self, job: JobView, site_id: str) -> None:
        """Take a job for gone."""
        self._waiting[job.site_id] -= 1
        self._crossing[job.site_id, site_id] += 1

    def company(self, job: JobView, site_id: str) -> str:
        """Say with whom a job that has just been told to leave shares its link; empty where it is alone."""
        others, waiting = self._crossing[job.site_id, site_id] - 1, self._waiting[job.site_id]
        parts = []
        if others > 0:
            parts.append(f"it shares the link with {others} more")
        if waiting > 0:
            parts.append(f"{waiting} still to leave")
        return "".join(f"; {part}" for part in parts)

    def queue(self, job: JobView) -> str:
        """Say what a job that stays is waiting for; empty: for nothing that is under way."""
        ahead = sum(count for (source, _), count in self._crossing.items() if source == job.site_id)
        return f"waits for its turn: {ahead} on their way" if ahead else ""
