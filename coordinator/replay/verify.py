"""A second opinion: every metric again, from `decisions.jsonl` and the raw data alone.

Shares with the replay what a scenario fixes (its file and traces), and nothing that counts: no engine, no
ledger, no numpy. Walks each site's rows in time with plain arithmetic, and checks the rows on the way.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from math import floor

from coordinator.replay.journal import Interval, Stage
from coordinator.replay.metrics import Metrics
from coordinator.replay.transfers import Cause, Transfer
from coordinator.replay.verify_parts import (
    is_limited,
    limit_faults,
    link_faults,
    piece_faults,
    replica_faults,
)
from coordinator.replay.world import Plant, Signal, Task, World
from sterna.errors import CorruptError

SLACK_S = 1e-3
"""Rows are written to the microsecond; over a job's stages that adds up."""


def recompute(world: World, rows: Iterable[Interval], transfers: Iterable[Transfer] = ()) -> Metrics:
    """Check the rows and count them again.

    Parameters
    ----------
    world : World
        The world.
    rows : iterable of Interval
        Its `decisions.jsonl`.
    transfers : iterable of Transfer
        Its `transfers.jsonl`, where it has one.

    Raises
    ------
    CorruptError
        A job overlaps itself, did not get its work, took less time for a seal, transfer or load than it
        takes at least, or a site held more jobs than it has slots; pieces or replicas break a rule of
        theirs; every fault, one a line.
    """
    every = sorted(rows, key=lambda row: (row.start_s, row.end_s))
    carried = sorted(transfers, key=lambda one: (one.start_s, one.end_s))
    courses: dict[str, list[Interval]] = {task.job_id: [] for task in world.tasks}
    crossed: dict[str, list[Transfer]] = {task.job_id: [] for task in world.tasks}
    told = {row.job_id for row in every} | {one.job_id for one in carried}
    strangers = told - courses.keys()
    faults = [f"job {job_id} is not of this scenario" for job_id in sorted(strangers)]
    for row in every:
        if row.job_id in courses:
            courses[row.job_id].append(row)
    for one in carried:
        if one.job_id in crossed:
            crossed[one.job_id].append(one)
    for task in world.tasks:
        mine = courses[task.job_id]
        if task.replication is not None:
            faults += replica_faults(world, task, mine, crossed[task.job_id])
            continue
        faults += [*_course_faults(world, task, mine), *_power_faults(task, mine)]
        faults += piece_faults(task, mine, crossed[task.job_id]) if task.pieces else []
    faults += [*link_faults(world, carried), *limit_faults(world, every)]
    alone = _alone(world, courses)
    moves = [] if faults else _moves(alone)
    # A job that stands still between two rows at one site keeps its slot, if it may stand still at all.
    stills = [] if faults else _stills(alone)
    faults += [] if faults else _slot_faults(world, every, moves, stills, carried)
    if world.hold_back_s is None:
        faults += [
            f"job {row.job_id}: stood still at {row.end_s:.3f} s"
            for row, after in stills
            if not is_limited(world, after.site_id, row.end_s)
        ]
    if faults:
        raise CorruptError("\n".join(faults))
    return _count(world, every, courses, carried)


def _alone(world: World, courses: dict[str, list[Interval]]) -> dict[str, list[Interval]]:
    """Return the courses of jobs that are no more than one process."""
    return {task.job_id: courses[task.job_id] for task in world.tasks if task.replication is None}


_Move = tuple[Interval, Interval]
_WAITED_FOR = (Cause.AHEAD, Cause.JOIN)
"""While these travel, a slot at the destination is kept."""


def _course_faults(world: World, task: Task, rows: list[Interval]) -> list[str]:
    job_id = task.job_id
    faults = []
    ran_s = sum(_speed(task, row) * (row.end_s - row.start_s) for row in rows if row.stage is Stage.RUN)
    if abs(ran_s - task.work_s) > SLACK_S:
        faults.append(f"job {job_id}: ran {ran_s:.3f} s of {task.work_s:.3f} s")
    if rows and rows[0].start_s < task.submitted_s - SLACK_S:
        faults.append(f"job {job_id}: began before it was submitted")
    for before, after in pairwise(rows):
        if after.start_s < before.end_s - SLACK_S:
            faults.append(f"job {job_id}: two rows at {after.start_s:.3f} s")
        if (before.stage is Stage.SEAL) != (after.stage is Stage.LOAD):
            faults.append(f"job {job_id}: {before.stage.value} before {after.stage.value}")
        if before.stage is Stage.SEAL and after.stage is Stage.LOAD:
            link_bps = world.wan.pair_bps.get((before.site_id, after.site_id), float("inf"))
            # What crosses of a job in pieces is told by its transfers.
            least_s = 0.0 if task.pieces else 8 * task.checkpoint_bytes / (world.costs.eta * link_bps)
            if after.start_s - before.end_s < least_s - SLACK_S:
                faults.append(f"job {job_id}: a transfer of {after.start_s - before.end_s:.3f} s")
        if before.site_id != after.site_id and after.stage is not Stage.LOAD:
            faults.append(f"job {job_id}: at {after.site_id} without a move")
    for row in rows:
        seal_s = task.checkpoint_bytes / world.costs.store_bytes_per_s
        load_s = seal_s + world.costs.downtime_s
        if task.pieces:
            sealed = (one.size_bytes for one in task.pieces if not one.stays and one.change_frac > 0.0)
            seal_s = sum(sealed) / world.costs.store_bytes_per_s
        least_s = {Stage.SEAL: seal_s, Stage.LOAD: load_s}.get(row.stage, 0.0)
        if row.end_s - row.start_s < least_s - SLACK_S:
            faults.append(f"job {job_id}: a {row.stage.value} of {row.end_s - row.start_s:.3f} s")
    return faults


