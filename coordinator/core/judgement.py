"""What a move of each job to each site would mean now: figures for all pairs, reasons for one.

`Judge` rates jobs × sites at once through `coordinator.core.feasibility.evaluate`; `judge` puts one pair
into words with the same figures. Owns no choice: which of the feasible moves is made is the policy's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.core import confidence, feasibility, windows
from coordinator.core.bookings import Bookings
from coordinator.core.feasibility import Feasible, Move, MoveArrays, TermArrays, Tolerance
from coordinator.core.policy import PlannerSettings
from coordinator.core.starting import site_rejections, sites_in_order, slots_term, start_rejections
from coordinator.model.decision import Alternative, Term
from coordinator.model.view import FleetView, JobView, Phase, SiteView
from sterna.errors import PermanentError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ratings:
    """Figures for jobs (rows) × sites (columns, by id). Seconds unless the name says otherwise.

    `gain_s`: renewable seconds at the destination until its window ends (median, within the horizon) less
    what staying offers in the same time; -inf where T_mig is not known. `lasts_s` (rows only): how long
    the surplus where the job is goes on covering it, by the median.
    """

    need_w: Array
    need_here_w: Array
    link_bps: Array
    ends_s: Array
    until_s: Array
    terms: TermArrays
    gain_s: Array
    stay_s: Array
    lasts_s: Array


class Judge:
    """Rates jobs against the sites of one view under what was booked so far.

    Parameters
    ----------
    view : FleetView
        The fleet at one instant.
    settings : PlannerSettings
        The planner's numbers.
    bookings : Bookings
        What this tick has promised; read again at each call.
    """

    def __init__(self, view: FleetView, settings: PlannerSettings, bookings: Bookings) -> None:
        self.view = view
        self.settings = settings
        self.bookings = bookings
        self.sites = sites_in_order(view)
        self.tolerance = Tolerance(
            alpha=settings.alpha,
            eta=settings.eta,
            network_wh_per_gb=settings.network_wh_per_gb,
            # Counted for the time after the source's window, when the job would draw from its grid.
            avoided_nonrenewable_frac=1.0 - settings.grid_renewable_frac,
        )
        self._curves = {site.site_id: windows.site_curve(view.now, site) for site in self.sites}
        self._columns = {site.site_id: column for column, site in enumerate(self.sites)}
        self._stack = windows.stack(list(self._curves.values()))

    def rate(self, jobs: Sequence[JobView]) -> Ratings:
        """Rate jobs against every site, under the bookings as they are now."""
        power = np.array([job.power_w for job in jobs])
        draws = np.array([self.bookings.draw_w(site.site_id) for site in self.sites])
        need = power[:, None] + draws[None, :]
        ends = windows.ends_s(self._stack, need)
        until = confidence.end_at_risk(ends, self.settings.epsilon)
        link = np.array([[self._link_bps(job, site) for site in self.sites] for job in jobs])
        link = link.reshape(len(jobs), len(self.sites))
        terms = feasibility.evaluate(self._moves(jobs, power, link, until), self.tolerance)
        reach = np.minimum(ends[confidence.MEDIAN], self.settings.horizon_s)
        need_here = np.array([self.bookings.need_here_w(job) for job in jobs])
        stay = np.zeros_like(reach)
        lasts = np.zeros(len(jobs))
        here_ends = windows.ends_s(self._stack, np.repeat(need_here[:, None], len(self.sites), axis=1))
        for index, job in enumerate(jobs):
            here = self._curves.get(job.site_id or "")
            if here is not None:
                stay[index] = windows.covered_s(here, float(need_here[index]), reach[index])
                lasts[index] = here_ends[confidence.MEDIAN, index, self._columns[job.site_id or ""]]
        gain = np.maximum(0.0, reach - terms.migration_s) - stay
        return Ratings(
            need_w=need,
            need_here_w=need_here,
            link_bps=link,
            ends_s=ends,
            until_s=until,
            terms=terms,
            gain_s=np.where(np.isnan(gain), -np.inf, gain),
            stay_s=stay,
            lasts_s=lasts,
        )

    def move_alternative(
        self, job: JobView, site: SiteView, ratings: Ratings, index: tuple[int, int]
    ) -> Alternative:
        """Put one pair into words: every term, every reason that makes it infeasible.

        Parameters
        ----------
        job, site
            The pair; the job is somewhere else.
        ratings : Ratings
            Figures that hold the pair.
        index : tuple of int
            Its row and column in `ratings`.
        """
        move = self._move(job, ratings, index)
        answer = feasibility.explain(move, feasibility.row(ratings.terms, index), self.tolerance)
        rejections = site_rejections(site, self.bookings.free_slots(site.site_id))
        if not job.may_migrate:
            rejections += ("the job may not migrate",)
        if not isinstance(answer, Feasible):
            rejections += tuple(reason.sentence for reason in answer.reasons)
        gain_s = float(ratings.gain_s[index])
        return Alternative(
            site_id=site.site_id,
            feasible=not rejections,
            score=gain_s if np.isfinite(gain_s) else -self.settings.horizon_s,
            terms=(
                *self.arrival_terms(site, float(ratings.need_w[index])),
                *answer.terms,
                *self._move_terms(ratings, index),
            ),
            rejections=rejections,
        )

    def start_alternative(
        self, job: JobView, site: SiteView, ratings: Ratings, index: tuple[int, int]
    ) -> Alternative:
        """Put a start of a queued job at one site into words; the score is its renewable seconds there."""
        rejections = start_rejections(job, site, self.bookings)
        until_s = float(ratings.ends_s[(confidence.MEDIAN, *index)])
        return Alternative(
            site_id=site.site_id,
            feasible=not rejections,
            score=min(until_s, self.settings.horizon_s),
            terms=(*self.arrival_terms(site, float(ratings.need_w[index])), _lasts_term(until_s)),
            rejections=rejections,
        )

    def here_alternative(
        self, site: SiteView, ratings: Ratings, index: int, rejections: tuple[str, ...]
    ) -> Alternative:
        """Put staying into words; the score is 0, since gains are counted from it."""
        terms = (
            *_surplus_terms(site, float(ratings.need_here_w[index])),
            _lasts_term(float(ratings.lasts_s[index])),
        )
        return Alternative(
            site_id=site.site_id, feasible=not rejections, score=0.0, terms=terms, rejections=rejections
        )

    def arrival_terms(self, site: SiteView, need_w: float) -> tuple[Term, ...]:
        """Return the terms that hold for any job that arrives: slots and surplus."""
        return (slots_term(self.bookings.free_slots(site.site_id)), *_surplus_terms(site, need_w))

    def margin_s(self, stay_s: float) -> float:
        """Return the renewable seconds that a voluntary move must gain at least."""
        return self.settings.gain_margin_s + self.settings.gain_margin_frac * stay_s

    def _link_bps(self, job: JobView, site: SiteView) -> float:
        if job.site_id is None or job.site_id == site.site_id:
            return np.nan
        free_bps = self.bookings.free_bps(job.site_id, site.site_id)
        return np.nan if free_bps is None else free_bps

    def _moves(self, jobs: Sequence[JobView], power: Array, link: Array, until: Array) -> MoveArrays:
        def column(values: list[float]) -> Array:
            return np.array(values)[:, None]

        watts = power[:, None]
        return MoveArrays(
            checkpoint_bytes=column(
                [float(job.stop_bytes or job.checkpoint_bytes or np.nan) for job in jobs]
            ),
            ahead_bytes=column([_ahead_bytes(job) for job in jobs]),
            link_bps=link,
            seal_s=column([job.seal_s for job in jobs]),
            load_s=column([job.load_s for job in jobs]),
            downtime_s=column([job.downtime_s for job in jobs]),
            until_window_end_s=until,
            job_power_w=watts,
            source_power_w=watts,
            destination_power_w=watts,
        )

    def _move(self, job: JobView, ratings: Ratings, index: tuple[int, int]) -> Move:
        link_bps = float(ratings.link_bps[index])
        return Move(
            checkpoint_bytes=job.stop_bytes or job.checkpoint_bytes or None,
            ahead_bytes=_ahead_bytes(job),
            link_bps=None if np.isnan(link_bps) else link_bps,
            seal_s=job.seal_s,
            load_s=job.load_s,
            downtime_s=job.downtime_s,
            until_window_end_s=float(ratings.until_s[index]),
            job_power_w=job.power_w,
            source_power_w=job.power_w,
            destination_power_w=job.power_w,
        )

    def _move_terms(self, ratings: Ratings, index: tuple[int, int]) -> tuple[Term, ...]:
        total_s, gain_s = float(ratings.terms.migration_s[index]), float(ratings.gain_s[index])
        if np.isnan(total_s):
            return ()
        low, middle, high = (float(end) for end in ratings.ends_s[:, index[0], index[1]])
        chance = confidence.chance_beyond((low, middle, high), total_s * (1.0 + 1.0 / self.settings.alpha))
        wanted = 1.0 - self.settings.epsilon
        margin_s = self.margin_s(float(ratings.stay_s[index]))
        return (
            Term(name="probability", value=chance, limit=wanted, unit="1", satisfied=chance >= wanted),
            Term(name="gain", value=gain_s, limit=margin_s, unit="s", satisfied=gain_s > margin_s),
        )


def judge(view: FleetView, job_id: str, site_id: str, settings: PlannerSettings) -> Alternative:
    """Judge any pair now, whatever the policy thinks of it: for a move by hand and for `job explain`.

    Parameters
    ----------
    view : FleetView
        The fleet now.
    job_id, site_id : str
        The pair.
    settings : PlannerSettings
        The planner's numbers.

    Returns
    -------
    Alternative
        Every term, and every reason against it; a queued job is judged for a start there.

    Raises
    ------
    PermanentError
        The view has no such job or site.
    """
    if job_id not in view.jobs:
        raise PermanentError(f"no job {job_id}")
    if site_id not in view.sites:
        raise PermanentError(f"no site {site_id}")
    job, site = view.jobs[job_id], view.sites[site_id]
    judged = Judge(view, settings, Bookings(view))
    ratings = judged.rate([job])
    if site_id == job.site_id:
        return judged.here_alternative(site, ratings, 0, ("the job is there already",))
    index = (0, judged.sites.index(site))
    if job.phase is Phase.QUEUED:
        return judged.start_alternative(job, site, ratings, index)
    return judged.move_alternative(job, site, ratings, index)


def _ahead_bytes(job: JobView) -> float:
    """Bytes that cross before the stop: the whole checkpoint, where the stop sends a difference to it."""
    whole = job.checkpoint_bytes or 0
    return float(whole) if job.stop_bytes is not None and job.stop_bytes < whole else 0.0


def _surplus_terms(site: SiteView, need_w: float) -> tuple[Term, ...]:
    if site.surplus_w is None or not site.surplus_quality_ok:
        return ()
    enough = site.surplus_w >= need_w
    remedy = "" if enough else f"{need_w - site.surplus_w:.0f} W more surplus"
    return (
        Term(name="surplus", value=site.surplus_w, limit=need_w, unit="W", satisfied=enough, remedy=remedy),
    )


def _lasts_term(lasts_s: float) -> Term:
    return Term(name="surplus_lasts", value=lasts_s, limit=0.0, unit="s", satisfied=lasts_s > 0.0)
