"""A plan of moves made better on paper: jobs trade places, where watts are short and one keeps out two.

Knows figures only: what each pair costs, up to which draw a site takes a job, what its surplus carries. The
moves that come of it are booked, and held against every gate, by `bulk`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from coordinator.core.absorption import Absorption

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

_LEAST_J = 1.0  # a trade that brings less is none
_FIRSTS = 8  # jobs that are tried as the first of two that come
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
        for wide in (False, True):
            self._climb(places, effort_pairs, wide=wide)
        better = True
        while better and self.looked < effort_pairs:
            better = False
            for place in places:
                if self.looked < effort_pairs:
                    better = self._shake(places[place:] + places[:place], effort_pairs) or better
        return self._taken

    def _climb(self, places: list[int], effort_pairs: int, *, wide: bool) -> None:
        """Make trades until there is none that gains."""
        found = True
        while found:
            found = False
            for place in places:
                while self.looked < effort_pairs and (trade := self._best(place, wide=wide)) is not None:
                    self._make(place, trade)
                    found = True

    def _shake(self, places: list[int], effort_pairs: int) -> bool:
        """Send back who comes to the first of some places and climb again; undo what is no better."""
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
        self._make(places[0], _Trade(gain_j=0.0, outs=outs, ins=()))
        for wide in (False, True):
            self._climb(places[1:] + places[:1], effort_pairs, wide=wide)
        if self._total_j() > before_j + _LEAST_J:
            return True
        self._draws_w, self._slots, self._came, self._at, self._holds_j, self._taken = kept
        return False

    def _total_j(self) -> float:
        carried_j = sum(self._absorbs.carried_one(*site) for site in enumerate(self._draws_w.tolist()))
        return carried_j - sum(float(self._pairs.costs_j[pair]) for pair in self._taken.items())

    def _best(self, place: int, *, wide: bool) -> _Trade | None:
        """Return the best trade at a place; `wide`: also of two jobs for one or two."""
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
        room = _Room(self._absorbs, pairs, place, rows, way_j)
        best: _Trade | None = None
        for outs in _some_of(self._may_go_back(place), wide=wide):
            stay = [row for row in here if row not in outs]
            free = self._slots[column] + len(outs)
            left_w = float(self._draws_w[column]) - float(pairs.powers_w[list(outs)].sum())
            back_j = sum(self._back_j(row, place) for row in outs)
            back_j += self._absorbs.carried_one(column, left_w)
            back_j -= self._absorbs.carried_one(column, float(self._draws_w[column]))
            for gain_j, ins in room.fill(left_w, stay, free, wide=wide):
                if gain_j + back_j > (_LEAST_J if best is None else best.gain_j):
                    best = _Trade(gain_j=gain_j + back_j, outs=outs, ins=ins)
        self.looked += room.looked
        return best

    def _may_trade(self, rows: Rows, place: int) -> Rows:
        """Leave out those who are bound for a place, and those who are to stay where they are."""
        sources, at = self._pairs.sources[rows], self._at[rows]
        leaves = (at != NOWHERE) | (self._draws_w[sources] > self._pairs.leave_above_w[sources])
        # Who comes to a site counts on those who have left it, and on nobody leaving it from then on.
        found: Rows = rows[(at != place) & leaves & (self._came[sources] == 0)]
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

    def _make(self, place: int, trade: _Trade) -> None:
        pairs = self._pairs
        for row in (*trade.outs, *trade.ins):
            source, power_w = int(pairs.sources[row]), float(pairs.powers_w[row])
            before = int(self._at[row])
            after = NOWHERE if row in trade.outs else place
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
    """Who could come to one place; `way_j` is what each of `rows` gives up and pays for it."""

    def __init__(self, absorbs: Absorption, pairs: Pairs, place: int, rows: Rows, way_j: Array) -> None:
        self._absorbs, self._rows, self._way_j = absorbs, rows, way_j
        self._column = int(pairs.columns[place])
        self._powers_w, self._sources = pairs.powers_w[rows], pairs.sources[rows]
        self._most_w = pairs.most_w[rows, place]
        self._all_sources = pairs.sources
        self.looked = 0

    def fill(
        self, left_w: float, stay: list[int], free: int, *, wide: bool
    ) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Tell the best one that could come beside those that stay, and likewise two: gain in J, rows."""
        if free < 1:
            return
        links = {int(self._all_sources[row]) for row in stay}
        gains_j = self._gains_j(left_w, links)
        order = np.argsort(-gains_j, kind="stable")[:_FIRSTS] if wide and free > 1 else [gains_j.argmax()]
        for first in order:
            gain_j = float(gains_j[first])
            if not gain_j > -np.inf:
                return
            yield gain_j, (int(self._rows[first]),)
            if wide and free > 1:
                beside = links | {int(self._sources[first])}
                more_j = self._gains_j(left_w + float(self._powers_w[first]), beside)
                second = int(more_j.argmax())
                yield gain_j + float(more_j[second]), (int(self._rows[first]), int(self._rows[second]))

    def _gains_j(self, draw_w: float, links: set[int]) -> Array:
        """Return what each gains beside a draw; -inf: it may not come, or its link is taken."""
        self.looked += len(self._rows)
        need_w = draw_w + self._powers_w
        found: Array = self._absorbs.carried(self._column, need_w)
        found -= self._absorbs.carried_one(self._column, draw_w) + self._way_j
        found[(need_w > self._most_w) | np.isin(self._sources, list(links))] = -np.inf
        return found


def _some_of(here: list[int], *, wide: bool) -> Iterator[tuple[int, ...]]:
    yield ()
    for count in (1, 2) if wide else (1,):
        yield from combinations(here, count)