def _power_faults(task: Task, rows: list[Interval]) -> list[str]:
    least_w = task.slow.power_frac * task.power_w if task.slow is not None else task.power_w
    return [
        f"job {task.job_id}: drew {row.power_w:g} W at {row.start_s:.3f} s"
        for row in rows
        if row.power_w is not None
        and (row.stage is not Stage.RUN or not least_w - 1e-6 <= row.power_w <= task.power_w)
    ]


def _speed(task: Task, row: Interval) -> float:
    """Return the speed of a row, 1 being the full one: a straight line down to the least power of the job."""
    if row.power_w is None or task.slow is None:
        return 1.0
    least_w = task.slow.power_frac * task.power_w
    return 1.0 - (1.0 - task.slow.speed_frac) * (task.power_w - row.power_w) / (task.power_w - least_w)


def _moves(courses: dict[str, list[Interval]]) -> list[_Move]:
    return [
        (before, after)
        for rows in courses.values()
        for before, after in pairwise(rows)
        if before.stage is Stage.SEAL
    ]


def _stills(courses: dict[str, list[Interval]]) -> list[_Move]:
    return [
        (before, after)
        for rows in courses.values()
        for before, after in pairwise(rows)
        if before.stage is not Stage.SEAL and after.start_s > before.end_s + SLACK_S
    ]


def _slot_faults(
    world: World, rows: list[Interval], moves: list[_Move], stills: list[_Move], carried: list[Transfer]
) -> list[str]:
    changes: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for row in rows:
        changes[row.site_id] += [(row.start_s, 1), (row.end_s, -1)]
    for seal, load in moves:
        changes[load.site_id] += [(seal.start_s, 1), (load.start_s, -1)]
    for one in carried:
        if one.cause in _WAITED_FOR:
            changes[one.destination] += [(one.start_s, 1), (one.end_s, -1)]
    for before, after in stills:
        changes[before.site_id] += [(before.end_s, 1), (after.start_s, -1)]
    faults = []
    for site in world.sites:
        held = 0
        # At one instant slots are freed before they are taken; rows of one course meet there, too.
        for at_s, change in sorted((round(at_s, 5), change) for at_s, change in changes[site.site_id]):
            held += change
            if held > site.slots:
                faults.append(f"{site.site_id}: {held} of {site.slots} slots at {at_s:.3f} s")
                break
    return faults


def _count(
    world: World,
    every: list[Interval],
    courses: dict[str, list[Interval]],
    carried: list[Transfer],
) -> Metrics:
    costs = world.costs
    moves, stills = _moves(_alone(world, courses)), _stills(_alone(world, courses))
    ends = {job_id: max(row.end_s for row in mine) for job_id, mine in courses.items()}
    energy = [_site_wh(world, site, every) for site in world.sites]
    imports = [by_step for _, by_step in energy]
    sizes = {task.job_id: task.checkpoint_bytes for task in world.tasks}
    network_wh = sum(costs.network_wh_per_gb * sizes[seal.job_id] / 1e9 for seal, _ in moves)
    if world.tells_transfers:
        network_wh = sum(costs.network_wh_per_gb * one.size_bytes / 1e9 for one in carried)
    took = sorted(ends[task.job_id] - task.submitted_s for task in world.tasks)
    late = 0
    for task in world.tasks:
        if world.hold_back_s is not None:
            deadline_s = task.submitted_s + 2 * task.work_s + world.hold_back_s
            late += ends[task.job_id] > deadline_s + SLACK_S
    held_s = sum(_inside(world, row.start_s, row.end_s) for row in every)
    held_s += sum(_inside(world, seal.start_s, load.start_s) for seal, load in moves)
    held_s += sum(_inside(world, before.end_s, after.start_s) for before, after in stills)
    held_s += sum(_inside(world, one.start_s, one.end_s) for one in carried if one.cause in _WAITED_FOR)
    exchanged = [one.size_bytes for one in carried if one.cause is Cause.SYNC]
    return Metrics(
        nonrenewable_wh=sum(sum(by_step.values()) for by_step in imports) + network_wh,
        total_wh=sum(sun + sum(by_step.values()) for sun, by_step in energy) + network_wh,
        absorbed_wh=sum(sun for sun, _ in energy),
        network_wh=network_wh,
        mean_completion_s=sum(took) / len(took) if took else 0.0,
        p95_completion_s=_quantile(took, 0.95) if took else 0.0,
        jobs=len(took),
        migrations=len(moves),
        overruns=sum(_overran(world, every, move) for move in moves),
        late=late,
        slots_held=held_s / world.period_s,
        exchanges_wh=costs.network_wh_per_gb * sum(exchanged) / 1e9,
        replicas=_mean_replicas(every),
        given_up=sum(_was_given_up(one, courses[one.job_id]) for one in carried),
        stood_s=sum(after.start_s - before.end_s for before, after in stills),
        cost=_charged([site.price for site in world.sites], imports),
        carbon_g=_charged([site.carbon for site in world.sites], imports),
    )


