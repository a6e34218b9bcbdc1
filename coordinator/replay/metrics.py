"""Every metric of the scenario README, from a journal and its world alone, whatever policy wrote it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from coordinator.core.ledger import Energy, account_steps
from coordinator.replay.journal import Interval, Stage
from coordinator.replay.transfers import Cause, Transfer
from coordinator.replay.world import Plant, Signal, World
from sterna.units import bytes_to_gb, joules_to_wh

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """One migration as it went: from the start of its seal to the resumption, and the window it met.

    `window_s` 0: there was none. `needed_w`: what the jobs that drew there at that instant needed.
    """

    job_id: str
    source: str
    destination: str
    began_s: float
    resumed_s: float
    needed_w: float
    window_s: float

    @property
    def disruption_s(self) -> float:
        """Return for how long the job made no progress."""
        return self.resumed_s - self.began_s

    def overran(self, alpha: float) -> bool:
        """Tell whether it took more than its share of the window."""
        return self.window_s <= 0.0 or self.disruption_s > alpha * self.window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The figures of one replay; energy in Wh, `total_wh` and `nonrenewable_wh` with the network's."""

    nonrenewable_wh: float
    total_wh: float
    absorbed_wh: float
    network_wh: float
    mean_completion_s: float
    p95_completion_s: float
    jobs: int
    migrations: int
    overruns: int
    late: int
    """Jobs that ended later than the scenario's deadline; 0 where there is none."""
    slots_held: float
    exchanges_wh: float = 0.0
    """Of the network's: what replicas of distributed jobs exchanged."""
    replicas: float = 0.0
    """Replicas that trained at a time, a mean over the time in which their jobs ran; 0: there were none."""
    given_up: int = 0
    """Moves whose pieces had travelled ahead when they were no longer worth it."""
    stood_s: float = 0.0
    """For how long jobs stood still at a site, slot kept, between two stages there: all of them together."""
    cost: float | None = None
    """Of what jobs drew from the grid, in the world's currency, not of the network; None: part is unknown."""
    carbon_g: float | None = None
    """Of the same, grams of CO2."""

    @property
    def renewable_frac(self) -> float:
        """Return the renewable share of all energy, 0 to 1."""
        return 1.0 - self.nonrenewable_wh / self.total_wh if self.total_wh > 0.0 else 0.0

    @property
    def migrations_per_job(self) -> float:
        """Return how often a job moved on average."""
        return self.migrations / self.jobs if self.jobs else 0.0

    @property
    def overrun_frac(self) -> float:
        """Return the share of migrations that overran, 0 to 1; 0 when there was none."""
        return self.overruns / self.migrations if self.migrations else 0.0


def measure(world: World, intervals: Iterable[Interval], transfers: Iterable[Transfer] = ()) -> Metrics:
    """Compute all metrics of a replay.

    Parameters
    ----------
    world : World
        The world that was replayed.
    intervals : iterable of Interval
        Its journal.
    transfers : iterable of Transfer
        What crossed its links beside, where the world tells transfers.
    """
    rows, carried = tuple(intervals), tuple(transfers)
    by_course: defaultdict[str, list[Interval]] = defaultdict(list)
    by_site: dict[str, list[Interval]] = {site.site_id: [] for site in world.sites}
    for row in rows:
        by_course[row.job_id if row.replica is None else f"{row.job_id}/{row.replica}"].append(row)
        by_site[row.site_id].append(row)
    power = {task.job_id: task.power_w for task in world.tasks}
    courses = [(site, site_course(world, site, by_site[site.site_id], power)) for site in world.sites]
    energy = sum((course.energy for _, course in courses), start=Energy())
    moves = landings(world, by_course, by_site)
    size = {task.job_id: task.checkpoint_bytes for task in world.tasks}
    network_wh = sum(world.costs.network_wh_per_gb * bytes_to_gb(size[move.job_id]) for move in moves)
    if world.tells_transfers:
        network_wh = sum(world.costs.network_wh_per_gb * bytes_to_gb(one.size_bytes) for one in carried)
    ended = ends(rows)
    took = np.array([ended[task.job_id] - task.submitted_s for task in world.tasks])
    return Metrics(
        nonrenewable_wh=energy.nonrenewable_wh + network_wh,
        total_wh=energy.total_wh + network_wh,
        absorbed_wh=energy.renewable_wh,
        network_wh=network_wh,
        mean_completion_s=float(took.mean()) if len(took) else 0.0,
        p95_completion_s=float(np.percentile(took, 95)) if len(took) else 0.0,
        jobs=len(world.tasks),
        migrations=len(moves),
        overruns=sum(move.overran(world.costs.alpha) for move in moves),
        late=_late(world, ended),
        slots_held=_slots_held(world, rows, moves, pauses(by_course)) + _slots_waiting(world, carried),
        exchanges_wh=sum(
            world.costs.network_wh_per_gb * bytes_to_gb(one.size_bytes)
            for one in carried
            if one.cause is Cause.SYNC
        ),
        replicas=_replicas(rows),
        given_up=_given_up(rows, carried),
        stood_s=sum(end_s - start_s for _, start_s, end_s in pauses(by_course)),
        cost=_of_imports((course, site.price) for site, course in courses),
        carbon_g=_of_imports((course, site.carbon) for site, course in courses),
    )


