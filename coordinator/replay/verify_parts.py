"""The second opinion on jobs that move in pieces and on distributed ones: their rows and transfers, checked.

Like `verify`, it shares with the replay what a scenario fixes, and nothing that decides or counts.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from coordinator.replay.journal import Interval, Stage
from coordinator.replay.transfers import Cause, Transfer
from coordinator.replay.world import Task, World

SLACK_S = 1e-3
_SLACK_BYTES = 2.0


def link_faults(world: World, transfers: Iterable[Transfer]) -> list[str]:
    """Return the transfers that were faster than their link."""
    faults = []
    for one in transfers:
        bps = world.wan.pair_bps.get((one.source, one.destination), 0.0)
        took_s = one.end_s - one.start_s
        if one.size_bytes * 8 > world.costs.eta * bps * (took_s + SLACK_S) + 8 * _SLACK_BYTES:
            faults.append(
                f"job {one.job_id}: {one.size_bytes:.0f} bytes ({one.cause.value}) in {took_s:.3f} s"
            )
    return faults


def piece_faults(task: Task, rows: Sequence[Interval], transfers: Sequence[Transfer]) -> list[str]:
    """Return what is wrong with what crossed for a job that moves in pieces.

    Parameters
    ----------
    task : Task
        The job.
    rows, transfers
        Its rows and its transfers, in order of time.
    """
    flights = [(a, b) for a, b in pairwise(rows) if a.stage is Stage.SEAL and b.stage is Stage.LOAD]
    stops = [one for one in transfers if one.cause is Cause.STOP]
    if len(stops) != len(flights):
        return [f"job {task.job_id}: {len(flights)} moves, {len(stops)} transfers at a stop"]
    faults = []
    for (seal, load), one in zip(flights, stops, strict=True):
        apart_s = abs(one.start_s - seal.end_s) + abs(one.end_s - load.start_s)
        if apart_s > SLACK_S or (one.source, one.destination) != (seal.site_id, load.site_id):
            faults.append(f"job {task.job_id}: no transfer between seal and load at {seal.end_s:.3f} s")
    lasting = {piece.name for piece in task.pieces if not piece.stays and piece.change_frac == 0.0}
    ahead = {piece.name for piece in task.pieces if not piece.stays and piece.change_frac < 1.0}
    sizes = {piece.name: piece.size_bytes for piece in task.pieces}
    held: defaultdict[str, set[str]] = defaultdict(set)
    last_s = rows[-1].end_s if rows else 0.0
    for one in transfers:
        there = held[one.destination]
        if one.cause is Cause.AHEAD:
            asked = sum(sizes[name] for name in ahead - there)
            cut = abs(one.end_s - last_s) < SLACK_S and one.size_bytes <= asked + _SLACK_BYTES
            there |= ahead
        else:
            asked = sum(
                round(piece.change_frac * piece.size_bytes) if piece.name in there else piece.size_bytes
                for piece in task.pieces
                if not piece.stays
            )
            cut = False
            held = defaultdict(set, {site: names & lasting for site, names in held.items()})
            held[one.source] = held[one.destination] = set(lasting)
        if not cut and abs(one.size_bytes - asked) > _SLACK_BYTES:
            faults.append(f"job {task.job_id}: {one.size_bytes:.0f} bytes crossed, {asked} were to")
    return faults


def replica_faults(
    world: World, task: Task, rows: Sequence[Interval], transfers: Sequence[Transfer]
) -> list[str]:
    """Return what is wrong with a distributed job.

    Checks that each replica started from the state, no two were at one site, one came at a time, none left
    below the least, exchanges were made in time and in full, and that the work was done, once.

    Parameters
    ----------
    world, task
        The world and the job.
    rows, transfers
        Its rows and its transfers, in order of time.
    """
    if not rows:
        return [f"job {task.job_id}: never ran"]
    checked = _Replicas(world, task, rows, transfers)
    faults = [*checked.courses(), *checked.places(), *checked.numbers(), *checked.exchanges()]
    return [f"job {task.job_id}: {fault}" for fault in faults]


class _Replicas:
    """One distributed job."""

    def __init__(
        self, world: World, task: Task, rows: Sequence[Interval], transfers: Sequence[Transfer]
    ) -> None:
        assert task.replication is not None
        self._world, self._task, self._is = world, task, task.replication
        self._rows = rows
        self._runs = [row for row in rows if row.stage is Stage.RUN]
        self._joins = {one.replica: one for one in transfers if one.cause is Cause.JOIN}
        self._shares = [one for one in transfers if one.cause is Cause.SYNC]
        self._first_s = min(row.start_s for row in rows)
        self._last_s = max(row.end_s for row in rows)

    def courses(self) -> list[str]:
        faults = []
        load_s = self._task.checkpoint_bytes / self._world.costs.store_bytes_per_s
        load_s += self._world.costs.downtime_s
        if self._first_s < self._task.submitted_s - SLACK_S:
            faults.append("began before it was submitted")
        by_replica: defaultdict[int | None, list[Interval]] = defaultdict(list)
        for row in self._rows:
            by_replica[row.replica].append(row)
        for replica, rows in by_replica.items():
            stages = [row.stage for row in rows]
            first, join = rows[0], self._joins.get(replica)
            cut = abs(rows[-1].end_s - self._last_s) < SLACK_S
            # It may load and leave in the instant in which it would have trained.
            if stages not in ([Stage.RUN], [Stage.LOAD, Stage.RUN], [Stage.LOAD]):
                faults.append(f"replica {replica}: {[stage.value for stage in stages]}")
            elif first.stage is Stage.RUN and abs(first.start_s - self._first_s) > SLACK_S:
                faults.append(f"replica {replica}: trained from nothing at {first.start_s:.3f} s")
            elif first.stage is Stage.LOAD:
                if join is None or abs(join.end_s - first.start_s) > SLACK_S:
                    faults.append(f"replica {replica}: loaded what it had not fetched")
                if first.end_s - first.start_s < load_s - SLACK_S and not (cut and len(rows) == 1):
                    faults.append(f"replica {replica}: a load of {first.end_s - first.start_s:.3f} s")
            if any(abs(a.end_s - b.start_s) > SLACK_S or a.site_id != b.site_id for a, b in pairwise(rows)):
                faults.append(f"replica {replica}: its rows do not join")
        for join in self._joins.values():
            sources = {row.site_id for row in self._runs if _covers(row, join.start_s)}
            if join.source not in sources:
                faults.append(f"replica {join.replica}: nobody trained at {join.source} to fetch from")
            cut = abs(join.end_s - self._last_s) < SLACK_S
            if not cut and abs(join.size_bytes - self._task.checkpoint_bytes) > _SLACK_BYTES:
                faults.append(f"replica {join.replica}: fetched {join.size_bytes:.0f} bytes")
        return faults

    def places(self) -> list[str]:
        """Check that no two are at one site, those on their way included, and that one comes at a time."""
        faults = []
        at: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        coming = []
        for row in self._rows:
            at[row.site_id].append((row.start_s, row.end_s))
        for replica, join in self._joins.items():
            at[join.destination].append((join.start_s, join.end_s))
            loads = [row.end_s for row in self._rows if row.replica == replica and row.stage is Stage.LOAD]
            coming.append((join.start_s, max([join.end_s, *loads])))
        for site, spans in sorted(at.items()):
            if _overlap(spans):
                faults.append(f"two replicas at {site}")
        if _overlap(coming):
            faults.append("two replicas on their way at once")
        return faults

    def numbers(self) -> list[str]:
        faults = []
        for row in self._runs:
            if row.end_s < self._last_s - SLACK_S:
                left = sum(_covers(other, row.end_s) for other in self._runs)
                if left < self._is.least:
                    faults.append(f"{left} replicas at {row.end_s:.3f} s, {self._is.least} at least")
        edges = sorted({row.start_s for row in self._runs})
        for at_s in edges:
            if sum(_covers(row, at_s) for row in self._runs) > self._is.most:
                faults.append(f"more than {self._is.most} replicas at {at_s:.3f} s")
        return faults

    def exchanges(self) -> list[str]:
        """Check the shares of every exchange, walk from change to change, and count work and rounds."""
        faults = []
        rounds: defaultdict[float, list[Transfer]] = defaultdict(list)
        for one in self._shares:
            rounds[one.start_s].append(one)
        ends = {start_s: max(one.end_s for one in shares) for start_s, shares in rounds.items()}
        for start_s, shares in rounds.items():
            # One may leave at that very instant, when the policy is asked; its share is under way.
            there = (r for r in self._runs if r.start_s <= start_s + 1e-6 and start_s <= r.end_s + 1e-6)
            sites = sorted({row.site_id for row in there})
            each = 2 * (len(sites) - 1) / len(sites) * self._is.sync_bytes if sites else 0.0
            links = sorted((site, sites[(place + 1) % len(sites)]) for place, site in enumerate(sites))
            if sorted((one.source, one.destination) for one in shares) != links:
                faults.append(f"an exchange at {start_s:.3f} s not between those that trained")
            if any(abs(one.size_bytes - each) > _SLACK_BYTES for one in shares):
                faults.append(f"an exchange at {start_s:.3f} s not of {each:.0f} bytes a link")
        edges = {row.start_s for row in self._runs} | {row.end_s for row in self._runs}
        edges |= set(ends) | set(ends.values())
        worked_s = since_s = busy_until_s = 0.0
        for now_s, next_s in pairwise(sorted(edges)):
            if now_s in ends:
                if self._is.round_s - since_s > SLACK_S and self._task.work_s - worked_s > SLACK_S:
                    faults.append(f"an exchange at {now_s:.3f} s after {since_s:.3f} s of training")
                busy_until_s, since_s = ends[now_s], 0.0
            replicas = sum(_covers(row, now_s) for row in self._runs)
            if now_s < busy_until_s - 1e-9 or not replicas:
                continue
            rate = replicas * self._is.efficiency[min(replicas, self._is.most) - 1]
            worked_s += rate * (next_s - now_s)
            since_s = since_s + next_s - now_s if replicas > 1 else 0.0
            if since_s > self._is.round_s + SLACK_S and self._is.sync_bytes:
                faults.append(f"no exchange by {next_s:.3f} s after {since_s:.3f} s of training")
        if abs(worked_s - self._task.work_s) > SLACK_S * (1 + len(edges)):
            faults.append(f"worked {worked_s:.3f} s of {self._task.work_s:.3f} s")
        return faults


def _covers(row: Interval, at_s: float) -> bool:
    # Rows of one instant are written to the microsecond.
    return row.start_s <= at_s + 1e-6 and at_s + 1e-6 < row.end_s


def _overlap(spans: Iterable[tuple[float, float]]) -> bool:
    return any(after[0] < before[1] - SLACK_S for before, after in pairwise(sorted(spans)))


def is_limited(world: World, site_id: str, at_s: float) -> bool:
    """Tell whether a limit of the grid holds at a site, or has ended at that instant."""
    site = next(one for one in world.sites if one.site_id == site_id)
    return any(limit.start_s - SLACK_S <= at_s <= limit.end_s + SLACK_S for limit in site.limits)


def limit_faults(world: World, rows: list[Interval]) -> list[str]:
    """Return where jobs ran beyond a limit; seals and loads are not interrupted, and may exceed it alone."""
    powers_w = {task.job_id: task.power_w for task in world.tasks}
    faults = []
    for site in (one for one in world.sites if one.limits):
        mine = [row for row in rows if row.site_id == site.site_id and row.job_id in powers_w]
        edges = {edge_s for row in mine for edge_s in (row.start_s, row.end_s)}
        edges |= {edge_s for limit in site.limits for edge_s in (limit.start_s, limit.end_s)}
        edges |= {step * world.step_s for step in range(len(site.surplus_w))}
        changes = sorted(
            [(row.start_s, 1, row) for row in mine] + [(row.end_s, 0, row) for row in mine], key=_when
        )
        there: list[Interval] = []
        place = 0
        for begin_s, end_s in pairwise(sorted(edges)):
            while place < len(changes) and changes[place][0] <= begin_s:
                _, comes, row = changes[place]
                there.append(row) if comes else there.remove(row)
                place += 1
            limits = [limit.import_w for limit in site.limits if limit.holds(begin_s)]
            if not limits or end_s - begin_s < SLACK_S or not any(row.stage is Stage.RUN for row in there):
                continue
            most_w = min(limits) + site.surplus_w[int(begin_s // world.step_s)]
            drawn_w = sum(powers_w[row.job_id] if row.power_w is None else row.power_w for row in there)
            if drawn_w > most_w + 1e-6:
                faults.append(
                    f"{site.site_id}: {drawn_w:g} W of {most_w:g} W under a limit at {begin_s:.3f} s"
                )
                break
    return faults


def _when(change: tuple[float, int, Interval]) -> tuple[float, int]:
    return change[:2]
