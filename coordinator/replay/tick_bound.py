"""How good one tick's plan could have been: the best set of moves from one view, by HiGHS.

The same moves, gains and gates as the policy `sterna` has, but all moves chosen at once: who goes where, at
most one move a job, a slot and a link each, and no site filled beyond what its windows carry. What a
booking makes easier (a site that somebody has left takes others) is always allowed, so that no order of
moves gets beyond it. It needs HiGHS and is imported only where it is asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import highspy
import numpy as np
from numpy.typing import NDArray

from coordinator.core.absorption import Absorption
from coordinator.core.bookings import Bookings
from coordinator.core.confidence import MEDIAN
from coordinator.core.horizon import HorizonJudge
from coordinator.core.policy import PlannerSettings
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.view import FleetView, Phase
from sterna.units import SECONDS_PER_HOUR

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best plan that was found and what none exceeds, both in J gained over staying."""

    found_j: float
    bound_j: float
    moves: int


@dataclass(slots=True)
class _Model:
    """A maximisation by rows; `whole` tells which columns are 0 or 1."""

    gain: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    rows: list[tuple[list[int], list[float], float]] = field(default_factory=list)

    def column(self, gain: float, upper: float, *, whole: bool) -> int:
        """Add a column from 0 to `upper`; return its number."""
        self.gain.append(gain)
        self.upper.append(upper)
        self.whole.append(whole)
        return len(self.gain) - 1

    def at_most(self, limit: float, entries: Iterable[tuple[int, float]]) -> None:
        """Add a row."""
        known = list(entries)
        if known:
            self.rows.append(([c for c, _ in known], [v for _, v in known], limit))


