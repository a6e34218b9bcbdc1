"""How far any policy with deferral could get: the exact optimum of a fluid fleet, by HiGHS.

Perfect knowledge, free and instant migration; jobs run, pause and are divided at will within an hour, never
faster than they are, and end by their deadlines. It needs HiGHS and is imported only where it is asked for.
"""

from dataclasses import dataclass, field

import highspy
import numpy as np
from numpy.typing import NDArray

from coordinator.replay.world import World
from sterna.errors import PermanentError
from sterna.units import SECONDS_PER_HOUR

Array = NDArray[np.float64]


@dataclass(slots=True)
class _Columns:
    """The matrix by columns: what a column holds of each row, and how large it may be."""

    starts: list[int] = field(default_factory=lambda: [0])
    rows: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)

    def add(self, upper: float, *entries: tuple[int, float]) -> None:
        """Add one column."""
        for row, value in entries:
            self.rows.append(row)
            self.values.append(value)
        self.starts.append(len(self.rows))
        self.upper.append(upper)


def deferred_bound_wh(world: World) -> float:
    """Return the non-renewable energy, in Wh, below which no policy gets that ends every job in time.

    Jobs of a world all draw the same power. Unknown is what a job runs in each step of the surplus, as a
    share of the step, and what of each step's running is not renewable.

    Raises
    ------
    PermanentError
        The deadlines cannot be met, or the surplus is not known until the last of them.
    """
    if not world.tasks or world.hold_back_s is None:
        return 0.0
    power_w = max(task.power_w for task in world.tasks)
    slots = sum(site.slots for site in world.sites)
    columns = _Columns()
    steps = _run_columns(world, columns)
    if steps * world.step_s > world.end_s:
        raise PermanentError(f"{world.name}: surplus is known for {world.end_s:.0f} s only")
    usable = sum(
        np.minimum(np.asarray(site.surplus_w[:steps]) / power_w, site.slots) for site in world.sites
    ) * np.ones(steps)
    runs = len(columns.upper)
    for step in range(steps):
        columns.add(max(0.0, slots - float(usable[step])), (len(world.tasks) + step, -1.0))
    work = np.array([task.work_s / world.step_s for task in world.tasks])
    cost = np.concatenate((np.zeros(runs), np.ones(steps)))
    least = _solve(world, columns, cost, work, usable)
    return least * power_w * world.step_s / SECONDS_PER_HOUR


def _run_columns(world: World, columns: _Columns) -> int:
    """Add a column for each job and step in which it may run; return the number of steps."""
    assert world.hold_back_s is not None  # its caller has looked
    steps = 0
    for number, task in enumerate(world.tasks):
        until_s = task.submitted_s + 2.0 * task.work_s + world.hold_back_s
        for step in range(world.step_of(task.submitted_s), world.step_of(until_s) + 1):
            from_s, to_s = step * world.step_s, (step + 1) * world.step_s
            share = (min(until_s, to_s) - max(task.submitted_s, from_s)) / world.step_s
            if share > 0.0:
                columns.add(share, (number, 1.0), (len(world.tasks) + step, 1.0))
                steps = max(steps, step + 1)
    return steps


def _solve(world: World, columns: _Columns, cost: Array, work: Array, usable: Array) -> float:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(columns.upper), len(work) + len(usable)
    lp.col_cost_ = cost
    lp.col_lower_, lp.col_upper_ = np.zeros(len(cost)), np.array(columns.upper)
    lp.row_lower_ = np.concatenate((work, np.full(len(usable), -highspy.kHighsInf)))
    lp.row_upper_ = np.concatenate((work, usable))
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.array(columns.starts)
    lp.a_matrix_.index_ = np.array(columns.rows)
    lp.a_matrix_.value_ = np.array(columns.values)
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.passModel(lp)
    solver.run()
    status = solver.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        raise PermanentError(
            f"{world.name}: the deadlines cannot all be met: {solver.modelStatusToString(status)}"
        )
    return float(solver.getObjectiveValue())