def _slots_waiting(world: World, carried: Iterable[Transfer]) -> float:
    """Return the mean of the slots that are kept at destinations for what travels before the job does."""
    causes = (Cause.AHEAD, Cause.JOIN)
    waited_s = sum(_within(world, one.start_s, one.end_s) for one in carried if one.cause in causes)
    return waited_s / world.period_s


def _replicas(rows: Iterable[Interval]) -> float:
    trained = [row for row in rows if row.replica is not None and row.stage is Stage.RUN]
    spans: dict[str, tuple[float, float]] = {}
    for row in trained:
        first_s, last_s = spans.get(row.job_id, (row.start_s, row.end_s))
        spans[row.job_id] = min(first_s, row.start_s), max(last_s, row.end_s)
    total_s = sum(last_s - first_s for first_s, last_s in spans.values())
    return sum(row.end_s - row.start_s for row in trained) / total_s if total_s > 0.0 else 0.0


def ends(rows: Iterable[Interval]) -> dict[str, float]:
    """Return when each job ended, in seconds from the start."""
    ended: dict[str, float] = {}
    for row in rows:
        ended[row.job_id] = max(row.end_s, ended.get(row.job_id, 0.0))
    return ended


def _given_up(rows: Iterable[Interval], carried: Iterable[Transfer]) -> int:
    """Return how many transfers ahead were not followed by a seal at that instant, nor by the job's end."""
    seals = {(row.job_id, round(row.start_s, 5)) for row in rows if row.stage is Stage.SEAL}
    ended = ends(rows)
    return sum(
        one.cause is Cause.AHEAD
        and (one.job_id, round(one.end_s, 5)) not in seals
        and ended[one.job_id] > one.end_s + 1e-5
        for one in carried
    )


def site_draw(
    rows: Sequence[Interval], power_w: Mapping[str, float], cuts: Iterable[float]
) -> tuple[Array, Array]:
    """Return what jobs draw at a site as steps.

    Parameters
    ----------
    rows : sequence of Interval
        The site's rows.
    power_w : mapping
        Full power by job, for rows that do not say what was drawn.
    cuts : iterable of float
        Further instants at which a step is to begin.

    Returns
    -------
    tuple of array
        Edges in seconds, shape (K + 1), and watts, shape (K).
    """
    starts = np.array([row.start_s for row in rows])
    ends = np.array([row.end_s for row in rows])
    watts = np.array([power_w[row.job_id] if row.power_w is None else row.power_w for row in rows])
    at = np.concatenate((starts, ends, np.fromiter(cuts, dtype=np.float64)))
    change = np.concatenate((watts, -watts, np.zeros(len(at) - 2 * len(rows))))
    edges, place = np.unique(at, return_inverse=True)
    total = np.cumsum(np.bincount(place, weights=change, minlength=len(edges)))
    # What is left of a sum of watts after all were taken off again is rounding, not draw.
    return edges, np.maximum(0.0, np.round(total[:-1], 6))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteCourse:
    """A site in K stretches in which nothing changes: K + 1 edges, and of each the step that it lies in."""

    edges_s: Array
    steps: NDArray[np.int_]
    drawn_w: Array
    surplus_w: Array

    @property
    def energy(self) -> Energy:
        """Return what was drawn, split against the surplus."""
        return account_steps(self.edges_s, self.surplus_w, self.drawn_w)

    @property
    def imported_j(self) -> Array:
        """Return what was drawn beyond the surplus."""
        imported: Array = np.maximum(0.0, self.drawn_w - self.surplus_w) * np.diff(self.edges_s)
        return imported


