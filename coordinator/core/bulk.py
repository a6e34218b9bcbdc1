"""The voluntary moves of a large fleet, by the figures of `horizon.HorizonJudge`, but not pair by pair.

What a job finds at a site depends on the others only through the sum of their draws (`absorption`). What
a move costs, and the draw up to which a site can take it, hold for the whole tick and are computed once, as
arrays of jobs × sites. Then one pass: the job that would gain most energy at first chooses first, what is
best for it by then, by one look at its row; the pair is valued exactly before it is booked.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from coordinator.core import confidence, domain
from coordinator.core.absorption import Absorption
from coordinator.core.horizon import LEAST_W, HorizonJudge
from coordinator.core.manner import Made
from coordinator.model.view import JobView
from sterna.units import SECONDS_PER_HOUR

Array = NDArray[np.float64]

_POWERS = 64  # jobs whose powers lie close together share a row of what sites offer
_PAIRS = 500_000  # figures held in memory at once, beside the arrays that stay
_HAIR_J = 1e-3  # what rounding may make of equal energies
_DOUBT_FRAC = 0.01  # by which a value may be off where jobs of like power share a row
_LOOKS = 4  # at a row, before its job is left where it is


@dataclass(frozen=True, slots=True)
class _Mover:
    """A job that may leave, with the figures of it that no booking changes."""

    job: JobView
    source: int
    power_w: float
    size_bytes: float
    energy_j: float
    break_even_s: float
    slack_s: float


@dataclass(frozen=True, slots=True)
class _Offer:
    """A move as it is now; `value_j` is the energy that it brings, but for what staying has."""

    place: int
    value_j: float
    rate_bps: float
    total_s: float


class BulkMoves:
    """Chooses and books the voluntary moves of one tick.

    Parameters
    ----------
    judge : HorizonJudge
        Whose figures are followed, and in whose bookings moves are entered.
    slack_margin_s : float
        What a move must leave of a job's slack.
    """

    def __init__(self, judge: HorizonJudge, slack_margin_s: float = 0.0) -> None:
        self._judge = judge
        self._bookings = judge.bookings
        self._slack_margin_s = slack_margin_s
        self._settings = judge.settings
        self._absorbs = Absorption(judge.ahead, judge.reach_s)
        self._floors_w, self._edges_s = judge.stacked.floors_w, judge.stacked.edges_s
        self._mix = confidence.between(self._settings.epsilon)
        self._draws_w = self._bookings.draws_w.tolist()
        self._falling: dict[tuple[int, int], tuple[list[float], list[float]]] = {}
        self._links: dict[int, Array] = {}
        self._slowest_bps: dict[int, float] = {}
        self._movers: list[_Mover] = []

    def run(self, jobs: Sequence[JobView]) -> list[Made]:
        """Choose and book moves; return them in the order in which they were booked.

        Parameters
        ----------
        jobs : sequence of JobView
            Running, at sites that ask nobody to leave.
        """
        able = self._who_may_leave(jobs)
        if not able or self._mix is None:
            return []
        self._open_columns(able[0].power_w)
        self._movers = self._movers_of([job for job in able if self._may_go(job)])
        if not self._movers:
            return []
        self._prepare()
        made: list[Made] = []
        touched: set[int] = set()
        for row, place in self._order():
            mover = self._movers[row]
            offer = None
            if self._places[place] not in touched and mover.source not in touched:
                offer = self._value(row, place)
            offer = offer or self._look(row)
            if offer is not None and self._gain_j(mover, offer.value_j) is not None:
                made.append(self._make(row, offer))
                touched |= {mover.source, self._places[offer.place]}
        return made

    def _who_may_leave(self, jobs: Sequence[JobView]) -> list[JobView]:
        """Return the jobs that neither a rule nor the time that they have been there keeps, by power."""
        now, settings = self._judge.view.now, self._settings
        able = []
        for job in jobs:
            since = job.resident_since
            resident_s = 0.0 if since is None else (now - since).total_seconds()
            known = job.stop_bytes or job.checkpoint_bytes
            stayed = resident_s >= max(job.min_residence_s, settings.min_residence_s)
            if job.may_migrate and stayed and known and job.power_w > LEAST_W:
                able.append(job)
        return sorted(able, key=lambda job: (job.power_w, job.job_id))

    def _may_go(self, job: JobView) -> bool:
        """Tell whether the surplus where a job is ends before its slowest move could be over."""
        source = self._judge.column_of(job.site_id or "")
        slowest_bps = self._slowest_bps.get(source)
        if slowest_bps is None:
            rates = self._links_of(source)
            slowest_bps = float(np.nanmin(rates)) if np.isfinite(rates).any() else inf
            self._slowest_bps[source] = slowest_bps
        return slowest_bps < inf and self._lasts_s(source) <= self._total_s(job, slowest_bps)

    def _total_s(self, job: JobView, rate_bps: float) -> float:
        size_bytes = float(job.stop_bytes or job.checkpoint_bytes or 0)
        carried_s = domain.transfer_s(size_bytes, rate_bps, self._settings.eta)
        return domain.migration_s(job.seal_s, carried_s, job.load_s, job.downtime_s)

    def _movers_of(self, jobs: Sequence[JobView]) -> list[_Mover]:
        terms = self._judge.terms_of(jobs)
        return [
            _Mover(
                job,
                self._judge.column_of(job.site_id or ""),
                job.power_w,
                float(job.stop_bytes or job.checkpoint_bytes or 0),
                SECONDS_PER_HOUR * energy_wh,
                break_even_s,
                inf if job.slack_s is None else job.slack_s - self._slack_margin_s,
            )
            for job, energy_wh, break_even_s in zip(
                jobs, terms.energy_wh.tolist(), terms.break_even_s.tolist(), strict=True
            )
        ]

    # What holds for the whole tick

    def _open_columns(self, least_w: float) -> None:
        """Note the sites that somebody could go to, each with its place in the arrays."""
        sites, slots = self._judge.sites, self._bookings.slots
        takes = [site.available and not site.draining and not site.wants_to_shed for site in sites]
        now_w = self._floors_w[-1, :, 0]
        self._columns = np.flatnonzero(np.array(takes, dtype=np.bool_) & (slots >= 1) & (now_w >= least_w))
        self._places: list[int] = self._columns.tolist()
        self._place_of = {column: place for place, column in enumerate(self._places)}

    def _prepare(self) -> None:
        powers = np.array([mover.power_w for mover in self._movers])
        some, kinds = np.unique(powers, return_inverse=True)
        if len(some) > _POWERS:
            kinds = np.arange(len(powers)) * _POWERS // len(powers)
            some = np.array([powers[kinds == kind].mean() for kind in range(_POWERS)])
        self._kinds, self._some_w = kinds, some
        self._scales = powers / some[kinds]
        self._found_j = np.empty((len(some), len(self._places)))
        self._taken_w = np.empty(len(self._places))
        for place in range(len(self._places)):
            self._renew(place)
        self._rows_at: dict[int, list[int]] = {}
        for row, mover in enumerate(self._movers):
            self._rows_at.setdefault(mover.source, []).append(row)
        self._cost_j = np.empty((len(powers), len(self._places)))
        self._most_w = np.empty(self._cost_j.shape)
        block = max(1, _PAIRS // len(self._places))
        for start in range(0, len(powers), block):
            self._fill(slice(start, start + block))

    def _renew(self, place: int) -> None:
        """Note what a site offers now to jobs of each power, and what is drawn there."""
        column = self._places[place]
        draw_w = self._draws_w[column]
        carried = self._absorbs.carried(column, draw_w + self._some_w)
        self._found_j[:, place] = carried - self._absorbs.carried_one(column, draw_w)
        self._taken_w[place] = draw_w if self._bookings.slots[column] >= 1 else inf

    def _fill(self, rows: slice) -> None:
        """Compute what moves cost, in J, and up to which draw a site can take the job."""
        movers = self._movers[rows]

        def figures(values: list[float]) -> Array:
            return np.array(values)[:, None]

        power = figures([mover.power_w for mover in movers])
        link = np.stack([self._links_of(mover.source) for mover in movers])
        size = figures([mover.size_bytes for mover in movers])
        total = domain.migration_s(
            figures([mover.job.seal_s for mover in movers]),
            domain.transfer_s(size, link, self._settings.eta),
            figures([mover.job.load_s for mover in movers]),
            figures([mover.job.downtime_s for mover in movers]),
        )
        away = np.minimum(total, self._judge.reach_s)
        cost = power * away + figures([mover.energy_j for mover in movers])
        cost -= self._absorbs.spared(self._columns, self._bookings.draws_w[self._columns], power, away)
        lasts = figures([self._lasts_s(mover.source) for mover in movers])
        slack = figures([mover.slack_s for mover in movers])
        cost[~((lasts <= total) & (total < slack))] = np.inf
        for row, mover in enumerate(movers):
            if mover.job.container is not None:
                cost[row, ~self._judge.fits(mover.job)[self._columns]] = np.inf
        self._cost_j[rows] = cost
        pays_s = figures([mover.break_even_s for mover in movers])
        wanted_s = total + np.maximum(total / self._settings.alpha, pays_s)
        self._most_w[rows] = self._takes_w(wanted_s, float(power.min()))

    def _links_of(self, source: int) -> Array:
        """Return the rates from a site to the places; NaN: none."""
        found = self._links.get(source)
        if found is None:
            found = self._bookings.rates_from(self._judge.sites[source].site_id)[self._columns]
            found[~(found > 0.0)] = np.nan
            if source in self._place_of:
                found[self._place_of[source]] = np.nan
            self._links[source] = found
        return found

    def _takes_w(self, wanted_s: Array, least_w: float) -> Array:
        """Return the draw up to which windows outlast `wanted_s`, by the more hopeful of two quantiles."""
        assert self._mix is not None
        row = self._mix[1] if self._mix[2] > 0.0 else self._mix[0]
        floors, edges = self._floors_w[row, self._columns], self._edges_s[self._columns]
        most = np.tile(floors[:, 0], (len(wanted_s), 1))
        for step in range(1, edges.shape[1]):
            later = wanted_s >= edges[:, step]
            if not (later & (most >= least_w)).any():
                break
            np.copyto(most, floors[:, step], where=later)
        return most

    # Choosing

    def _order(self) -> list[tuple[int, int]]:
        """Return the rows that would gain by a move now, and their best places, the best row first."""
        order: list[tuple[float, str, int, int]] = []
        block = max(1, _PAIRS // len(self._places))
        for start in range(0, len(self._movers), block):
            rows = slice(start, start + block)
            movers = self._movers[rows]
            values = self._found_j[self._kinds[rows]] * self._scales[rows, None] - self._cost_j[rows]
            power = np.array([mover.power_w for mover in movers])[:, None]
            values[power + self._taken_w > self._most_w[rows]] = -np.inf
            best = values.argmax(axis=1)
            found = values[np.arange(len(movers)), best].tolist()
            for row, (mover, place, value_j) in enumerate(
                zip(movers, best.tolist(), found, strict=True), start
            ):
                gain_j = self._gain_j(mover, value_j)
                if gain_j is not None:
                    order.append((-gain_j, mover.job.job_id, row, place))
        return [(row, place) for _, _, row, place in sorted(order)]

    def _look(self, row: int) -> _Offer | None:
        """Return the best that a job can do now; None: nothing."""
        filled = False
        for _ in range(_LOOKS):
            values = self._found_j[self._kinds[row]] * self._scales[row] - self._cost_j[row]
            shut = self._movers[row].power_w + self._taken_w > self._most_w[row]
            np.copyto(values, -np.inf, where=shut)
            place = int(values.argmax())
            seemed_j = float(values[place])
            if not seemed_j > 0.0:
                return None
            offer = self._value(row, place)
            if offer is not None and offer.value_j >= seemed_j - _HAIR_J - _DOUBT_FRAC * seemed_j:
                return offer
            if filled:
                self._cost_j[row, place] += inf if offer is None else seemed_j - offer.value_j
            else:
                # A link that others of the site took, or the surplus there that now covers the rest.
                self._links.pop(self._movers[row].source, None)
                self._fill(slice(row, row + 1))
                filled = True
        return None

    def _gain_j(self, mover: _Mover, value_j: float) -> float | None:
        """Return what a move gains over staying, in J; None: less than the margin."""
        draw_w, settings = self._draws_w[mover.source], self._settings
        stay_j = self._absorbs.carried_one(mover.source, draw_w)
        stay_j -= self._absorbs.carried_one(mover.source, draw_w - mover.power_w)
        margin_j = settings.gain_margin_s * mover.power_w + settings.gain_margin_frac * stay_j
        gain_j = value_j - stay_j
        return gain_j if gain_j > margin_j else None

    def _value(self, row: int, place: int) -> _Offer | None:
        """Value one move exactly, as it would be now; None where a gate is shut."""
        assert self._mix is not None
        mover, column = self._movers[row], self._places[place]
        job, draw_w = mover.job, self._draws_w[column]
        rate_bps = self._bookings.free_bps(job.site_id or "", self._judge.sites[column].site_id)
        if column == mover.source or rate_bps is None or not rate_bps > 0.0 or self._taken_w[place] == inf:
            return None
        need_w = draw_w + mover.power_w
        total_s = self._total_s(job, rate_bps)
        low, high, share = self._mix
        until_s = self._ends_s(low, column, need_w)
        if share > 0.0:
            until_s += share * (self._ends_s(high, column, need_w) - until_s)
        window_s = until_s - total_s
        if not (total_s < self._settings.alpha * window_s and mover.break_even_s < window_s):
            return None
        if not self._lasts_s(mover.source) <= total_s < mover.slack_s:
            return None
        absorbs, away_s = self._absorbs, min(total_s, self._judge.reach_s)
        value_j = absorbs.carried_one(column, need_w) - absorbs.carried_one(column, draw_w)
        value_j -= mover.power_w * away_s + mover.energy_j
        if away_s > self._edges_s[column, 1]:
            value_j += absorbs.spared_one(column, draw_w, mover.power_w, away_s)
        return _Offer(place, value_j, rate_bps, total_s)

    def _lasts_s(self, column: int) -> float:
        """Return how long the median surplus of a site goes on covering every job there."""
        return self._ends_s(confidence.MEDIAN, column, self._draws_w[column])

    def _ends_s(self, quantile: int, column: int, need_w: float) -> float:
        """Return `windows.ends_s` of one need at one site."""
        lines = self._falling.get((quantile, column))
        if lines is None:
            rising = self._floors_w[quantile, column, ::-1].tolist()
            lines = (rising, self._edges_s[column].tolist())
            self._falling[quantile, column] = lines
        rising, edges_s = lines
        return edges_s[len(rising) - bisect_left(rising, need_w)]

    # Committing

    def _make(self, row: int, offer: _Offer) -> Made:
        """Book a move, and note what it changes."""
        mover, column = self._movers[row], self._places[offer.place]
        ends_s = self._ends_s(confidence.MEDIAN, column, self._draws_w[column] + mover.power_w)
        source, destination = mover.job.site_id or "", self._judge.sites[column].site_id
        self._bookings.move(mover.job, destination, offer.rate_bps)
        for touched in (column, mover.source):
            self._draws_w[touched] = float(self._bookings.draws_w[touched])
            if touched in self._place_of:
                self._renew(self._place_of[touched])
        if not (self._bookings.free_bps(source, destination) or 0.0) > 0.0:
            for other in self._rows_at[mover.source]:
                self._cost_j[other, offer.place] = inf
        return Made(
            job=mover.job, column=column, rate_bps=offer.rate_bps, total_s=offer.total_s, ends_s=ends_s
        )
