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
from coordinator.replay.world import Plant, Task, World
from sterna.errors import CorruptError

SLACK_S = 1e-3
"""Rows are written to the microsecond; over a job's stages that adds up."""


def recompute(world: World, rows: Iterable[Interval]) -> Metrics:
    """Check the rows and count them again.

    Raises
    ------
    CorruptError
        A job overlaps itself, did not get its work, took less time for a seal, transfer or load than it
        takes at least, or a site held more jobs than it has slots; every fault, one a line.
    """
    every = sorted(rows, key=lambda row: (row.start_s, row.end_s))
    courses: dict[str, list[Interval]] = {task.job_id: [] for task in world.tasks}
    strangers = {row.job_id for row in every if row.job_id not in courses}
    faults = [f"job {job_id} is not of this scenario" for job_id in sorted(strangers)]
    for row in every:
        if row.job_id in courses:
            courses[row.job_id].append(row)
    faults += [fault for task in world.tasks for fault in _course_faults(world, task, courses[task.job_id])]
    moves = [] if faults else _moves(courses)
    # A job that stands still between two rows at one site keeps its slot, if it may stand still at all.
    stills = [] if faults else _stills(courses)
    faults += [] if faults else _slot_faults(world, every, moves, stills)
    if world.hold_back_s is None:
        faults += [f"job {row.job_id}: stood still at {row.end_s:.3f} s" for row, _ in stills]
    if faults:
        raise CorruptError("\n".join(faults))
    return _count(world, every, courses, moves, stills)


_Move = tuple[Interval, Interval]


def _course_faults(world: World, task: Task, rows: list[Interval]) -> list[str]:
    job_id = task.job_id
    faults = []
    ran_s = sum(row.end_s - row.start_s for row in rows if row.stage is Stage.RUN)
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
            least_s = 8 * task.checkpoint_bytes / (world.costs.eta * link_bps)
            if after.start_s - before.end_s < least_s - SLACK_S:
                faults.append(f"job {job_id}: a transfer of {after.start_s - before.end_s:.3f} s")
        if before.site_id != after.site_id and after.stage is not Stage.LOAD:
            faults.append(f"job {job_id}: at {after.site_id} without a move")
    for row in rows:
        seal_s = task.checkpoint_bytes / world.costs.store_bytes_per_s
        least_s = {Stage.SEAL: seal_s, Stage.LOAD: seal_s + world.costs.downtime_s}.get(row.stage, 0.0)
        if row.end_s - row.start_s < least_s - SLACK_S:
            faults.append(f"job {job_id}: a {row.stage.value} of {row.end_s - row.start_s:.3f} s")
    return faults


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


def _slot_faults(world: World, rows: list[Interval], moves: list[_Move], stills: list[_Move]) -> list[str]:
    changes: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for row in rows:
        changes[row.site_id] += [(row.start_s, 1), (row.end_s, -1)]
    for seal, load in moves:
        changes[load.site_id] += [(seal.start_s, 1), (load.start_s, -1)]
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
    moves: list[_Move],
    stills: list[_Move],
) -> Metrics:
    costs = world.costs
    energy = [_site_wh(world, site, every) for site in world.sites]
    sizes = {task.job_id: task.checkpoint_bytes for task in world.tasks}
    network_wh = sum(costs.network_wh_per_gb * sizes[seal.job_id] / 1e9 for seal, _ in moves)
    took = sorted(courses[task.job_id][-1].end_s - task.submitted_s for task in world.tasks)
    late = 0
    for task in world.tasks:
        if world.hold_back_s is not None:
            deadline_s = task.submitted_s + 2 * task.work_s + world.hold_back_s
            late += courses[task.job_id][-1].end_s > deadline_s + SLACK_S
    held_s = sum(_inside(world, row.start_s, row.end_s) for row in every)
    held_s += sum(_inside(world, seal.start_s, load.start_s) for seal, load in moves)
    held_s += sum(_inside(world, before.end_s, after.start_s) for before, after in stills)
    return Metrics(
        nonrenewable_wh=sum(grid for _, grid in energy) + network_wh,
        total_wh=sum(sun + grid for sun, grid in energy) + network_wh,
        absorbed_wh=sum(sun for sun, _ in energy),
        network_wh=network_wh,
        mean_completion_s=sum(took) / len(took) if took else 0.0,
        p95_completion_s=_quantile(took, 0.95) if took else 0.0,
        jobs=len(took),
        migrations=len(moves),
        overruns=sum(_overran(world, every, move) for move in moves),
        late=late,
        slots_held=held_s / world.period_s,
    )


def _site_wh(world: World, site: Plant, every: list[Interval]) -> tuple[float, float]:
    """Return renewable and other Wh of a site, walking from change to change."""
    power = {task.job_id: task.power_w for task in world.tasks}
    changes: list[tuple[float, float]] = []
    for row in every:
        if row.site_id == site.site_id:
            changes += [(row.start_s, power[row.job_id]), (row.end_s, -power[row.job_id])]
    last_s = max((at_s for at_s, _ in changes), default=0.0)
    changes += [(step * world.step_s, 0.0) for step in range(floor(last_s / world.step_s) + 1)]
    sun_j = grid_j = drawn_w = now_s = 0.0
    for at_s, change in sorted(changes):
        if at_s > now_s:
            surplus_w = site.surplus_w[floor(now_s / world.step_s)]
            sun_j += min(drawn_w, surplus_w) * (at_s - now_s)
            grid_j += max(0.0, drawn_w - surplus_w) * (at_s - now_s)
            now_s = at_s
        drawn_w += change
    return sun_j / 3600.0, grid_j / 3600.0


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