def _mean_replicas(every: list[Interval]) -> float:
    trained: defaultdict[str, list[Interval]] = defaultdict(list)
    for row in every:
        if row.replica is not None and row.stage is Stage.RUN:
            trained[row.job_id].append(row)
    spans_s = sum(max(r.end_s for r in mine) - min(r.start_s for r in mine) for mine in trained.values())
    run_s = sum(row.end_s - row.start_s for mine in trained.values() for row in mine)
    return run_s / spans_s if spans_s else 0.0


def _was_given_up(one: Transfer, rows: list[Interval]) -> bool:
    """Tell whether a job went on where it was when its pieces had arrived elsewhere."""
    if one.cause is not Cause.AHEAD:
        return False
    return any(
        row.stage is Stage.RUN and row.site_id == one.source and row.start_s < one.end_s < row.end_s - SLACK_S
        for row in rows
    )


def _charged(signals: list[Signal | None], imports: list[dict[int, float]]) -> float | None:
    """Return what signals make of what sites imported in each step; None where some of it has none."""
    total = 0.0
    for signal, by_step in zip(signals, imports, strict=True):
        for step, wh in by_step.items():
            per_kwh = signal.per_kwh[step] if signal is not None and step < len(signal.per_kwh) else None
            if per_kwh is None:
                return None
            total += per_kwh * wh / 1e3
    return total


def _site_wh(world: World, site: Plant, every: list[Interval]) -> tuple[float, dict[int, float]]:
    """Return a site's renewable Wh, and its other Wh by step where there were any, from change to change."""
    power = {task.job_id: task.power_w for task in world.tasks}
    changes: list[tuple[float, float]] = []
    for row in every:
        if row.site_id == site.site_id:
            drawn_w = power[row.job_id] if row.power_w is None else row.power_w
            changes += [(row.start_s, drawn_w), (row.end_s, -drawn_w)]
    last_s = max((at_s for at_s, _ in changes), default=0.0)
    changes += [(step * world.step_s, 0.0) for step in range(floor(last_s / world.step_s) + 1)]
    sun_j = drawn_w = now_s = 0.0
    grid_wh: defaultdict[int, float] = defaultdict(float)
    for at_s, change in sorted(changes):
        if at_s > now_s:
            step = floor(now_s / world.step_s)
            surplus_w = site.surplus_w[step]
            sun_j += min(drawn_w, surplus_w) * (at_s - now_s)
            if drawn_w > surplus_w + 1e-6:  # less is what is left of a sum of watts
                grid_wh[step] += (drawn_w - surplus_w) * (at_s - now_s) / 3600.0
            now_s = at_s
        drawn_w += change
    return sun_j / 3600.0, dict(grid_wh)


def _overran(world: World, every: list[Interval], move: _Move) -> bool:
    seal, load = move
    power = {task.job_id: task.power_w for task in world.tasks}
    now_s = load.end_s
    # The row that begins at the resumption counts, the load that ends there does not.
    there = [row for row in every if row.site_id == load.site_id and row.start_s <= now_s < row.end_s]
    need_w = sum(power[row.job_id] for row in there)
    site = next(site for site in world.sites if site.site_id == load.site_id)
    step = floor(now_s / world.step_s)
    if site.surplus_w[step] < need_w:
        return True
    while step < len(site.surplus_w) and site.surplus_w[step] >= need_w:
        step += 1
    return now_s - seal.start_s > world.costs.alpha * (step * world.step_s - now_s)


def _quantile(ordered: list[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    low = floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _inside(world: World, start_s: float, end_s: float) -> float:
    return max(0.0, min(end_s, world.period_s) - start_s)
