"""A plan of moves made better on paper: jobs trade places, and those of a site share out theirs anew.

Knows figures only: what each pair costs, up to which draw a site takes a job, what its surplus carries. The
moves that come of it are booked, and held against every gate, by `bulk`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.core.absorption import Absorption
from coordinator.core.assignment import best_columns

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

_LEAST_J = 1.0  # a trade that brings less is none
NOWHERE = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """J jobs and D places: `sources` (J) and `columns` (D) are sites, the others as in `bulk`.

    `leave_above_w` (S): nobody leaves a site whose jobs draw less.
    """

    powers_w: Array
    sources: Rows
    columns: Rows
    costs_j: Array
    most_w: Array
    leave_above_w: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trade:
    """Jobs that give up a place and go back, and those that take it."""

    gain_j: float
    outs: tuple[int, ...]
    ins: tuple[int, ...]


class Trading:
    """Looks for trades at one place after the other, the best there first.

    Parameters
    ----------
    absorbs : Absorption
        What the surplus of each site carries.
    pairs : Pairs
        Every job that may move. A link carries one of them.
    taken : mapping
        By row the place to which a job moves now.
    draws_w, slots : array
        Shape (S): of every site after these moves.
    """

    def __init__(
        self,
        absorbs: Absorption,
        pairs: Pairs,
        taken: Mapping[int, int],
        draws_w: Array,
        slots: NDArray[np.int64],
    ) -> None:
        self._absorbs, self._pairs = absorbs, pairs
        self._draws_w, self._slots = draws_w.copy(), slots.tolist()
        self._taken = dict(taken)
        self._at = np.full(len(pairs.powers_w), NOWHERE)
        self._came = np.zeros(len(draws_w), dtype=np.int64)
        for row, place in taken.items():
            self._at[row] = place
            self._came[int(pairs.columns[place])] += 1
        self._rows_of: dict[int, list[int]] = {}
        for row, source in enumerate(pairs.sources.tolist()):
            self._rows_of.setdefault(source, []).append(row)
        self._able: dict[int, Rows] = {}
        self._holds_j = np.zeros(len(pairs.powers_w))
        for source in self._rows_of:
            self._weigh(source)
        for place in sorted(set(taken.values())):
            self._weigh(int(pairs.columns[place]), place)
        self.looked = 0
        """Pairs looked at so far."""

    def improve(self, effort_pairs: int) -> dict[int, int]:
        """Return by row the place to which each job moves, in the order of the trades that were found.

        Parameters
        ----------
        effort_pairs : int
            Pairs of a job and a site that may be looked at, all in all; the last look may go beyond.
        """
        places = list(range(len(self._pairs.columns)))
        self._settle(places, effort_pairs)
        better = True
        while better and self.looked < effort_pairs:
            better = False
            for place in places:
                if self.looked < effort_pairs:
                    better = self._shake(places[place:] + places[:place], effort_pairs) or better
        return self._taken

    def _settle(self, places: list[int], effort_pairs: int) -> None:
        """Trade at each place and share out the places of each source, until neither gains."""
        better = True
        while better and self.looked < effort_pairs:
            better = False
            for place in places:
                while self.looked < effort_pairs and (trade := self._best(place)) is not None:
                    self._make(place, outs=trade.outs, ins=trade.ins)
                    better = True
            for source in self._rows_of:
                if self.looked < effort_pairs:
                    better = self._share_out(source) or better

    def _shake(self, places: list[int], effort_pairs: int) -> bool:
        """Send back who comes to the first of some places and settle again; undo what is no better."""
        outs = tuple(self._may_go_back(places[0]))
        if not outs:
            return False
        before_j = self._total_j()
        kept = (
            self._draws_w.copy(),
            self._slots.copy(),
            self._came.copy(),
            self._at.copy(),
            self._holds_j.copy(),
            dict(self._taken),
        )
        self._make(places[0], outs=outs)
        self._settle(places[1:] + places[:1], effort_pairs)
        if self._total_j() > before_j + _LEAST_J:
            return True
        self._draws_w, self._slots, self._came, self._at, self._holds_j, self._taken = kept
        return False

    def _total_j(self) -> float:
        carried_j = sum(self._absorbs.carried_one(*site) for site in enumerate(self._draws_w.tolist()))
        return carried_j - sum(float(self._pairs.costs_j[pair]) for pair in self._taken.items())

    def _best(self, place: int) -> _Trade | None:
        """Return the best trade at a place: one or none gives it up, and who gains most there comes."""
        pairs, column = self._pairs, int(self._pairs.columns[place])
        rows = self._able.get(place)
        if rows is None:
            fits = np.isfinite(pairs.costs_j[:, place]) & (pairs.powers_w <= pairs.most_w[:, place])
            rows = self._able[place] = np.flatnonzero(fits)
        rows = self._may_trade(rows, place)
        if not len(rows):
            return None
        here = np.flatnonzero(self._at == place).tolist()
        way_j = self._holds_j[rows] + pairs.costs_j[rows, place]
        room = _Room(self._absorbs, pairs, place, rows, way_j=way_j, drawn_at=self._drawn_at(rows))
        best: _Trade | None = None
        for outs in ((), *((row,) for row in self._may_go_back(place))):
            stay = [row for row in here if row not in outs]
            free = self._slots[column] + len(outs)
            left_w = float(self._draws_w[column]) - float(pairs.powers_w[list(outs)].sum())
            back_j = sum(self._back_j(row, place) for row in outs)
            back_j += self._absorbs.carried_one(column, left_w)
            back_j -= self._absorbs.carried_one(column, float(self._draws_w[column]))
            gain_j, ins = room.fill(left_w, stay, free)
            if gain_j + back_j > (_LEAST_J if best is None else best.gain_j):
                best = _Trade(gain_j=gain_j + back_j, outs=outs, ins=ins)
        self.looked += room.looked
        return best

    def _share_out(self, source: int) -> bool:
        """Give the jobs of a source the places that bring most in all, others as they are; tell if it gains.

        A link carries one job, so at each place what one of them brings does not depend on the others.
        """
        if self._came[source]:
            return False
        pairs, rows = self._pairs, np.array(self._rows_of[source], dtype=np.intp)
        powers_w, at = pairs.powers_w[rows], self._at[rows]
        gone = at != NOWHERE
        draw_w = float(self._draws_w[source])
        beside_w = draw_w - np.where(gone, 0.0, powers_w)
        hold_j = self._absorbs.carried(source, beside_w + powers_w) - self._absorbs.carried(source, beside_w)
        values_j = self._values_j(rows)
        self.looked += values_j.size * len(rows)
        found = np.array(best_columns(values_j - hold_j[:, None]))
        goes = found != NOWHERE
        all_w = draw_w + float(powers_w[gone].sum())
        left_w = all_w - float(powers_w[goes].sum())
        last_w = float(powers_w[goes].max(initial=0.0))
        if goes.any() and not left_w + last_w > self._pairs.leave_above_w[source]:
            return False
        gain_j = self._absorbs.carried_one(source, left_w) - self._absorbs.carried_one(source, draw_w)
        gain_j += float(values_j[goes, found[goes]].sum() - values_j[gone, at[gone]].sum())
        if not gain_j > _LEAST_J:
            return False
        for row, place in zip(rows[gone].tolist(), at[gone].tolist(), strict=True):
            self._make(place, outs=(row,))
        for row, place in zip(rows[goes].tolist(), found[goes].tolist(), strict=True):
            self._make(place, ins=(row,))
        return True

    def _values_j(self, rows: Rows) -> Array:
        """Return what each job of one source would bring at each place; -inf: it may not come."""
        pairs, values_j = self._pairs, -self._pairs.costs_j[rows]
        powers_w = pairs.powers_w[rows]
        place_of = {int(place): index for index, place in enumerate(self._at[rows]) if place != NOWHERE}
        for place, column in enumerate(pairs.columns.tolist()):
            mine = place_of.get(place)
            draw_w = float(self._draws_w[column]) - (0.0 if mine is None else float(powers_w[mine]))
            need_w = draw_w + powers_w
            values_j[:, place] += self._absorbs.carried(column, need_w)
            values_j[:, place] -= self._absorbs.carried_one(column, draw_w)
            full = mine is None and self._slots[column] < 1
            values_j[full | (need_w > pairs.most_w[rows, place]), place] = -np.inf
        return values_j

    def _may_trade(self, rows: Rows, place: int) -> Rows:
        """Leave out those who are bound for a place, and those who are to stay where they are."""
        sources, at = self._pairs.sources[rows], self._at[rows]
        leaves = (at != NOWHERE) | (self._draws_w[sources] > self._pairs.leave_above_w[sources])
        # Who comes to a site counts on those who have left it, and on nobody leaving it from then on.
        found: Rows = rows[(at != place) & leaves & (self._came[sources] == 0)]
        return found

    def _drawn_at(self, rows: Rows) -> Rows:
        """Return the sites at which jobs draw, moves and all."""
        at = self._at[rows]
        found: Rows = np.where(at == NOWHERE, self._pairs.sources[rows], self._pairs.columns[at])
        return found

    def _may_go_back(self, place: int) -> list[int]:
        rows = np.flatnonzero(self._at == place)
        found: list[int] = rows[self._came[self._pairs.sources[rows]] == 0].tolist()
        return found

    def _back_j(self, row: int, place: int) -> float:
        """Return what is saved when a job that moves to a place stays where it is."""
        source, power_w = int(self._pairs.sources[row]), float(self._pairs.powers_w[row])
        draw_w = float(self._draws_w[source])
        found_j = self._absorbs.carried_one(source, draw_w + power_w)
        return found_j - self._absorbs.carried_one(source, draw_w) + float(self._pairs.costs_j[row, place])

    def _make(self, place: int, *, outs: tuple[int, ...] = (), ins: tuple[int, ...] = ()) -> None:
        pairs = self._pairs
        for row in (*outs, *ins):
            source, power_w = int(pairs.sources[row]), float(pairs.powers_w[row])
            before = int(self._at[row])
            after = NOWHERE if row in outs else place
            left = source if before == NOWHERE else int(pairs.columns[before])
            joined = source if after == NOWHERE else int(pairs.columns[after])
            self._draws_w[left] -= power_w
            self._draws_w[joined] += power_w
            if before != NOWHERE:
                self._slots[left] += 1
                self._came[left] -= 1
            if after != NOWHERE:
                self._slots[joined] -= 1
                self._came[joined] += 1
            self._at[row] = after
            self._taken.pop(row, None)
            if after != NOWHERE:
                self._taken[row] = after
            for column, at in ((source, NOWHERE), (left, before), (joined, after)):
                self._weigh(column, at)

    def _weigh(self, column: int, place: int = NOWHERE) -> None:
        """Note what each job at a site has there, less what its way there costs."""
        pairs = self._pairs
        if place == NOWHERE:
            mine = np.array(self._rows_of.get(column, ()), dtype=np.intp)
            rows = mine[self._at[mine] == NOWHERE]
        else:
            rows = np.flatnonzero(self._at == place)
        draw_w = float(self._draws_w[column])
        rest_j = self._absorbs.carried(column, draw_w - pairs.powers_w[rows])
        self._holds_j[rows] = self._absorbs.carried_one(column, draw_w) - rest_j
        if place != NOWHERE:
            self._holds_j[rows] -= pairs.costs_j[rows, place]


class _Room:
    """Who could come to one place: `rows`, what each gives up and pays for it (`way_j`), and from where.

    No two come from one site at once, which would give up more than what each of them does.
    """

    def __init__(
        self, absorbs: Absorption, pairs: Pairs, place: int, rows: Rows, *, way_j: Array, drawn_at: Rows
    ) -> None:
        self._absorbs, self._rows, self._way_j, self._drawn_at = absorbs, rows, way_j, drawn_at
        self._column = int(pairs.columns[place])
        self._powers_w, self._sources = pairs.powers_w[rows], pairs.sources[rows]
        self._most_w = pairs.most_w[rows, place]
        self._all_sources = pairs.sources
        self.looked = 0

    def fill(self, left_w: float, stay: list[int], free: int) -> tuple[float, tuple[int, ...]]:
        """Let those come, beside those that stay, who gain most, one after the other: gain in J, and rows."""
        shut = np.isin(self._sources, self._all_sources[stay])
        ins: list[int] = []
        total_j = 0.0
        while len(ins) < free:
            gains_j = self._gains_j(left_w, shut)
            best = int(gains_j.argmax())
            if not gains_j[best] > (0.0 if ins else -np.inf):
                break
            total_j += float(gains_j[best])
            ins.append(int(self._rows[best]))
            left_w += float(self._powers_w[best])
            shut |= (self._sources == self._sources[best]) | (self._drawn_at == self._drawn_at[best])
        return total_j, tuple(ins)

    def _gains_j(self, draw_w: float, shut: NDArray[np.bool_]) -> Array:
        """Return what each gains beside a draw; -inf: it may not come."""
        self.looked += len(self._rows)
        need_w = draw_w + self._powers_w
        found: Array = self._absorbs.carried(self._column, need_w)
        found -= self._absorbs.carried_one(self._column, draw_w) + self._way_j
        found[(need_w > self._most_w) | shut] = -np.inf
        return found