def site_course(
    world: World, site: Plant, rows: Sequence[Interval], power_w: Mapping[str, float]
) -> SiteCourse:
    """Return what a site's jobs drew beside its surplus; `rows`: its own."""
    last = world.step_of(max((row.end_s for row in rows), default=0.0)) + 1
    edges_s, drawn_w = site_draw(rows, power_w, (step * world.step_s for step in range(last + 1)))
    steps = np.minimum((edges_s[:-1] // world.step_s).astype(int), len(site.surplus_w) - 1)
    return SiteCourse(
        edges_s=edges_s, steps=steps, drawn_w=drawn_w, surplus_w=np.asarray(site.surplus_w)[steps]
    )


def _of_imports(imports: Iterable[tuple[SiteCourse, Signal | None]]) -> float | None:
    """Return what signals make of all that sites imported; None where some of it has none."""
    total = sum(charged(course.imported_j, signal, course.steps) for course, signal in imports)
    return None if np.isnan(total) else total


def charged(imported_j: Array, signal: Signal | None, steps: NDArray[np.int_]) -> float:
    """Return what a signal makes of joules imported in some steps; NaN where some of it has none."""
    per_kwh = np.where(imported_j > 0.0, at_steps(signal, steps), 0.0)
    return joules_to_wh(float(np.sum(per_kwh * imported_j))) / 1e3


def at_steps(signal: Signal | None, steps: NDArray[np.int_]) -> Array:
    """Return a signal at some steps of its world; NaN where it is unknown."""
    known = np.array((*(signal.per_kwh if signal is not None else ()), None), dtype=np.float64)
    values: Array = known[np.minimum(steps, len(known) - 1)]
    return values


def landings(
    world: World, by_course: Mapping[str, Sequence[Interval]], by_site: Mapping[str, Sequence[Interval]]
) -> tuple[Landing, ...]:
    """Return every migration and the window that it met, in order of resumption.

    `by_course`: the rows of each job, of a distributed one those of each replica.
    """
    power = {task.job_id: task.power_w for task in world.tasks}
    # A job that is slowed needs its full power all the same: a window is what covers that.
    full = {
        name: [r if r.power_w is None else replace(r, power_w=None) for r in by_site[name]]
        for name in by_site
    }
    draws = {site.site_id: site_draw(full[site.site_id], power, (0.0,)) for site in world.sites}
    plants = {site.site_id: site for site in world.sites}
    found = []
    for rows in by_course.values():
        course = sorted(rows, key=lambda row: row.start_s)
        for seal, load in pairwise([row for row in course if row.stage is not Stage.RUN]):
            if seal.stage is not Stage.SEAL or load.stage is not Stage.LOAD:
                continue
            edges, drawn_w = draws[load.site_id]
            place = int(np.searchsorted(edges, load.end_s, side="right")) - 1
            needed_w = float(drawn_w[place]) if place < len(drawn_w) else 0.0
            end_s = world.window_end_s(plants[load.site_id], load.end_s, needed_w)
            found.append(
                Landing(
                    job_id=seal.job_id,
                    source=seal.site_id,
                    destination=load.site_id,
                    began_s=seal.start_s,
                    resumed_s=load.end_s,
                    needed_w=needed_w,
                    window_s=end_s - load.end_s,
                )
            )
    return tuple(sorted(found, key=lambda move: (move.resumed_s, move.job_id)))


def _late(world: World, ended: Mapping[str, float]) -> int:
    if world.hold_back_s is None:
        return 0
    return sum(
        ended[task.job_id] > task.submitted_s + 2.0 * task.work_s + world.hold_back_s + 1e-6
        for task in world.tasks
    )


def pauses(by_course: Mapping[str, Sequence[Interval]]) -> tuple[tuple[str, float, float], ...]:
    """Return when jobs stood still at a site and kept their slots: (site, start, end) in seconds."""
    return tuple(
        (after.site_id, before.end_s, after.start_s)
        for rows in by_course.values()
        for before, after in pairwise(sorted(rows, key=lambda row: row.start_s))
        if before.site_id == after.site_id and before.stage is not Stage.SEAL and after.start_s > before.end_s
    )


def _slots_held(
    world: World,
    rows: Iterable[Interval],
    moves: Iterable[Landing],
    paused: Iterable[tuple[str, float, float]],
) -> float:
    """Return the mean over the period: stages, pauses, and the destination's slot until the load."""
    held_s = sum(_within(world, row.start_s, row.end_s) for row in rows)
    held_s += sum(_within(world, start_s, end_s) for _, start_s, end_s in paused)
    loads = {(row.job_id, row.end_s): row.start_s for row in rows if row.stage is Stage.LOAD}
    held_s += sum(_within(world, move.began_s, loads[move.job_id, move.resumed_s]) for move in moves)
    return held_s / world.period_s


def _within(world: World, start_s: float, end_s: float) -> float:
    return max(0.0, min(end_s, world.period_s) - start_s)
