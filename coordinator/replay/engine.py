"""Replays a scenario through a policy on a virtual clock: the policy cannot tell it from a live fleet.

Time jumps from event to event (a look of the planner, a change of surplus, the next step of a migration,
the end of a job); between two events every power is constant, so the energy is exact. A migration draws
the job's power while it seals at the source and while it loads at the destination, nothing while the
checkpoint crosses the link; the slots on both ends and the link rate are held until it arrives. Moves of a
policy that reserves no rate share the links equally.
"""

from bisect import bisect_right
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from math import inf
from operator import itemgetter

import numpy as np

from coordinator.core import domain
from coordinator.core.ledger import Energy, account_steps
from coordinator.core.policy import PlannerSettings, Policy
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.view import FleetView, JobView, LinkView, Phase, SiteView
from coordinator.replay.carriage import Carriage
from coordinator.replay.scenario import ReplayJob, ReplayMove, ReplayResult, Scenario, SiteTrace
from coordinator.replay.world import access_of

Foresight = Callable[[SiteTrace, Scenario, float], SurplusForecast | None]
"""Forecast of a site at so many seconds from the start."""


def replay(
    scenario: Scenario, policy: Policy, settings: PlannerSettings, foresight: Foresight | None = None
) -> ReplayResult:
    """Run one policy over a scenario.

    Parameters
    ----------
    scenario : Scenario
        The fleet and its traces.
    policy : Policy
        The very object that plans in production.
    settings : PlannerSettings
        Its numbers.
    foresight : callable or None
        What the planner is told of the future; None: `perfect_foresight`.

    Returns
    -------
    ReplayResult
        Energy, moves and completions.
    """
    run = _Run(scenario, policy, settings, foresight or perfect_foresight)
    while run.now_s < scenario.duration_s:
        run.step()
    return run.result()


def perfect_foresight(site: SiteTrace, scenario: Scenario, now_s: float) -> SurplusForecast | None:
    """Return the rest of the trace itself, in all quantiles; unknown stretches are left out."""
    edges = [at_s for at_s, _ in site.points] + [scenario.duration_s]
    slots = tuple(
        ForecastSlot(
            start_at=_at(scenario, start_s),
            end_at=_at(scenario, end_s),
            p10_w=watts,
            p50_w=watts,
            p90_w=watts,
        )
        for (start_s, end_s), (_, watts) in zip(pairwise(edges), site.points, strict=True)
        if watts is not None and start_s < end_s and end_s > now_s
    )
    return SurplusForecast(issued_at=_at(scenario, now_s), source="trace", slots=slots)


class _Job:
    """One job's course: where it stands, what it draws where, and when that changes by itself."""

    def __init__(self, spec: ReplayJob) -> None:
        self.spec = spec
        self.phase: Phase | None = None  # not submitted, or over
        self.site: str | None = None
        self.since_s = 0.0
        self.worked_s = 0.0
        self.done_s: float | None = None
        self.bound_for: str | None = None
        self.link_bps = 0.0
        self.marks_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
        """Of the migration: sealed, carried, running again; infinity: not known while links are shared."""

    def carried(self, at_s: float) -> None:
        """Note when its checkpoint is through."""
        self.marks_s = (self.marks_s[0], at_s, at_s + self.spec.load_s + self.spec.downtime_s)

    def draw(self, now_s: float) -> tuple[str | None, float]:
        """Return where it draws how much."""
        if self.phase is Phase.RUNNING:
            return self.site, self.spec.power_w
        if self.phase is Phase.MIGRATING:
            sealed_s, carried_s, _ = self.marks_s
            if now_s < sealed_s:
                return self.site, self.spec.power_w
            if now_s >= carried_s:
                return self.bound_for, self.spec.power_w
        return None, 0.0

    def next_s(self, now_s: float) -> float:
        """Return when it changes by itself; infinity: never."""
        if self.phase is None:
            waits = self.done_s is None and self.spec.submitted_s > now_s
            return self.spec.submitted_s if waits else inf
        if self.phase is Phase.MIGRATING:
            return min((mark for mark in self.marks_s if mark > now_s), default=now_s)
        if self.phase is Phase.RUNNING and self.spec.work_s is not None:
            return now_s + max(0.0, self.spec.work_s - self.worked_s)
        return inf


