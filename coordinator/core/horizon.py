"""What jobs would get of the sites' surplus over the time ahead: expected renewable energy, and its gain.

A job has what the others at the site leave, whole or in part: min(P, surplus - their draw). Where more jobs
are than the surplus covers, each of them counts as the last one, since it is the last share that a departure
saves. Where the view tells what import costs, every joule counts by that (`valuing`), and a place is also
gone to because it imports for less. Owns the figures; gates, order and words are `moving`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coordinator.core.bookings import Bookings
from coordinator.core.confidence import QUANTILES
from coordinator.core.feasibility import TermArrays
from coordinator.core.judgement import Judge, Ratings, Worth
from coordinator.core.policy import PlannerSettings
from coordinator.core.valuing import Columns, Costs, costs_of
from coordinator.core.windows import SurplusCurve
from coordinator.model.decision import Alternative, Term
from coordinator.model.view import FleetView, JobView, SiteView
from sterna.units import SECONDS_PER_HOUR, joules_to_wh, s_to_hours

Array = NDArray[np.float64]

WEIGHTS = (0.3, 0.4, 0.3)
"""Of `QUANTILES` in a mean: Swanson's rule for 0.10, 0.50 and 0.90."""
LEAST_W = 1e-6  # a draw below this is none
_BLOCK = 1_000_000  # figures held in memory at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outlook:
    """The surplus of S sites side by side: `edges_s` (S, K + 1) from now, `watts` (3, S, K), >= 0.

    `costs` (S, K): what import costs, as shares of the dearest; 1 throughout where energy alone counts.
    """

    edges_s: Array
    watts: Array
    costs: Array

    @property
    def worths(self) -> Array:
        """Return what surplus saves; nothing where import is paid for, since then export costs as much."""
        return np.maximum(0.0, self.costs)


def outlook(curves: Sequence[SurplusCurve]) -> Outlook:
    """Put curves side by side, in their order; the shorter end with steps of no length."""
    longest = max((len(steps.edges_s) for steps in curves), default=1)
    edges = np.zeros((len(curves), longest))
    watts = np.zeros((len(QUANTILES), len(curves), longest - 1))
    for index, steps in enumerate(curves):
        count = len(steps.edges_s)
        edges[index, :count] = steps.edges_s
        edges[index, count:] = steps.edges_s[-1]
        watts[:, index, : count - 1] = np.maximum(steps.watts, 0.0)
    return Outlook(edges_s=edges, watts=watts, costs=np.ones(watts.shape[1:]))


def at_cost(ahead: Outlook, costs: Costs, until_s: float) -> Outlook:
    """Return what is ahead until then, throughout, with what import costs; no forecast: no surplus."""
    edges = np.concatenate([_before(ahead.edges_s, until_s), _before(costs.edges_s, until_s)[:, 1:]], axis=1)
    edges = np.sort(np.minimum(edges, until_s), axis=1)
    here, cost = (_steps_at(edges_s, edges[:, :-1]) for edges_s in (ahead.edges_s, costs.edges_s))
    watts = np.pad(ahead.watts, ((0, 0), (0, 0), (0, 1)))  # beyond the last edge
    return Outlook(
        edges_s=edges,
        watts=np.take_along_axis(watts, here[None], axis=2),
        costs=np.take_along_axis(costs.shares, np.minimum(cost, costs.shares.shape[1] - 1), axis=1),
    )


def _before(edges_s: Array, until_s: float) -> Array:
    """Leave out edges that are later at every site, but for the first."""
    return edges_s[:, : 1 + int((edges_s < until_s).sum(axis=1).max())]


def _steps_at(edges_s: Array, times_s: Array) -> NDArray[np.intp]:
    """Return the step of each site in which each of its times lies."""
    found: NDArray[np.intp] = (edges_s[:, None, :] <= times_s[:, :, None]).sum(axis=2) - 1
    return found


