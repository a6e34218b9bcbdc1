"""What a reference scenario fixes and no policy may choose, as frozen values in seconds from its start.

Owns the vocabulary of the exact replay; knows neither files (`importers`) nor time passing (`exact`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from coordinator.core import partial
from coordinator.core.partial import Piece
from coordinator.model.import_cost import Objective
from coordinator.model.job import SlowRange
from coordinator.model.replication import Replication
from sterna.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What a kilowatt-hour of import means at a site: money (may be negative) or grams; None is unknown.

    `per_kwh` holds for one step of the world each, from its start on; `past` was before, the newest last.
    """

    per_kwh: tuple[float | None, ...]
    past: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GridLimit:
    """What jobs of a site may draw beyond its surplus, `import_w`, in a time; known from `told_s` on."""

    told_s: float
    start_s: float
    end_s: float
    import_w: float

    def holds(self, now_s: float) -> bool:
        """Tell whether it is in force."""
        return self.start_s <= now_s < self.end_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """One site: `surplus_w` (>= 0) holds for one step of the world each, from its start on.

    `past_w` is what was seen in the steps up to the start, the newest last: all that a forecaster may
    have learnt from when the replay begins. `price`, in the world's currency, and `carbon` are those of what
    the site imports; None: nobody knows them.
    """

    site_id: str
    slots: int
    surplus_w: tuple[float, ...]
    past_w: tuple[float, ...] = ()
    price: Signal | None = None
    carbon: Signal | None = None
    limits: tuple[GridLimit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One job. `work_s`: running time that it needs; a policy is told of it only where it is declared.

    `pieces` are those of its checkpoint and sum up to it; none: it moves as a whole, after the seal.
    `replication` None: one process; else `work_s` is the time that a lone replica would need, and
    `checkpoint_bytes` and `power_w` are those of each replica. `slow` None: it cannot be slowed.
    """

    job_id: str
    home_site: str
    submitted_s: float
    work_s: float
    checkpoint_bytes: int
    power_w: float
    pieces: tuple[Piece, ...] = ()
    replication: Replication | None = None
    slow: SlowRange | None = None

    def ahead_bytes(self, held: frozenset[str]) -> int:
        """Return what travels to a site that holds some pieces, while the job goes on."""
        return partial.ahead_bytes(self.pieces, held)

    def stop_bytes(self, held: frozenset[str]) -> int:
        """Return what crosses after the seal to a site that holds some pieces."""
        return partial.stop_bytes(self.pieces, held) if self.pieces else self.checkpoint_bytes

    @property
    def seal_bytes(self) -> int:
        """Return what a stop seals."""
        return partial.seal_bytes(self.pieces) if self.pieces else self.checkpoint_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wan:
    """Links in bit/s, by (source, destination), and what each site's access carries in all."""

    pair_bps: Mapping[tuple[str, str], float]
    uplink_bps: Mapping[str, float]
    downlink_bps: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a migration takes beside the link.

    `store_bytes_per_s`: rate of sealing and of loading; `eta`: goodput of the WAN, 0 to 1; `alpha`: the
    share of a window that a disruption may take before it counts as an overrun.
    """

    store_bytes_per_s: float
    downtime_s: float
    eta: float
    network_wh_per_gb: float
    alpha: float

    def store_s(self, size_bytes: float) -> float:
        """Return T_seal, and T_load, of a checkpoint."""
        return size_bytes / self.store_bytes_per_s

    def restart_s(self, size_bytes: float) -> float:
        """Return T_load + T_downtime: what a job draws for at its destination before it runs."""
        return self.store_s(size_bytes) + self.downtime_s


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One scenario, one period, one offset.

    `tasks` are in order of submission. `hold_back_s` None: no job may be held back or paused; else it may,
    as long as it ends by submission + 2 × work + `hold_back_s`.
    """

    name: str
    start_at: datetime
    period_s: float
    step_s: float
    sites: tuple[Plant, ...]
    tasks: tuple[Task, ...]
    wan: Wan
    costs: Costs
    currency: str = ""
    """Of all prices; empty: there are none."""
    objective: Objective = Objective.ENERGY
    """By what policies are told to value import."""
    hold_back_s: float | None = None
    ahead_if_needed: bool = False
    """Pieces travel ahead only where the move would not be feasible with all of them crossing at the stop."""

    @property
    def tells_transfers(self) -> bool:
        """Tell whether something crosses links that the rows of the jobs alone do not tell."""
        return any(task.pieces or task.replication is not None for task in self.tasks)

    @property
    def is_limited(self) -> bool:
        """Tell whether a limit of the grid holds anywhere at any time."""
        return any(site.limits for site in self.sites)

    @property
    def end_s(self) -> float:
        """Return how far the surplus is known, in seconds from the start."""
        return self.step_s * min(len(site.surplus_w) for site in self.sites)

    @property
    def cost_unit(self) -> str:
        """Return the unit of what import costs by the objective."""
        return f"{self.currency if self.objective is Objective.PRICE else 'g'}/kWh"

    def cost_of(self, site: Plant) -> Signal | None:
        """Return what import costs at a site by the objective; None: its energy alone counts, or unknown."""
        return {Objective.PRICE: site.price, Objective.CARBON: site.carbon}.get(self.objective)

    def at(self, offset_s: float) -> datetime:
        """Return the instant so many seconds from the start."""
        return self.start_at + timedelta(seconds=offset_s)

    def step_of(self, offset_s: float) -> int:
        """Return the number of the step that holds at an instant."""
        return int(offset_s // self.step_s)

    def window_end_s(self, site: Plant, from_s: float, need_w: float) -> float:
        """Return when the surplus of a site first falls below a need, `from_s` itself included."""
        for step in range(self.step_of(from_s), len(site.surplus_w)):
            if site.surplus_w[step] < need_w:
                return max(from_s, step * self.step_s)
        return self.end_s


def access_of(
    pair_bps: Mapping[tuple[str, str], float], most_bps: float | None, sites: Iterable[str] = ()
) -> Wan:
    """Bound each site's access by its largest entry to, respectively from, the others, and by `most_bps`.

    A site of `sites` without an entry has an access of 0.
    """
    ceiling = float("inf") if most_bps is None else most_bps
    up = dict.fromkeys(sites, 0.0)
    down = dict(up)
    for (source, destination), bps in pair_bps.items():
        up[source] = max(up.get(source, 0.0), bps)
        down[destination] = max(down.get(destination, 0.0), bps)
    return Wan(
        pair_bps=dict(pair_bps),
        uplink_bps={site: min(bps, ceiling) for site, bps in up.items()},
        downlink_bps={site: min(bps, ceiling) for site, bps in down.items()},
    )


def check(world: World) -> None:
    """Refuse a world that contradicts itself; every fault, one a line.

    Raises
    ------
    ConfigError
        A home or a link names no site, tasks are out of order, or a figure is out of its range.
    """
    names = {site.site_id for site in world.sites}
    holds_back = world.hold_back_s is not None
    faults = [] if len(names) == len(world.sites) else ["sites: an id appears twice"]
    faults += [] if names else ["sites: there is none"]
    faults += [
        f"{site.site_id}: {site.slots} slots: expected 1 or more" for site in world.sites if site.slots < 1
    ]
    faults += [f"{t.job_id}: home {t.home_site} is no site" for t in world.tasks if t.home_site not in names]
    faults += [f"{t.job_id}: work {t.work_s} s: expected above 0" for t in world.tasks if not t.work_s > 0]
    faults += [
        fault for task in world.tasks for fault in _parts_faults(task, len(names), holds_back=holds_back)
    ]
    if world.is_limited and any(task.replication is not None for task in world.tasks):
        faults.append("limits: replicas keep to none")
    submitted = [task.submitted_s for task in world.tasks]
    if submitted != sorted(submitted):
        faults.append("tasks: not in order of submission")
    faults += [
        f"link {source} to {destination}: missing or not above 0"
        for source in sorted(names)
        for destination in sorted(names - {source})
        if not world.wan.pair_bps.get((source, destination), 0.0) > 0.0
    ]
    if faults:
        raise ConfigError("\n".join(f"{world.name}: {fault}" for fault in faults))


def _parts_faults(task: Task, sites: int, *, holds_back: bool) -> list[str]:
    faults = []
    if task.pieces:
        if sum(piece.size_bytes for piece in task.pieces) != task.checkpoint_bytes:
            faults.append(f"{task.job_id}: pieces do not sum up to the checkpoint")
        if len({piece.name for piece in task.pieces}) != len(task.pieces):
            faults.append(f"{task.job_id}: a piece appears twice")
        if not partial.seal_bytes(task.pieces):
            faults.append(f"{task.job_id}: no piece changes and moves")
    if task.replication is not None:
        if holds_back:
            faults.append(f"{task.job_id}: replicas cannot be held back")
        if task.slow is not None:
            faults.append(f"{task.job_id}: replicas cannot be slowed")
        if task.replication.least > sites:
            faults.append(f"{task.job_id}: {task.replication.least} replicas at {sites} sites")
        if task.pieces:
            faults.append(f"{task.job_id}: replicas fetch whole checkpoints, not pieces")
    return faults
