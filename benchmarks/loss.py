"""Where `sterna` loses against the bound, by cause, and what each obstacle costs: the world without it.

What a replay drew beyond the bound is split instant by instant: the network, work that came at another time,
and jobs that ran without surplus while there was some elsewhere. Of the latter each is put to what kept it
from going there: of all sites with surplus left the one where it got through most of the tests.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from coordinator.core.bookings import Bookings
from coordinator.core.horizon import HorizonJudge
from coordinator.core.judgement import Ratings
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings, Policy
from coordinator.core.sterna_policy import SternaPolicy
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.view import FleetView, JobView, Phase, SiteView
from coordinator.replay.bound import bound_wh
from coordinator.replay.exact import run
from coordinator.replay.foresight import Foresight, Perfect
from coordinator.replay.journal import Interval, Stage
from coordinator.replay.learnt import LearntSource
from coordinator.replay.metrics import landings, measure
from coordinator.replay.record import Record, settings_of
from coordinator.replay.scenariofile import read_scenario, read_traces, world_of
from coordinator.replay.world import World, access_of
from sterna.units import joules_to_wh

REACH_FRAC, EPSILON = 0.125, 0.5  # as `sterna` has them
# What keeps a job from a site, in the order in which it is asked.
TOO_LITTLE, NO_SLOT, LINK, WINDOW, SHARED, FORECAST, PAYS, GAIN, OTHER = range(9)
SAID = {
    TOO_LITTLE: "less was left there than the job draws",
    NO_SLOT: "no slot was free there",
    LINK: "the link carried another move",
    WINDOW: "the window was too short for its checkpoint",
    SHARED: "the window was too short at the rate that other moves left",
    FORECAST: "the forecast took the window for too short",
    PAYS: "the move would not have paid",
    GAIN: "staying was expected to bring as much",
    OTHER: "it was on its way, or other reasons",
}


class Asked(SternaPolicy):
    """`sterna`, with what kept each job that ran without surplus from going elsewhere, and what moves expect.

    `seen`: when it was asked, and the reason by job. `expected_w`: by job and beginning of its move, what all
    jobs were to draw at the destination.
    """

    def __init__(self, world: World) -> None:
        super().__init__(reach_frac=REACH_FRAC, epsilon=EPSILON)
        self._world = world
        self._truth = Perfect(world)
        self.seen: list[tuple[float, dict[str, int]]] = []
        self.expected_w: dict[tuple[str, float], float] = {}

    def act(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        decisions = super().act(view, settings)
        bookings, now_s = Bookings(view), (view.now - self._world.start_at).total_seconds()
        for one in decisions:
            job, site_id = view.jobs[one.job_id], one.target_site or ""
            if one.kind is DecisionKind.START:
                bookings.start(job, site_id)
            elif one.kind is DecisionKind.MIGRATE:
                bookings.move(job, site_id, one.reserved_bps or 0.0)
        moved = {one.job_id: one for one in decisions if one.kind is DecisionKind.MIGRATE}
        for job_id, one in moved.items():
            self.expected_w[job_id, round(now_s, 3)] = bookings.draw_w(one.target_site or "")
        short = [
            job
            for job in view.jobs.values()
            if job.phase is Phase.RUNNING
            and job.job_id not in moved
            and bookings.draw_w(job.site_id or "") > (view.sites[job.site_id or ""].surplus_w or 0.0)
        ]
        self.seen.append((now_s, self._reasons(view, settings, bookings, short) if short else {}))
        return decisions

    def _reasons(
        self, view: FleetView, settings: PlannerSettings, bookings: Bookings, jobs: list[JobView]
    ) -> dict[str, int]:
        settings = replace(settings, epsilon=max(settings.epsilon, EPSILON))
        judge = HorizonJudge(view, settings, bookings, reach_frac=REACH_FRAC)
        step = self._world.step_of((view.now - self._world.start_at).total_seconds())
        plants = {plant.site_id: plant for plant in self._world.sites}
        known = {
            name: replace(site, forecast=self._truth.forecast(plants[name], step))
            for name, site in view.sites.items()
        }
        knowing = HorizonJudge(replace(view, sites=known), settings, bookings, reach_frac=REACH_FRAC)
        rated, true = judge.rate(jobs), knowing.rate(jobs)
        found = {}
        for row, job in enumerate(jobs):
            left = [
                column
                for column, site in enumerate(judge.sites)
                if site.site_id != job.site_id and _left_w(judge, site) > 0.0
            ]
            found[job.job_id] = max(
                (self._reason(judge, job, (row, column), (rated, true)) for column in left), default=OTHER
            )
        return found

    def _reason(
        self, judge: HorizonJudge, job: JobView, at: tuple[int, int], ratings: tuple[Ratings, Ratings]
    ) -> int:
        (rated, true), site = ratings, judge.sites[at[1]]
        if _left_w(judge, site) < job.power_w:
            return TOO_LITTLE
        if judge.bookings.free_slots(site.site_id) < 1:
            return NO_SLOT
        if not rated.link_bps[at] > 0.0:
            return LINK
        if not rated.terms.in_time[at]:
            alone_s = self._alone_s(job, site.site_id)
            shared = alone_s < judge.settings.alpha * (true.until_s[at] - alone_s)
            return FORECAST if true.terms.in_time[at] else SHARED if shared else WINDOW
        gains = rated.gain_s[at] > judge.margin_s(float(rated.stay_s[at]))
        return PAYS if not rated.terms.pays[at] else OTHER if gains else GAIN

    def _alone_s(self, job: JobView, destination: str) -> float:
        """Return T_mig with the link to itself."""
        wan, costs, size = self._world.wan, self._world.costs, float(job.checkpoint_bytes or 0)
        source = job.site_id or ""
        bps = min(wan.pair_bps[source, destination], wan.uplink_bps[source], wan.downlink_bps[destination])
        return costs.store_s(size) + 8.0 * size / (costs.eta * bps) + costs.restart_s(size)


def _left_w(judge: HorizonJudge, site: SiteView) -> float:
    return (site.surplus_w or 0.0) - judge.bookings.draw_w(site.site_id)


def split(world: World, record: Record, asked: Asked, least_wh: float) -> dict[str, float]:
    """Return what was drawn beyond the bound, in Wh, by cause; they sum up to it."""
    power = {task.job_id: task.power_w for task in world.tasks}
    rows = sorted(record.intervals, key=lambda row: row.start_s)
    last_s = max(row.end_s for row in rows)
    hours = np.arange(0.0, last_s, world.step_s).tolist()
    edges = sorted({*hours, *(row.start_s for row in rows), *(row.end_s for row in rows)})
    causes: defaultdict[str, float] = defaultdict(float)
    active: list[Interval] = []
    placed = told = 0
    unavoidable_j = 0.0
    for start_s, end_s in pairwise(edges):
        active = [row for row in active if row.end_s > start_s]
        while placed < len(rows) and rows[placed].start_s <= start_s:
            active.append(rows[placed])
            placed += 1
        while told + 1 < len(asked.seen) and asked.seen[told + 1][0] <= start_s + 1e-6:
            told += 1
        drawn: defaultdict[str, float] = defaultdict(float)
        for row in active:
            drawn[row.site_id] += power[row.job_id]
        surplus_w = {plant.site_id: plant.surplus_w[world.step_of(start_s)] for plant in world.sites}
        over_w = {name: max(0.0, watts - surplus_w[name]) for name, watts in drawn.items()}
        most_w = max(power.values())
        usable_w = sum(min(surplus_w[plant.site_id], plant.slots * most_w) for plant in world.sites)
        must_w = max(0.0, sum(drawn.values()) - usable_w)
        unavoidable_j += must_w * (end_s - start_s)
        needless = 1.0 - must_w / sum(over_w.values()) if sum(over_w.values()) > 0.0 else 0.0
        for row in active:
            own_w = over_w[row.site_id] * power[row.job_id] / drawn[row.site_id]
            why = SAID[asked.seen[told][1].get(row.job_id, OTHER)]
            if row.stage is not Stage.RUN:
                why = "it was sealed" if row.stage is Stage.SEAL else "it was loaded and started again"
            causes[why] += joules_to_wh(needless * own_w * (end_s - start_s))
    metrics = measure(world, rows)
    causes["the network's energy"] += metrics.network_wh
    causes["work at another time, seals and loads"] += joules_to_wh(unavoidable_j) - least_wh
    beyond_wh = metrics.nonrenewable_wh - least_wh
    if abs(sum(causes.values()) - beyond_wh) > 1e-6 * metrics.nonrenewable_wh:
        raise ArithmeticError(f"causes sum up to {sum(causes.values())}, not to {beyond_wh} Wh")
    return causes


def overruns(world: World, record: Record, asked: Asked) -> Counter[str]:
    """Return how many moves there were, and how many overran and why."""
    plants = {plant.site_id: plant for plant in world.sites}
    by_job: dict[str, list[Interval]] = {}
    by_site: dict[str, list[Interval]] = {name: [] for name in plants}
    for row in record.intervals:
        by_job.setdefault(row.job_id, []).append(row)
        by_site[row.site_id].append(row)
    found: Counter[str] = Counter()
    for move in landings(world, by_job, by_site):
        found["moves"] += 1
        if move.overran(world.costs.alpha):
            need_w = min(move.needed_w, asked.expected_w[move.job_id, round(move.began_s, 3)])
            until_s = world.window_end_s(plants[move.destination], move.resumed_s, need_w)
            early = move.disruption_s > world.costs.alpha * (until_s - move.resumed_s)
            found["the surplus ended sooner" if early else "more jobs drew there by then"] += 1
    return found


def without(world: World, learnt: Foresight) -> Iterator[tuple[str, World, Foresight, float]]:
    """Yield the world as it is, then without one obstacle at a time: name, world, foresight, α."""
    alpha = world.costs.alpha
    fast = replace(world, wan=access_of(world.wan.pair_bps, None))
    quick = replace(world, costs=replace(world.costs, store_bytes_per_s=1e15, downtime_s=1e-3))
    roomy = replace(world, sites=tuple(replace(site, slots=2 * site.slots) for site in world.sites))
    free = replace(world, costs=replace(world.costs, network_wh_per_gb=0.0))
    yield "as it is", world, learnt, alpha
    yield "perfect forecasts", world, Perfect(world), alpha
    yield "no test of time (α = 1)", world, learnt, 1.0
    yield "accesses as fast as the links", fast, learnt, alpha
    yield "seal, load and restart in no time", quick, learnt, alpha
    yield "twice the slots", roomy, learnt, alpha
    yield "a network without energy", free, learnt, alpha


def figures(world: World, policy: Policy, foresight: Foresight, alpha: float) -> tuple[float, float, float]:
    """Return the share of the bound's reduction in this world, of overruns, and completion × static."""
    still, made = (
        measure(world, run(world, one, settings_of(world, alpha=alpha), foresight).intervals)
        for one in (policy_named("static"), policy)
    )
    reached = (still.nonrenewable_wh - made.nonrenewable_wh) / (still.nonrenewable_wh - bound_wh(world))
    return reached, made.overrun_frac, made.mean_completion_s / still.mean_completion_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="?", default="us5-thin")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--period", default="", help="comma separated; all of the scenario's without it")
    parser.add_argument("--offsets", default="0", help="comma separated")
    args = parser.parse_args()
    scenario = read_scenario(args.scenario)
    traces = read_traces(scenario, args.data)
    causes: defaultdict[str, float] = defaultdict(float)
    overran: Counter[str] = Counter()
    obstacles: dict[str, list[tuple[float, float, float]]] = {}
    worlds = 0
    for period in args.period.split(",") if args.period else scenario.periods:
        make = LearntSource()
        for offset in map(int, args.offsets.split(",")):
            world = world_of(scenario, traces, period, offset)
            learnt, least_wh = make(world), bound_wh(world)
            asked = Asked(world)
            record = run(world, asked, settings_of(world), learnt)
            for name, wh in split(world, record, asked, least_wh).items():
                causes[name] += wh
            overran.update(overruns(world, record, asked))
            for name, other, foresight, alpha in without(world, learnt):
                obstacles.setdefault(name, []).append(figures(other, SternaPolicy(), foresight, alpha))
            worlds += 1
            sys.stderr.write(f"{args.scenario} {period} offset {offset}\n")
    beyond_kwh = sum(causes.values()) / worlds / 1e3
    lines = ["| drawn beyond the bound | kWh | share, % |", "| --- | ---: | ---: |"]
    for name, wh in sorted(causes.items(), key=lambda cause: -cause[1]):
        lines.append(f"| {name} | {wh / worlds / 1e3:.1f} | {wh / worlds / 10.0 / beyond_kwh:.0f} |")
    lines += [
        "",
        "| | of the bound, % | overruns, % | completion, × static |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, rows in obstacles.items():
        reached, over, took = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        lines.append(f"| {name} | {100 * reached:.1f} | {100 * over:.1f} | {took:.3f} |")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.write(json.dumps({"worlds": worlds, "beyond_kwh": beyond_kwh, **overran}) + "\n")


if __name__ == "__main__":
    main()