class Tick:
    """The moves of one tick as the policy `sterna` sees them: what a plan is worth, and the best one.

    Parameters
    ----------
    view : FleetView
        The fleet; nobody waits or must leave, and only links are limited, not the sites' access.
    settings : PlannerSettings
        The numbers; margins are taken as 0.
    reach_frac : float
        See `HorizonJudge`.
    """

    def __init__(self, view: FleetView, settings: PlannerSettings, *, reach_frac: float) -> None:
        self._view = view
        self._judge = HorizonJudge(
            view,
            replace(settings, gain_margin_s=0.0, gain_margin_frac=0.0),
            Bookings(view),
            reach_frac=reach_frac,
        )
        self._draws_w = np.array(self._judge.bookings.draws_w)
        self._absorbs = Absorption(self._judge.ahead, self._judge.reach_s)
        self._jobs = [job for job in view.jobs.values() if job.phase is Phase.RUNNING and job.may_migrate]
        self._ratings = self._judge.rate(self._jobs)
        terms = self._ratings.terms
        self._power_w = np.array([job.power_w for job in self._jobs])
        away_s = np.minimum(terms.migration_s, self._judge.reach_s)
        self._cost_j = self._power_w[:, None] * away_s + SECONDS_PER_HOUR * terms.energy_wh

    def value_j(self, decisions: Sequence[Decision]) -> float:
        """Return the energy that the moves among `decisions` gain, the time under way counted as lost."""
        rows = {job.job_id: row for row, job in enumerate(self._jobs)}
        draws, cost_j = np.array(self._draws_w), 0.0
        for one in decisions:
            if one.kind is DecisionKind.MIGRATE and one.target_site is not None:
                row, column = rows[one.job_id], self._judge.column_of(one.target_site)
                draws[column] += self._power_w[row]
                draws[self._judge.column_of(one.source_site or "")] -= self._power_w[row]
                cost_j += float(self._cost_j[row, column])
        return self._carried_j(draws) - self._carried_j(self._draws_w) - cost_j

    def best(self, *, limit_s: float, gap_frac: float) -> Best:
        """Return the best plan.

        Parameters
        ----------
        limit_s : float
            When HiGHS gives up; what it knows by then is returned.
        gap_frac : float
            Between the best plan and the bound, at which it is content.
        """
        model = _Model()
        moves = self._moves(model)
        self._limit(model, moves)
        solver = _solve(model, limit_s, gap_frac)
        info = solver.getInfo()
        stay_j = self._carried_j(self._draws_w)
        chosen = np.array(solver.getSolution().col_value)[[column for column, _, _ in moves]]
        return Best(
            found_j=float(info.objective_function_value) - stay_j,
            bound_j=float(info.mip_dual_bound) - stay_j,
            moves=int((chosen > 0.5).sum()),
        )

    def _carried_j(self, draws: Array) -> float:
        return sum(self._absorbs.carried_one(c, float(draw)) for c, draw in enumerate(draws))

    def _moves(self, model: _Model) -> list[tuple[int, int, int]]:
        """Add a column for each move that may be made: its number, job and site."""
        ratings, judge = self._ratings, self._judge
        found = []
        for row, job in enumerate(self._jobs):
            resident_s = (self._view.now - (job.resident_since or self._view.now)).total_seconds()
            if resident_s < max(job.min_residence_s, judge.settings.min_residence_s):
                continue
            for column, site in enumerate(judge.sites):
                total_s = float(ratings.terms.migration_s[row, column])
                leaves = float(ratings.lasts_s[row]) <= total_s
                takes = site.available and judge.bookings.slots[column] >= 1
                if (
                    leaves
                    and takes
                    and ratings.link_bps[row, column] > 0.0
                    and self._most_w(row, column) > 0.0
                ):
                    number = model.column(-float(self._cost_j[row, column]), 1.0, whole=True)
                    found.append((number, row, column))
        return found

    def _most_w(self, row: int, column: int) -> float:
        """Return the draw up to which the site's median window is long enough for the job."""
        terms = self._ratings.terms
        total_s, pays_s = float(terms.migration_s[row, column]), float(terms.break_even_s[row, column])
        wanted_s = total_s + max(total_s / self._judge.settings.alpha, pays_s)
        edges = self._judge.stacked.edges_s[column]
        step = int(np.searchsorted(edges, wanted_s, side="right")) - 1
        return float(self._judge.stacked.floors_w[MEDIAN, column, step])

    def _keep(self, model: _Model, site: int, going: list[tuple[int, int]], arrives_w: float) -> None:
        """Let nobody leave a site whose surplus covers the rest, nor when somebody has arrived there."""
        if not going:
            return
        edges, floors = self._judge.stacked.edges_s[site], self._judge.stacked.floors_w[MEDIAN, site]
        longest_s = max(float(np.nanmax(self._ratings.terms.migration_s[row])) for _, row in going)
        covered_w = float(floors[int(np.searchsorted(edges, longest_s, side="right")) - 1])
        if covered_w < arrives_w:
            return  # then one may arrive first, and others leave
        last_w = max(float(self._power_w[row]) for _, row in going)
        most_w = max(0.0, float(self._draws_w[site]) - covered_w) + last_w
        model.at_most(most_w, [(number, float(self._power_w[row])) for number, row in going])

    def _limit(self, model: _Model, moves: list[tuple[int, int, int]]) -> None:
        own = [self._judge.column_of(job.site_id or "") for job in self._jobs]
        for row in range(len(self._jobs)):
            model.at_most(1.0, [(number, 1.0) for number, mover, _ in moves if mover == row])
        pairs: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for number, row, column in moves:
            pairs.setdefault((own[row], column), []).append((number, 1.0))
        for entries in pairs.values():
            model.at_most(1.0, entries)
        for site in range(len(self._judge.sites)):
            coming = [(number, row) for number, row, column in moves if column == site]
            going = [(number, row) for number, row, _ in moves if own[row] == site]
            leaving = [(number, float(self._power_w[row])) for number, row in going]
            model.at_most(float(self._judge.bookings.slots[site]), [(number, 1.0) for number, _ in coming])
            most = {number: self._most_w(row, site) for number, row in coming}
            self._keep(model, site, going, max(most.values(), default=0.0))
            for level in sorted(set(most.values())):
                arrive = {n: float(self._power_w[row]) for n, row in coming if most[n] <= level}
                self._fill_up(model, level - float(self._draws_w[site]), arrive, leaving)
            self._carry(model, site, [(n, float(self._power_w[row])) for n, row in coming], leaving)

    def _fill_up(
        self, model: _Model, free_w: float, arrive: dict[int, float], leaving: list[tuple[int, float]]
    ) -> None:
        """Let those arrive for whom there is room; where there is none, only once so much has left."""
        change = [*arrive.items(), *((number, -watts) for number, watts in leaving)]
        if free_w >= 0.0:
            model.at_most(free_w, change)
            return
        anybody = model.column(0.0, 1.0, whole=True)
        for number in arrive:
            model.at_most(0.0, [(number, 1.0), (anybody, -1.0)])
        model.at_most(0.0, [*change, (anybody, -free_w)])

    def _carry(
        self, model: _Model, site: int, arrive: list[tuple[int, float]], leave: list[tuple[int, float]]
    ) -> None:
        """Add what the surplus of a site carries of all that is drawn there: below each line of its curve."""
        knots, carried = self._absorbs.knots_w[site], self._absorbs.carried_j[site]
        column = model.column(1.0, float(carried[-1]), whole=False)
        draw_w = float(self._draws_w[site])
        for low in range(len(knots) - 1):
            width_w = float(knots[low + 1] - knots[low])
            if width_w <= 0.0:
                continue
            slope = float(carried[low + 1] - carried[low]) / width_w
            entries = [(n, -slope * watts) for n, watts in arrive] + [(n, slope * w) for n, w in leave]
            limit = float(carried[low]) + slope * (draw_w - float(knots[low]))
            model.at_most(limit, [(column, 1.0), *entries])


def _solve(model: _Model, limit_s: float, gap_frac: float) -> highspy.Highs:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(model.gain), len(model.rows)
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = np.array(model.gain)
    lp.col_lower_, lp.col_upper_ = np.zeros(len(model.gain)), np.array(model.upper)
    lp.row_lower_ = np.full(len(model.rows), -highspy.kHighsInf)
    lp.row_upper_ = np.array([limit for _, _, limit in model.rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.cumsum([0, *(len(columns) for columns, _, _ in model.rows)])
    lp.a_matrix_.index_ = np.array([c for columns, _, _ in model.rows for c in columns])
    lp.a_matrix_.value_ = np.array([v for _, values, _ in model.rows for v in values])
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    lp.integrality_ = [kinds[whole] for whole in model.whole]
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("time_limit", limit_s)
    solver.setOptionValue("mip_rel_gap", gap_frac)
    solver.passModel(lp)
    solver.run()
    return solver
