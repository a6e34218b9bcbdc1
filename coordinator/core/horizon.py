"""What jobs would get of the sites' surplus over the time ahead: expected renewable energy, and its gain.

A job has what the others at the site leave, whole or in part: min(P, surplus - their draw). Where more jobs
are than the surplus covers, each of them counts as the last one, since it is the last share that a departure
saves. Owns the figures; gates, order and words are `moving`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.core.bookings import Bookings
from coordinator.core.confidence import QUANTILES
from coordinator.core.feasibility import TermArrays
from coordinator.core.judgement import Judge, Worth
from coordinator.core.policy import PlannerSettings
from coordinator.core.windows import SurplusCurve
from coordinator.model.view import FleetView, JobView
from sterna.units import SECONDS_PER_HOUR

Array = NDArray[np.float64]

WEIGHTS = (0.3, 0.4, 0.3)
"""Of `QUANTILES` in a mean: Swanson's rule for 0.10, 0.50 and 0.90."""
LEAST_W = 1e-6  # a draw below this is none
_BLOCK = 1_000_000  # figures held in memory at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outlook:
    """The surplus of S sites side by side: `edges_s` (S, K + 1) from now, `watts` (3, S, K), >= 0."""

    edges_s: Array
    watts: Array


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
    return Outlook(edges_s=edges, watts=watts)


def expected_j(
    ahead: Outlook, others_w: Array, power_w: Array, from_s: Array, until_s: float | Array
) -> Array:
    """Return the renewable energy that each job can expect at each site.

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
    block = max(1, _BLOCK // max(1, ahead.watts.size))
    for start in range(0, len(power_w), block):
        some = slice(start, start + block)
        others, most = others_w[some, :, None], power_w[some, None, None]
        mean_w = np.zeros((*others.shape[:2], ahead.watts.shape[2]))
        for weight, watts in zip(WEIGHTS, ahead.watts, strict=True):
            mean_w += weight * np.clip(watts - others, 0.0, most)
        ends = np.minimum(ahead.edges_s[:, 1:], last[some, None, None])
        lasts_s = np.maximum(0.0, ends - np.maximum(begins, from_s[some, :, None]))
        expected[some] = (mean_w * lasts_s).sum(axis=2)
    return np.where(np.isnan(from_s), np.nan, expected)


class HorizonJudge(Judge):
    """Rates moves by the expected renewable energy that they gain, less what they cost.

    Energy is told as seconds of the job's own draw. `gain_s` is net of the move's energy, `stay_s` is what
    staying can expect, `lasts_s` how long the surplus covers every job at the site.

    Parameters
    ----------
    view, settings, bookings
        See `Judge`.
    reach_frac : float
        Share of `settings.horizon_s` over which energy is counted, above 0, at most 1. What comes later is
        left to later moves: neither forecasts nor the other jobs hold still for a whole horizon.
    """

    def __init__(
        self, view: FleetView, settings: PlannerSettings, bookings: Bookings, *, reach_frac: float
    ) -> None:
        super().__init__(view, settings, bookings)
        self.reach_s = reach_frac * settings.horizon_s
        self.ahead = outlook([self._curves[site.site_id] for site in self.sites])

    def until_s(self, jobs: Sequence[JobView]) -> float | Array:
        """Return where counting ends, in seconds from now; shape (J): for each job."""
        return self.reach_s

    def _worth(self, jobs: Sequence[JobView], ends: Array, terms: TermArrays) -> Worth:
        if not jobs or not self.sites:
            return super()._worth(jobs, ends, terms)
        rows, own = self._places(jobs)
        here = (rows, own)
        power, others, begins = self._beside(jobs, terms)
        got = expected_j(self.ahead, others, power, begins, self.until_s(jobs))
        stay = np.zeros(len(jobs))
        stay[rows] = got[here]
        need = self._needs_here_w(jobs)
        gain = got - stay[:, None] - SECONDS_PER_HOUR * terms.energy_wh
        gain[np.isnan(terms.migration_s)] = -np.inf
        return Worth(
            need_here_w=need,
            gain_s=_seconds(gain, power),
            stay_s=np.broadcast_to(_seconds(stay[:, None], power), got.shape),
            lasts_s=self._covered_until_s(jobs, need),
        )

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