def expected_j(
    ahead: Outlook, others_w: Array, power_w: Array, from_s: Array, until_s: float | Array
) -> Array:
    """Return the renewable energy that each job can expect at each site, by what import costs meanwhile.

    Parameters
    ----------
    ahead : Outlook
        S sites; time beyond their forecasts brings nothing.
    others_w : array
        Shape (J, S): what others draw there, in watts.
    power_w : array
        Shape (J): what the job draws.
    from_s : array
        Shape (J, S): when it would run there, in seconds from now, >= 0; NaN: not known.
    until_s : float or array
        Where counting ends, in seconds from now; shape (J): for each job.

    Returns
    -------
    array
        Shape (J, S), in J, >= 0; NaN where `from_s` is.
    """
    expected = np.empty(others_w.shape)
    begins, last = ahead.edges_s[:, :-1], np.broadcast_to(until_s, power_w.shape)
    worths = ahead.worths
    block = max(1, _BLOCK // max(1, ahead.watts.size))
    for start in range(0, len(power_w), block):
        some = slice(start, start + block)
        others, most = others_w[some, :, None], power_w[some, None, None]
        mean_w = np.zeros((*others.shape[:2], ahead.watts.shape[2]))
        for weight, watts in zip(WEIGHTS, ahead.watts, strict=True):
            mean_w += weight * np.clip(watts - others, 0.0, most)
        ends = np.minimum(ahead.edges_s[:, 1:], last[some, None, None])
        lasts_s = np.maximum(0.0, ends - np.maximum(begins, from_s[some, :, None]))
        expected[some] = (mean_w * lasts_s * worths).sum(axis=2)
    return np.where(np.isnan(from_s), np.nan, expected)


def import_s(ahead: Outlook, from_s: Array, until_s: float | Array) -> Array:
    """Return how many seconds of the dearest import cost as much as import does; see `expected_j`."""
    spent = np.empty(from_s.shape)
    last = np.broadcast_to(until_s, len(from_s))
    for row, (begin_s, end_s) in enumerate(zip(from_s, last.tolist(), strict=True)):
        edges = np.clip(ahead.edges_s, begin_s[:, None], np.maximum(begin_s, end_s)[:, None])
        spent[row] = (np.diff(edges) * ahead.costs).sum(axis=1)
    return spent


class HorizonJudge(Judge):
    """Rates moves by the expected renewable energy that they gain, less what they cost.

    Energy is told as seconds of the job's own draw. `gain_s` is net of the move's energy, `stay_s` is what
    staying can expect, `lasts_s` how long the surplus covers every job at the site.

    Where import is told to cost something, energy counts by it: seconds are those of the job's draw where
    import is dearest, and a gain includes what import costs less there than here. The time under way, in
    which other jobs' work is done and not this one's, and the energy of the move count at the dearer of the
    two sites. A metered site is open as long as its import stays below what it costs now where the job is, by
    the margin that a gain must have, as if it had surplus.

    Parameters
    ----------
    view, settings, bookings
        See `Judge`.
    reach_frac : float
        Share of `settings.horizon_s` over which energy is counted, above 0, at most 1. What comes later is
        left to later moves: neither forecasts nor the other jobs hold still for a whole horizon.

    Attributes
    ----------
    costs : Costs or None
        What import costs; None: its energy alone counts.
    dearest, import_s : array
        Shape (S): what import costs there when it is dearest, as a share, and `import_s` from now on.
    """

    def __init__(
        self, view: FleetView, settings: PlannerSettings, bookings: Bookings, *, reach_frac: float
    ) -> None:
        super().__init__(view, settings, bookings)
        self.reach_s = reach_frac * settings.horizon_s
        self.ahead = outlook([self._curves[site.site_id] for site in self.sites])
        self.costs = costs_of(view.now, [site.import_cost for site in self.sites], settings.horizon_s)
        self.is_valued = self.costs is not None
        self._means = np.full(len(self.sites), np.nan)
        self.dearest, self.import_s = np.ones(len(self.sites)), np.full(len(self.sites), self.reach_s)
        if self.costs is not None:
            self.ahead = at_cost(self.ahead, self.costs, self.reach_s)
            self.dearest = np.abs(self.ahead.costs).max(axis=1)
            self.import_s = import_s(self.ahead, np.zeros((1, len(self.sites))), self.reach_s)[0]
            self._means = self.costs.means(self.reach_s)
        metered = [site.known_surplus_w is not None for site in self.sites]
        self._metered = np.array(metered, dtype=np.bool_)

    def until_s(self, jobs: Sequence[JobView]) -> float | Array:
        """Return where counting ends, in seconds from now; shape (J): for each job."""
        return self.reach_s

    def _ends_s(self, jobs: Sequence[JobView], need_w: Array) -> Array:
        ends = super()._ends_s(jobs, need_w)
        if self.costs is not None:
            rows, own = self._places(jobs)
            ends[:, rows] = np.maximum(ends[:, rows], self.cheaper_until_s(own, range(len(self.sites))))
        return ends

    def cheaper_until_s(self, here: Columns, there: Columns) -> Array:
        """Return until when sites are open to jobs at others because their import costs less.

        Shape (len(here), len(there)), in seconds from now; 0: not now.
        """
        if self.costs is None:
            return np.zeros((len(here), len(there)))
        found = self.costs.cheaper_until_s(here, there, self.settings.gain_margin_frac)
        return np.where(self._metered[there], found, 0.0)

    def start_worth_s(self, job: JobView) -> Array:
        """Return what a start at each site saves of the dearest import, less what its import costs.

        A site whose meters are silent is taken to import at the dearest.
        """
        covered_s = super().start_worth_s(job)
        if self.costs is None:
            return covered_s
        now, saves = np.zeros((1, len(self.sites))), replace(self.ahead, costs=self.ahead.worths)
        saved = import_s(saves, now, self.reach_s) - import_s(saves, covered_s[None], self.reach_s)
        worth: Array = saved[0] - np.where(self._metered, self.import_s, self.reach_s)
        return worth

    def _worth(self, jobs: Sequence[JobView], ends: Array, terms: TermArrays) -> Worth:
        if not jobs or not self.sites:
            return super()._worth(jobs, ends, terms)
        rows, own = self._places(jobs)
        here = (rows, own)
        power, others, begins = self._beside(jobs, terms)
        until = self.until_s(jobs)
        got = expected_j(self.ahead, others, power, begins, until)
        stay = np.zeros(len(jobs))
        stay[rows] = got[here]
        need = self._needs_here_w(jobs)
        dearer = np.ones(got.shape)
        dearer[rows] = np.maximum(self.dearest[own][:, None], self.dearest)
        gain = got - stay[:, None] - dearer * SECONDS_PER_HOUR * terms.energy_wh
        if self.costs is not None:
            spent_s = import_s(self.ahead, begins, until)
            away_s = np.minimum(begins, np.broadcast_to(until, power.shape)[:, None])
            gain[rows] += power[rows, None] * (spent_s[here][:, None] - spent_s - dearer * away_s)[rows]
        gain[np.isnan(terms.migration_s)] = -np.inf
        return Worth(
            need_here_w=need,
            gain_s=_seconds(gain, power),
            stay_s=np.broadcast_to(_seconds(stay[:, None], power), got.shape),
            lasts_s=self._covered_until_s(jobs, need),
        )

    def move_alternative(
        self, job: JobView, site: SiteView, ratings: Ratings, index: tuple[int, int]
    ) -> Alternative:
        """Put one pair into words, what it saves and what import costs there and here included."""
        made = super().move_alternative(job, site, ratings, index)
        terms = list(made.terms)
        gain_s = float(ratings.gain_s[index])
        if np.isfinite(gain_s):
            saved, unit = self._saved(job, gain_s)
            terms.append(Term(name="saved", value=saved, limit=None, unit=unit, satisfied=saved > 0.0))
        return replace(made, terms=(*terms, *self._cost_terms(index[1], self._mean_at(job.site_id))))

    def start_alternative(
        self, job: JobView, site: SiteView, ratings: Ratings, index: tuple[int, int]
    ) -> Alternative:
        """Put a start at one site into words, what import costs there included."""
        made = super().start_alternative(job, site, ratings, index)
        return replace(made, terms=(*made.terms, *self._cost_terms(index[1], np.nan)))

    def _cost_terms(self, column: int, here: float) -> tuple[Term, ...]:
        """Say what import costs at a site, against what it costs where a job is; NaN: not known."""
        if self.costs is None or np.isnan(there := self._means[column]):
            return ()
        known = not np.isnan(here)
        term = Term(
            name="import_cost",
            value=float(there),
            limit=here if known else None,
            unit=self.costs.unit,
            satisfied=not known or bool(there < here),
        )
        return (term,)

    def aside(self, job: JobView, column: int, gain_s: float) -> str:
        """Say what a move saves, or loses, and what import costs there and here."""
        if self.costs is None:
            return ""
        saved, unit = self._saved(job, gain_s)
        told, reach = "", f"in {s_to_hours(self.reach_s):.3g} h"
        if np.isfinite(saved):
            dearer = f", though it costs {-saved:.3g} {unit} more {reach}"
            told = f": {saved:.3g} {unit} {reach}" if saved >= 0.0 else dearer
        there, here = self._means[column], self._mean_at(job.site_id)
        if np.isnan(there) or np.isnan(here):
            return told
        return f"{told}, import costs {there:.4g} {self.costs.unit} there and {here:.4g} here"

    def _saved(self, job: JobView, gain_s: float) -> tuple[float, str]:
        """Tell a gain as what it saves, with its unit: energy, or what that costs."""
        joules = gain_s * job.power_w
        return (joules_to_wh(joules) / 1000.0, "kWh") if self.costs is None else self.costs.saving(joules)

    def _mean_at(self, site_id: str | None) -> float:
        return float(self._means[self.column_of(site_id)]) if site_id in self._columns else np.nan

    def _beside(self, jobs: Sequence[JobView], terms: TermArrays) -> tuple[Array, Array, Array]:
        """Return what jobs draw, what others draw beside each at each site, and from when on it would run."""
        power = np.array([job.power_w for job in jobs], dtype=np.float64)
        here = self._places(jobs)
        others, begins = np.tile(self.bookings.draws_w, (len(jobs), 1)), np.array(terms.migration_s)
        others[here] -= power[here[0]]
        begins[here] = 0.0
        return power, others, begins

    def _needs_here_w(self, jobs: Sequence[JobView]) -> Array:
        """Return what all the jobs at each job's site draw."""
        return np.array([self.bookings.draw_w(job.site_id or "") for job in jobs], dtype=np.float64)


def _seconds(joules: Array, power_w: Array) -> Array:
    """Tell energy as seconds of each job's draw; a job that draws nothing gains nothing."""
    draw_w = power_w[:, None]
    told: Array = np.where(np.isinf(joules), joules, 0.0)
    np.divide(joules, draw_w, out=told, where=draw_w > LEAST_W)
    return told
