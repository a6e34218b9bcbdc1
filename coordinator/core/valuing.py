"""What jobs would cost where they run: what they import there, by what import costs at that site and hour.

The figures of a fleet whose view tells what a kilowatt-hour of import costs, in money or grams of CO2. Where
it costs the same everywhere they are those of `horizon`, where energy alone counts. Owns the figures and
their words; gates, order and choice are `moving`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from coordinator.core.bookings import Bookings
from coordinator.core.feasibility import TermArrays
from coordinator.core.horizon import LEAST_W, WEIGHTS, HorizonJudge, Outlook
from coordinator.core.judgement import Ratings, Worth
from coordinator.core.policy import PlannerSettings
from coordinator.model.decision import Alternative, Term
from coordinator.model.import_cost import ImportCost
from coordinator.model.view import FleetView, JobView, SiteView
from sterna.units import SECONDS_PER_HOUR

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tariffs:
    """What import costs at S sites in the same K steps: `edges_s` (K + 1) from now, `per_kwh` (S, K).

    NaN: not known.
    """

    edges_s: Array
    per_kwh: Array

    def cheaper_until_s(self, own: Sequence[int], margin_frac: float) -> Array:
        """Return until when import at each site is known to cost less than at each of `own`, by a margin.

        Shape (len(own), S), in seconds from now.
        """
        here = self.per_kwh[list(own)][:, None]
        less = self.per_kwh[None] < here - margin_frac * np.abs(here)
        ends = np.concatenate([~less, np.ones((*less.shape[:2], 1), dtype=np.bool_)], axis=2)
        found: Array = self.edges_s[ends.argmax(axis=2)]
        return found

    def means(self) -> Array:
        """Return what import costs at each site over all of the time; NaN where part of it is not known."""
        lengths_s = np.diff(self.edges_s)
        found: Array = self.per_kwh @ lengths_s / lengths_s.sum()
        return found


def tariffs(
    now: datetime, costs: Sequence[ImportCost | None], until_s: float, cuts_s: Array | None = None
) -> Tariffs:
    """Put costs side by side from now until `until_s`, > 0, in steps that also begin at `cuts_s`."""
    told = [
        [((s.start_at - now).total_seconds(), (s.end_at - now).total_seconds()) for s in cost.slots]
        if cost is not None
        else []
        for cost in costs
    ]
    marks = np.array([mark for spans in told for span in spans for mark in span])
    marks = np.concatenate([marks, np.empty(0) if cuts_s is None else cuts_s.ravel()])
    edges_s = np.unique([0.0, until_s, *marks[(marks > 0.0) & (marks < until_s)]])
    per_kwh = np.full((len(costs), len(edges_s) - 1), np.nan)
    for row, (cost, spans) in enumerate(zip(costs, told, strict=True)):
        for slot, (start_s, end_s) in zip(cost.slots if cost is not None else (), spans, strict=True):
            first, last = np.searchsorted(edges_s, (start_s, min(end_s, until_s)))
            per_kwh[row, first:last] = slot.per_kwh
    return Tariffs(edges_s=edges_s, per_kwh=per_kwh)


def import_costs(ahead: Outlook, costs: Tariffs, others_w: Array, power_w: Array, from_s: Array) -> Array:
    """Return what each job would import at each site, in J times the unit of the costs.

    Parameters
    ----------
    ahead : Outlook
        The surplus of S sites; beyond its end there is none.
    costs : Tariffs
        Of the same sites, in steps that are cut where those of `ahead` are.
    others_w : array
        Shape (J, S): what others draw there, in watts; they have the surplus first.
    power_w : array
        Shape (J): what the job draws.
    from_s : array
        Shape (J, S): from when it would run there; NaN: not known.

    Returns
    -------
    array
        Shape (J, S); NaN where a cost is not known throughout.
    """
    total = np.where(np.isnan(from_s), np.nan, 0.0)
    power = power_w[:, None]
    sites = np.arange(len(costs.per_kwh))
    for begin_s, end_s, per_kwh in zip(costs.edges_s[:-1], costs.edges_s[1:], costs.per_kwh.T, strict=True):
        step = (ahead.edges_s <= begin_s).sum(axis=1) - 1
        known = step < ahead.watts.shape[2]
        imported_w = np.array(np.broadcast_to(power, total.shape))
        for weight, watts in zip(WEIGHTS, ahead.watts, strict=True):
            here_w = (
                np.where(known, watts[sites, np.where(known, step, 0)], -np.inf) if watts.size else -np.inf
            )
            imported_w -= weight * np.clip(here_w - others_w, 0.0, power)
        lasts_s = np.maximum(0.0, end_s - np.maximum(begin_s, np.nan_to_num(from_s)))
        total += lasts_s * imported_w * per_kwh
    return total


class ValueJudge(HorizonJudge):
    """Rates moves by what the import that they avoid costs, as expected, less what they cost.

    Told as seconds of the job's own draw where import is dearest. The time under way, in which other jobs'
    work is done and not this one's, and the energy of the move count at the dearer of the two sites. While
    import costs less than where a job is, by the margin that a gain must have, a site is open to it as if it
    had surplus. A pair of sites of which one tells no cost is rated by renewable energy alone.

    Parameters
    ----------
    view, settings, bookings, reach_frac
        See `HorizonJudge`.
    """

    def __init__(
        self, view: FleetView, settings: PlannerSettings, bookings: Bookings, *, reach_frac: float
    ) -> None:
        super().__init__(view, settings, bookings, reach_frac=reach_frac)
        told = [site.import_cost for site in self.sites]
        self._unit = next((cost.unit for cost in told if cost is not None), "")
        told = [cost if cost is not None and cost.unit == self._unit else None for cost in told]
        self._tariffs = tariffs(view.now, told, self.reach_s, self.ahead.edges_s)
        self._means = self._tariffs.means()
        self._long = tariffs(view.now, told, settings.horizon_s)
        self._metered = [site.surplus_w is not None and site.surplus_quality_ok for site in self.sites]
        self._most = np.max(np.abs(self._tariffs.per_kwh), axis=1, initial=0.0)

    def _ends_s(self, jobs: Sequence[JobView], need_w: Array) -> Array:
        ends = super()._ends_s(jobs, need_w)
        rows, own = self._places(jobs)
        cheaper_s = np.zeros(need_w.shape)
        margin_frac = self.settings.gain_margin_frac
        cheaper_s[rows] = np.where(self._metered, self._long.cheaper_until_s(own, margin_frac), 0.0)
        return np.maximum(ends, cheaper_s)

    def _worth(self, jobs: Sequence[JobView], ends: Array, terms: TermArrays) -> Worth:
        plain = super()._worth(jobs, ends, terms)
        dearest = float(np.nan_to_num(self._most).max(initial=0.0))
        rows, own = self._places(jobs)
        if not rows or not dearest > 0.0:
            return plain
        power, others, begins = self._beside(jobs, terms)
        cost = import_costs(self.ahead, self._tariffs, others, power, begins)
        here = np.full(len(jobs), np.nan)
        here[rows] = cost[rows, own]
        dearer = np.full(cost.shape, np.nan)
        dearer[rows] = np.maximum(self._most[own][:, None], self._most[None, :])
        spent_j = power[:, None] * np.minimum(terms.migration_s, self.reach_s)
        spent_j = spent_j + SECONDS_PER_HOUR * terms.energy_wh
        unit = np.maximum(power, LEAST_W)[:, None] * dearest
        gain = (here[:, None] - cost - dearer * spent_j) / unit
        known = np.isfinite(gain)
        return replace(
            plain,
            gain_s=np.where(known, gain, plain.gain_s),
            stay_s=np.where(known, self.reach_s - here[:, None] / unit, plain.stay_s),
        )

    def move_alternative(
        self, job: JobView, site: SiteView, ratings: Ratings, index: tuple[int, int]
    ) -> Alternative:
        """Put one pair into words, what import costs there and here included."""
        made = super().move_alternative(job, site, ratings, index)
        there, here = self._means[index[1]], self._mean_at(job.site_id)
        if np.isnan(there):
            return made
        known = not np.isnan(here)
        term = Term(
            name="import_cost",
            value=float(there),
            limit=float(here) if known else None,
            unit=self._unit,
            satisfied=not known or bool(there < here),
        )
        return replace(made, terms=(*made.terms, term))

    def aside(self, job: JobView, column: int) -> str:
        """Say what import costs there and here."""
        there, here = self._means[column], self._mean_at(job.site_id)
        if np.isnan(there) or np.isnan(here):
            return ""
        return f", import costs {there:.4g} {self._unit} there and {here:.4g} here"

    def _mean_at(self, site_id: str | None) -> float:
        return float(self._means[self.column_of(site_id)]) if site_id in self._columns else np.nan
