"""What a move of each job to each site would mean now: figures for all pairs, reasons for one.

`Judge` rates jobs × sites at once through `coordinator.core.feasibility.evaluate`; `judge` puts one pair
into words with the same figures. Owns no choice: which of the feasible moves is made is the policy's.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.core import confidence, feasibility, windows
from coordinator.core.bookings import Bookings
from coordinator.core.containers import lack
from coordinator.core.domain import Figure
from coordinator.core.feasibility import Feasible, Move, MoveArrays, TermArrays
from coordinator.core.leaving import worthwhile_s
from coordinator.core.limits import HAIR_W
from coordinator.core.policy import PlannerSettings
from coordinator.core.starting import arrival_rejections, sites_in_order, slots_term, start_rejections
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worth:
    """The part of `Ratings` in which judges differ."""

    need_here_w: Array
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

    is_valued = False  # whether what import costs counts

    def __init__(self, view: FleetView, settings: PlannerSettings, bookings: Bookings) -> None:
        self.view = view
        self.settings = settings
        self.bookings = bookings
        self.sites = sites_in_order(view)
        self.tolerance = settings.tolerance
        self._curves = {site.site_id: windows.site_curve(view.now, site) for site in self.sites}
        self._everywhere = np.ones(len(self.sites), dtype=np.bool_)
        self._columns = {site.site_id: column for column, site in enumerate(self.sites)}
        self.stacked = windows.stack(list(self._curves.values()))

    def column_of(self, site_id: str) -> int:
        """Return the place of a site in `sites`."""
        return self._columns[site_id]

    def rate(self, jobs: Sequence[JobView]) -> Ratings:
        """Rate jobs against every site, under the bookings as they are now."""
        power = np.array([job.power_w for job in jobs], dtype=np.float64)
        need = power[:, None] + self.bookings.draws_w[None, :]
        ends = self._ends_s(jobs, need)
        until = confidence.end_at_risk(ends, self.settings.epsilon)
        if self.bookings.limits_any:
            until = worthwhile_s(jobs, self.bookings, until, self.settings.horizon_s)
        link = self._links(jobs)
        terms = feasibility.evaluate(_moves(jobs, link, until, along=(-1, 1)), self.tolerance)
        worth = self._worth(jobs, ends, terms)
        return Ratings(
            need_w=need,
            need_here_w=worth.need_here_w,
            link_bps=link,
            ends_s=ends,
            until_s=until,
            terms=terms,
            gain_s=worth.gain_s,
            stay_s=worth.stay_s,
            lasts_s=worth.lasts_s,
        )

    def _ends_s(self, jobs: Sequence[JobView], need_w: Array) -> Array:
        """Return until when each site is open to each job, by `QUANTILES`: as long as surplus covers it."""
        return windows.ends_s(self.stacked, need_w)

    def _worth(self, jobs: Sequence[JobView], ends: Array, terms: TermArrays) -> Worth:
        """Return what each move gains, and what staying has."""
        reach = np.minimum(ends[confidence.MEDIAN], self.settings.horizon_s)
        need_here = self._needs_here_w(jobs)
        stay = np.zeros_like(reach)
        for index in self._places(jobs)[0]:
            here = self._curves[jobs[index].site_id or ""]
            stay[index] = windows.covered_s(here, float(need_here[index]), reach[index])
        gain = np.maximum(0.0, reach - terms.migration_s) - stay
        return Worth(
            need_here_w=need_here,
            gain_s=np.where(np.isnan(gain), -np.inf, gain),
            stay_s=stay,
            lasts_s=self._covered_until_s(jobs, need_here),
        )

    def lasts_s(self, jobs: Sequence[JobView]) -> Array:
        """Return `Ratings.lasts_s` without rating anything."""
        return self._covered_until_s(jobs, self._needs_here_w(jobs))

    def _needs_here_w(self, jobs: Sequence[JobView]) -> Array:
        """Return what the surplus where each job is must cover for it to stay."""
        return np.array([self.bookings.need_here_w(job) for job in jobs], dtype=np.float64)

    def _covered_until_s(self, jobs: Sequence[JobView], need_here_w: Array) -> Array:
        rows, own = self._places(jobs)
        lasts = np.zeros(len(jobs))
        lasts[rows] = windows.ends_at_s(self.stacked, own, need_here_w[rows])[confidence.MEDIAN]
        return lasts

    def _places(self, jobs: Sequence[JobView]) -> tuple[list[int], list[int]]:
        """Return the rows of the jobs that are at a known site, and the columns of those sites."""
        rows = [row for row, job in enumerate(jobs) if job.site_id in self._columns]
        return rows, [self._columns[jobs[row].site_id or ""] for row in rows]

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
        total_s = float(ratings.terms.migration_s[index])
        rejections = arrival_rejections(job, site, self.bookings, total_s)
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
                *self.bookings.limit_terms(job, site.site_id, total_s),
                *answer.terms,
                *self._move_terms(ratings, index),
            ),
            rejections=rejections,
        )

    def fits(self, job: JobView) -> NDArray[np.bool_]:
        """Tell for every site whether it has what the job runs in."""
        if job.container is None:
            return self._everywhere
        lacking = (lack(job.container, site.container_engines, site.container_mounts) for site in self.sites)
        return np.array([not one for one in lacking], dtype=np.bool_)

    def has_room(self, job: JobView, arrives_s: Array | None = None) -> NDArray[np.bool_]:
        """Tell for every site whether its grid limits leave what a job draws; `arrives_s` None: at once."""
        if not self.bookings.limits_any:
            return self._everywhere
        at_s = np.zeros(len(self.sites)) if arrives_s is None else arrives_s
        found: NDArray[np.bool_] = self.bookings.rooms_w(at_s) >= job.power_w - HAIR_W
        return found

    def start_worth_s(self, job: JobView) -> Array:
        """Return for every site for how long its surplus would cover a job that starts there now."""
        need = job.power_w + self.bookings.draws_w[None, :]
        found: Array = np.minimum(
            windows.ends_s(self.stacked, need)[confidence.MEDIAN, 0], self.settings.horizon_s
        )
        return found

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
            terms=(
                *self.arrival_terms(site, float(ratings.need_w[index])),
                *self.bookings.limit_terms(job, site.site_id),
                _lasts_term(until_s),
            ),
            rejections=rejections,
        )

    def here_alternative(
        self, site: SiteView, ratings: Ratings, index: int, rejections: tuple[str, ...]
    ) -> Alternative:
        """Put staying into words; the score is 0, since gains are counted from it."""
        terms = (
            *_surplus_terms(site, float(ratings.need_here_w[index])),
            *self.bookings.here_terms(site.site_id),
            _lasts_term(float(ratings.lasts_s[index])),
        )
        return Alternative(
            site_id=site.site_id, feasible=not rejections, score=0.0, terms=terms, rejections=rejections
        )

    def arrival_terms(self, site: SiteView, need_w: float) -> tuple[Term, ...]:
        """Return the terms that hold for any job that arrives: slots and surplus."""
        return (slots_term(self.bookings.free_slots(site.site_id)), *_surplus_terms(site, need_w))

    def aside(self, job: JobView, column: int, gain_s: float) -> str:
        """Return what else there is to say of a move, as a sentence goes on; "": nothing."""
        return ""

    def margin_s(self, stay_s: Figure) -> Figure:
        """Return the renewable seconds that a voluntary move must gain at least."""
        return self.settings.gain_margin_s + self.settings.gain_margin_frac * stay_s

    def _links(self, jobs: Sequence[JobView]) -> Array:
        """Return what is free from where each job is to every site; NaN: no link, or it is there."""
        link = np.full((len(jobs), len(self.sites)), np.nan)
        for row, job in enumerate(jobs):
            if job.site_id is not None:
                link[row] = self.bookings.rates_from(job.site_id)
                if job.site_id in self._columns:
                    link[row, self._columns[job.site_id]] = np.nan
        return link

    def terms_of(
        self, jobs: Sequence[JobView], link_bps: Array | None = None, until_s: Array | None = None
    ) -> TermArrays:
        """Return the terms of moves of jobs, which lie along the last axis.

        Parameters
        ----------
        jobs : sequence of JobView
            J jobs.
        link_bps, until_s : array or None
            Shape (..., J): rates and ends of windows; None: not known, which leaves energy and break-even.
        """
        unknown = np.full(len(jobs), np.nan)
        link = unknown if link_bps is None else link_bps
        until = unknown if until_s is None else until_s
        return feasibility.evaluate(_moves(jobs, link, until), self.tolerance)

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
    return _judged(view, job_id, [site_id], settings)[site_id]


def judge_everywhere(view: FleetView, job_id: str, settings: PlannerSettings) -> dict[str, Alternative]:
    """Judge a job of the view at each of its sites, as `judge` does, in one go."""
    return _judged(view, job_id, view.sites, settings)


def _judged(
    view: FleetView, job_id: str, site_ids: Collection[str], settings: PlannerSettings
) -> dict[str, Alternative]:
    job, judged = view.jobs[job_id], Judge(view, settings, Bookings(view))
    ratings, made = judged.rate([job]), {}
    for column, site in enumerate(judged.sites):
        if site.site_id not in site_ids:
            continue
        if site.site_id == job.site_id:
            made[site.site_id] = judged.here_alternative(site, ratings, 0, ("the job is there already",))
        elif job.phase is Phase.QUEUED:
            made[site.site_id] = judged.start_alternative(job, site, ratings, (0, column))
        else:
            made[site.site_id] = judged.move_alternative(job, site, ratings, (0, column))
    return made


def _moves(
    jobs: Sequence[JobView], link_bps: Array, until_s: Array, *, along: tuple[int, ...] = (-1,)
) -> MoveArrays:
    """Return moves of jobs, whose own figures take the shape `along`."""

    def figures(values: Iterable[float]) -> Array:
        return np.fromiter(values, dtype=np.float64, count=len(jobs)).reshape(along)

    watts = figures(job.power_w for job in jobs)
    return MoveArrays(
        checkpoint_bytes=figures(float(job.stop_bytes or job.checkpoint_bytes or np.nan) for job in jobs),
        ahead_bytes=figures(_ahead_bytes(job) for job in jobs),
        link_bps=link_bps,
        seal_s=figures(job.seal_s for job in jobs),
        load_s=figures(job.load_s for job in jobs),
        downtime_s=figures(job.downtime_s for job in jobs),
        until_window_end_s=until_s,
        job_power_w=watts,
        source_power_w=watts,
        destination_power_w=watts,
    )


def _ahead_bytes(job: JobView) -> float:
    """Bytes that cross before the stop: the whole checkpoint, where the stop sends a difference to it."""
    whole = job.checkpoint_bytes or 0
    return float(whole) if job.stop_bytes is not None and job.stop_bytes < whole else 0.0


def _surplus_terms(site: SiteView, need_w: float) -> tuple[Term, ...]:
    known_w = site.known_surplus_w
    if known_w is None:
        return ()
    enough = known_w >= need_w
    remedy = "" if enough else f"{need_w - known_w:.0f} W more surplus"
    return (Term(name="surplus", value=known_w, limit=need_w, unit="W", satisfied=enough, remedy=remedy),)


def _lasts_term(lasts_s: float) -> Term:
    return Term(name="surplus_lasts", value=lasts_s, limit=0.0, unit="s", satisfied=lasts_s > 0.0)
