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

from coordinator.core import confidence, domain, windows
from coordinator.core.absorption import Absorption
from coordinator.core.horizon import HorizonJudge
from coordinator.core.manner import Made
from coordinator.core.movers import Mover, movers_of, total_s, who_may_leave
from coordinator.core.starting import is_open
from coordinator.core.trading import Pairs, Trading
from coordinator.model.view import JobView

Array = NDArray[np.float64]

_POWERS = 64  # jobs whose powers lie close together share a row of what sites offer
_PAIRS = 100_000  # figures held in memory at once, beside the arrays that stay: few enough for a cache
_HAIR_J = 1e-3  # what rounding may make of equal energies
_DOUBT_FRAC = 0.01  # by which a value may be off where jobs of like power share a row
_ANY_W = 1e15  # above any draw
_LOOKS = 4  # at a row, before its job is left where it is


@dataclass(frozen=True, slots=True)
class _Offer:
    """A move as it is now; `value_j` is the energy that it brings, but for what staying has."""

    place: int
    value_j: float
    rate_bps: float
    total_s: float
    cost_j: float


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
        low, high, share = self._mix or (0, 0, 0.0)
        self._hopeful = high if share > 0.0 else low
        self._draws_w = self._bookings.draws_w.tolist()
        self._falling: dict[tuple[int, int], tuple[list[float], list[float]]] = {}
        self._links: dict[int, Array] = {}
        self._slowest_bps: dict[int, float] = {}
        self._movers: list[Mover] = []
        self._made: dict[int, Made] = {}
        self._offers: dict[int, _Offer] = {}
        self._shut: dict[tuple[int, int], Array] = {}

    def run(self, jobs: Sequence[JobView]) -> list[Made]:
        """Choose and book moves; return them in the order in which they were booked.

        Parameters
        ----------
        jobs : sequence of JobView
            Running, at sites that ask nobody to leave.
        """
        able = who_may_leave(jobs, self._judge.view.now, self._settings)
        if not able or self._mix is None:
            return []
        self._open_columns(able)
        self._movers = movers_of(
            [job for job in able if self._may_go(job)], self._judge, self._slack_margin_s
        )
        if not self._movers:
            return []
        self._prepare()
        self._one_by_one()
        if self._made and self._settings.effort_pairs > 0:
            self._trade()
        return list(self._made.values())

    def _one_by_one(self) -> None:
        """Make for each job the move that is best for it by then, the one that gains most at first first."""
        touched: set[int] = set()
        for row, place in self._order():
            mover = self._movers[row]
            offer = None
            if self._places[place] not in touched and mover.source not in touched:
                offer = self._value(row, place)
            offer = offer or self._look(row)
            if offer is not None and self._gain_j(mover, offer.value_j) is not None:
                self._make(row, offer)
                touched |= {mover.source, self._places[offer.place]}

    def _trade(self) -> None:
        """Let jobs trade places where that gains and every gate is passed; else change nothing."""
        costs_j = self._cost_j.copy()
        for (source, place), known in self._shut.items():
            costs_j[self._rows_at[source], place] = known
        pairs = Pairs(
            powers_w=np.array([mover.power_w for mover in self._movers]),
            sources=np.array([mover.source for mover in self._movers], dtype=np.intp),
            columns=self._columns,
            costs_j=costs_j,
            most_w=self._most_w,
            leave_above_w=self._floors_w[confidence.MEDIAN, :, 0],
        )
        taken = {row: offer.place for row, offer in self._offers.items()}
        trading = Trading(self._absorbs, pairs, taken, self._bookings.draws_w, self._bookings.slots)
        wanted = trading.improve(self._settings.effort_pairs)
        gone = [(row, self._offers[row]) for row, place in taken.items() if wanted.get(row) != place]
        come = [(row, place) for row, place in wanted.items() if taken.get(row) != place]
        before_j = self._total_j()
        for row, _ in gone:
            self._take_back(row)
        added = [row for row, place in come if self._make_if_it_gains(row, place)]
        if self._total_j() > before_j:
            return
        for row in added:
            self._take_back(row)
        for row, offer in gone:
            self._make(row, offer)
        self._made = {row: self._made[row] for row in taken}

    def _make_if_it_gains(self, row: int, place: int) -> bool:
        offer = self._value(row, place)
        gains = offer is not None and self._gain_j(self._movers[row], offer.value_j) is not None
        if offer is not None and gains:
            self._make(row, offer)
        return gains

    def _total_j(self) -> float:
        """Return what all sites carry, less what the moves cost."""
        carried_j = sum(self._absorbs.carried_one(c, draw_w) for c, draw_w in enumerate(self._draws_w))
        return carried_j - sum(offer.cost_j for offer in self._offers.values())

    def _may_go(self, job: JobView) -> bool:
        """Tell whether the surplus where a job is ends before its slowest move could be over."""
        source = self._judge.column_of(job.site_id or "")
        slowest_bps = self._slowest_bps.get(source)
        if slowest_bps is None:
            rates = self._links_of(source)
            slowest_bps = float(np.nanmin(rates)) if np.isfinite(rates).any() else inf
            self._slowest_bps[source] = slowest_bps
        return slowest_bps < inf and self._lasts_s(source) <= total_s(job, slowest_bps, self._settings.eta)

    # What holds for the whole tick

    def _open_columns(self, able: Sequence[JobView]) -> None:
        """Note the sites that somebody could go to, each with its place in the arrays."""
        sites, slots = self._judge.sites, self._bookings.slots
        takes = [is_open(site) for site in sites]
        sources = sorted({self._judge.column_of(job.site_id or "") for job in able})
        self._cheaper_s = np.zeros((len(sites), len(sites)))
        self._cheaper_s[sources] = self._judge.cheaper_until_s(sources, range(len(sites)))
        wanted = (self._floors_w[-1, :, 0] >= able[0].power_w) | (self._cheaper_s > 0.0).any(axis=0)
        self._columns = np.flatnonzero(np.array(takes, dtype=np.bool_) & (slots >= 1) & wanted)
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
        sources = np.array([mover.source for mover in movers])
        dearest, whole_s = self._judge.dearest, self._judge.import_s
        cost = power * away + figures([mover.energy_j for mover in movers])
        cost *= np.maximum(dearest[sources, None], dearest[self._columns])
        cost += power * (whole_s[self._columns] - whole_s[sources, None])
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
        most = windows.most_w(self._judge.stacked, self._columns, self._hopeful, wanted_s, float(power.min()))
        most[self._cheaper_s[np.ix_(sources, self._columns)] > wanted_s] = _ANY_W
        if self._bookings.limits_any:
            room = self._bookings.rooms_w(total, self._columns)
            np.minimum(most, room + self._bookings.draws_w[self._columns], out=most)
        self._most_w[rows] = most

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

    def _gain_j(self, mover: Mover, value_j: float) -> float | None:
        """Return what a move gains over staying, in J; None: less than the margin."""
        settings, stay_j = self._settings, self._stay_j(mover)
        margin_j = settings.gain_margin_s * mover.power_w + settings.gain_margin_frac * stay_j
        gain_j = value_j - stay_j
        return gain_j if gain_j > margin_j else None

    def _stay_j(self, mover: Mover) -> float:
        """Return what a job has where it is."""
        draw_w, carried = self._draws_w[mover.source], self._absorbs.carried_one
        return carried(mover.source, draw_w) - carried(mover.source, draw_w - mover.power_w)

    def _value(self, row: int, place: int) -> _Offer | None:
        """Value one move exactly, as it would be now; None where a gate is shut."""
        assert self._mix is not None
        mover, column = self._movers[row], self._places[place]
        job, draw_w = mover.job, self._draws_w[column]
        rate_bps = self._bookings.free_bps(job.site_id or "", self._judge.sites[column].site_id)
        if column == mover.source or rate_bps is None or not rate_bps > 0.0 or self._taken_w[place] == inf:
            return None
        need_w = draw_w + mover.power_w
        takes_s = total_s(job, rate_bps, self._settings.eta)
        low, high, share = self._mix
        until_s = self._open_until_s(low, mover.source, column, need_w)
        if share > 0.0:
            until_s += share * (self._open_until_s(high, mover.source, column, need_w) - until_s)
        window_s = until_s - takes_s
        if not (takes_s < self._settings.alpha * window_s and mover.break_even_s < window_s):
            return None
        if not self._lasts_s(mover.source) <= takes_s < mover.slack_s:
            return None
        if self._bookings.against(job, self._judge.sites[column].site_id, takes_s):
            return None
        absorbs, away_s = self._absorbs, min(takes_s, self._judge.reach_s)
        value_j = absorbs.carried_one(column, need_w) - absorbs.carried_one(column, draw_w)
        dearest, whole_s = self._judge.dearest, self._judge.import_s
        cost_j = mover.power_w * away_s + mover.energy_j
        cost_j *= float(max(dearest[mover.source], dearest[column]))
        cost_j += mover.power_w * float(whole_s[column] - whole_s[mover.source])
        if self._judge.costs is not None or away_s > self._edges_s[column, 1]:
            cost_j -= absorbs.spared_one(column, draw_w, mover.power_w, away_s)
        return _Offer(place, value_j - cost_j, rate_bps, takes_s, cost_j)

    def _lasts_s(self, column: int) -> float:
        """Return how long the median surplus of a site goes on covering every job there."""
        return self._ends_s(confidence.MEDIAN, column, self._draws_w[column])

    def _open_until_s(self, quantile: int, source: int, column: int, need_w: float) -> float:
        """Return until when a site is open to a job of another, by surplus or by what import costs."""
        return max(self._ends_s(quantile, column, need_w), float(self._cheaper_s[source, column]))

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

    def _make(self, row: int, offer: _Offer) -> None:
        """Book a move, and note what it changes."""
        mover, column = self._movers[row], self._places[offer.place]
        need_w, median = self._draws_w[column] + mover.power_w, confidence.MEDIAN
        ends_s = self._open_until_s(median, mover.source, column, need_w)
        gain_j = offer.value_j - self._stay_j(mover)
        source, destination = mover.job.site_id or "", self._judge.sites[column].site_id
        self._bookings.move(mover.job, destination, offer.rate_bps)
        self._look_again_at(column, mover.source)
        if not (self._bookings.free_bps(source, destination) or 0.0) > 0.0:
            rows = self._rows_at[mover.source]
            self._shut.setdefault((mover.source, offer.place), self._cost_j[rows, offer.place])
            self._cost_j[rows, offer.place] = inf
        self._offers[row] = offer
        self._made[row] = Made(
            job=mover.job,
            column=column,
            rate_bps=offer.rate_bps,
            total_s=offer.total_s,
            ends_s=ends_s,
            gain_s=gain_j / mover.power_w,
        )

    def _take_back(self, row: int) -> None:
        mover, made = self._movers[row], self._made.pop(row)
        del self._offers[row]
        self._bookings.take_back(mover.job, self._judge.sites[made.column].site_id, made.rate_bps)
        self._look_again_at(made.column, mover.source)

    def _look_again_at(self, *columns: int) -> None:
        for column in columns:
            self._draws_w[column] = float(self._bookings.draws_w[column])
            if column in self._place_of:
                self._renew(self._place_of[column])