class _Run:
    """One policy's run over one scenario."""

    def __init__(
        self, scenario: Scenario, policy: Policy, settings: PlannerSettings, foresight: Foresight
    ) -> None:
        self._scenario = scenario
        self._policy = policy
        self._settings = settings
        self._foresight = foresight
        self.now_s = 0.0
        self._tick = 0
        self._jobs = {job.job_id: _Job(job) for job in scenario.jobs}
        self._changes_s = sorted({at_s for site in scenario.sites for at_s, _ in site.points})
        self._edges_s: list[float] = []
        self._power_w: dict[str, list[tuple[float, float]]] = {site.site_id: [] for site in scenario.sites}
        """Surplus and draw of each site from each edge on."""
        self._moves: list[ReplayMove] = []
        self._carriage = Carriage(access_of(scenario.links, None), settings.eta)
        self._sealing: set[str] = set()
        """Jobs whose checkpoint will share the links once it is sealed."""

    def step(self) -> None:
        """Settle what is due now, let the planner look, and jump to the next event."""
        self._settle()
        if self.now_s >= self._tick * self._scenario.tick_s:
            self._tick += 1
            for decision in self._policy.decide(self._view(), self._settings):
                self._act(decision)
        self._meter()
        until_s = self._next_s()
        for job in self._jobs.values():
            if job.phase is Phase.RUNNING:
                job.worked_s += until_s - self.now_s
        self.now_s = until_s

    def result(self) -> ReplayResult:
        """Close the books."""
        self._settle()
        self._meter()
        edges_s = np.array([*self._edges_s, self.now_s])
        by_site = {}
        for site_id, power_w in self._power_w.items():
            surplus_w, drawn_w = np.array(power_w).T
            share = self._settings.grid_renewable_frac
            by_site[site_id] = account_steps(edges_s, surplus_w, drawn_w, share)
        under_way = [
            ReplayMove(
                job_id=job.spec.job_id,
                source=job.site or "",
                destination=job.bound_for or "",
                began_s=job.since_s,
                took_s=None,
            )
            for job in self._jobs.values()
            if job.phase is Phase.MIGRATING
        ]
        return ReplayResult(
            policy=self._policy.name,
            energy=sum(by_site.values(), Energy()),
            by_site=by_site,
            moves=(*self._moves, *under_way),
            bytes_moved=sum(self._jobs[move.job_id].spec.checkpoint_bytes for move in self._moves),
            completed_s={job_id: job.done_s for job_id, job in self._jobs.items()},
            worked_s={job_id: job.worked_s for job_id, job in self._jobs.items()},
        )

    def _settle(self) -> None:
        for job_id in self._carriage.arrived(self.now_s):
            self._jobs[job_id].carried(self.now_s)
        for job_id in [j for j in self._sealing if self._jobs[j].marks_s[0] <= self.now_s]:
            self._sealing.discard(job_id)
            job = self._jobs[job_id]
            pair = (job.site or "", job.bound_for or "")
            self._carriage.begin(self.now_s, job_id, pair, job.spec.checkpoint_bytes)
        for job in self._jobs.values():
            if job.phase is None and job.done_s is None and job.spec.submitted_s <= self.now_s:
                job.phase = Phase.QUEUED
            elif job.phase is Phase.MIGRATING and self.now_s >= job.marks_s[2]:
                self._moves.append(
                    ReplayMove(
                        job_id=job.spec.job_id,
                        source=job.site or "",
                        destination=job.bound_for or "",
                        began_s=job.since_s,
                        took_s=self.now_s - job.since_s,
                    )
                )
                job.phase, job.site, job.bound_for, job.since_s = (
                    Phase.RUNNING,
                    job.bound_for,
                    None,
                    self.now_s,
                )
            # The clock jumped to exactly this end; only rounding may be missing.
            elif job.phase is Phase.RUNNING and job.next_s(self.now_s) - self.now_s < 1e-6:
                job.phase, job.site, job.done_s = None, None, self.now_s

    def _act(self, decision: Decision) -> None:
        job = self._jobs[decision.job_id]
        if decision.kind is DecisionKind.START:
            job.phase, job.site, job.since_s = Phase.RUNNING, decision.target_site, self.now_s
        elif decision.kind is DecisionKind.MIGRATE:
            job.link_bps = decision.reserved_bps or 0.0
            sealed_s = self.now_s + job.spec.seal_s
            if job.link_bps > 0.0:
                size_bytes = float(job.spec.checkpoint_bytes)
                job.marks_s = (sealed_s, inf, inf)
                job.carried(sealed_s + domain.transfer_s(size_bytes, job.link_bps, self._settings.eta))
            else:
                self._sealing.add(decision.job_id)
                job.marks_s = (sealed_s, inf, inf)
            job.phase, job.bound_for, job.since_s = Phase.MIGRATING, decision.target_site, self.now_s

    def _meter(self) -> None:
        drawn = dict.fromkeys(self._power_w, 0.0)
        for job in self._jobs.values():
            site_id, power_w = job.draw(self.now_s)
            if site_id is not None:
                drawn[site_id] += power_w
        for site in self._scenario.sites:
            # An unknown surplus covers nothing.
            surplus_w = _surplus_w(site, self.now_s) or 0.0
            self._power_w[site.site_id].append((surplus_w, drawn[site.site_id]))
        self._edges_s.append(self.now_s)

    def _next_s(self) -> float:
        following = [self._scenario.duration_s, self._tick * self._scenario.tick_s, self._carriage.next_s]
        following += [at_s for at_s in self._changes_s if at_s > self.now_s][:1]
        following += [job.next_s(self.now_s) for job in self._jobs.values()]
        # A microsecond is the calendar's resolution: a shorter step would be lost to the ledger.
        return max(min(following), self.now_s + 1e-6)

    def _view(self) -> FleetView:
        jobs = {job_id: self._job_view(job) for job_id, job in self._jobs.items() if job.phase is not None}
        held = [site for job in self._jobs.values() for site in (job.site, job.bound_for) if site is not None]
        links = {}
        for (source, destination), bps in self._scenario.links.items():
            busy = sum(
                job.link_bps
                for job in self._jobs.values()
                if job.phase is Phase.MIGRATING and (job.site, job.bound_for) == (source, destination)
            )
            links[source, destination] = LinkView(
                source=source, destination=destination, free_bps=max(0.0, bps - busy)
            )
        sites = {site.site_id: self._site_view(site, held) for site in self._scenario.sites}
        return FleetView(now=_at(self._scenario, self.now_s), sites=sites, jobs=jobs, links=links)

    def _site_view(self, site: SiteTrace, held: list[str]) -> SiteView:
        surplus_w = _surplus_w(site, self.now_s)
        return SiteView(
            site_id=site.site_id,
            available=True,
            draining=False,
            slots=site.slots,
            slots_held=held.count(site.site_id),
            surplus_w=surplus_w,
            surplus_quality_ok=surplus_w is not None,
            compute_w=None,
            forecast=self._foresight(site, self._scenario, self.now_s),
        )

    def _job_view(self, job: _Job) -> JobView:
        spec = job.spec
        return JobView(
            job_id=spec.job_id,
            phase=job.phase or Phase.QUEUED,
            site_id=job.site,
            home_site=spec.home_site,
            power_w=spec.power_w,
            checkpoint_bytes=spec.checkpoint_bytes,
            seal_s=spec.seal_s,
            load_s=spec.load_s,
            downtime_s=spec.downtime_s,
            may_migrate=spec.may_migrate,
            submitted_at=_at(self._scenario, spec.submitted_s),
            resident_since=_at(self._scenario, job.since_s) if job.phase is Phase.RUNNING else None,
            min_residence_s=spec.min_residence_s,
            declared_work_s=spec.work_s,
            progressed_s=job.worked_s,
            bound_for=job.bound_for,
        )


def _at(scenario: Scenario, offset_s: float) -> datetime:
    return scenario.start_at + timedelta(seconds=offset_s)


def _surplus_w(site: SiteTrace, now_s: float) -> float | None:
    index = bisect_right(site.points, now_s, key=itemgetter(0))
    return site.points[index - 1][1] if index else None
