"""How many replicas of a distributed job run, and where: beside any policy, which places all other jobs.

Replicas beyond the least follow the surplus: one joins where surplus is left over for it, and leaves when it
is not any more. A replica moves by being replaced: another joins elsewhere from the state of a sibling, and
once it trains the first leaves, so that the number never falls below the least and nothing stands still.
At most one replica of a job is on its way at a time, and no site has two of one job.

What an exchange costs (`exchanges`) is held against what one more brings. Pure; what joins and leaves mean in
time is the replay's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from coordinator.core import confidence, feasibility, windows
from coordinator.core.bookings import Bookings
from coordinator.core.exchanges import ring, sync_power_w, work_rate
from coordinator.core.feasibility import Feasible, Move
from coordinator.core.policy import PlannerSettings, Policy, changes_of
from coordinator.core.starting import arrival_rejections, sites_in_order
from coordinator.model.decision import Decision, DecisionKind, Term
from coordinator.model.view import FleetView, JobView, Phase, SiteView


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How a policy lets replicas come and go.

    `looks_ahead`: a join must pass the tests of time and energy, and goes to the longest window; else it goes
    to the most surplus left. `least_epsilon`: the risk accepted in them, where the planner's own is lower.
    """

    looks_ahead: bool = True
    least_epsilon: float = 0.0


GROWTH: Mapping[str, Growth | None] = {
    "static": None,
    "energy-only": Growth(looks_ahead=False),
    "feasibility-aware": Growth(),
    "sterna": Growth(least_epsilon=0.5),
}
"""By policy; None: replicas stay as they were started. A policy that is not named looks ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A replica more: it fetches the state from a sibling's site, then trains."""

    job_id: str
    source_site: str
    target_site: str
    reason: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """A replica less; `replica` is its id in the view."""

    job_id: str
    replica: str
    site_id: str
    reason: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaPlan:
    """A tick: what the policy decided about whole jobs (and first starts), and what replicas do."""

    decisions: tuple[Decision, ...]
    joins: tuple[Join, ...] = ()
    leaves: tuple[Leave, ...] = ()


def plan_replicas(
    policy: Policy, view: FleetView, settings: PlannerSettings, growth: Growth | None
) -> ReplicaPlan:
    """Decide about every job and every replica.

    Parameters
    ----------
    policy : Policy
        Places the jobs that are no replicas; it sees those as jobs that cannot be moved.
    view : FleetView
        The fleet; replicas are jobs that name theirs.
    settings : PlannerSettings
        The planner's numbers.
    growth : Growth or None
        How replicas come and go; None: those that wait start, and nothing else changes.
    """
    mine = {job_id for job_id, job in view.jobs.items() if job.replication is not None}
    queued = {job_id for job_id in mine if view.jobs[job_id].phase is Phase.QUEUED}
    if not mine:
        return ReplicaPlan(decisions=changes_of(policy, view, settings))
    seen = {
        job_id: replace(job, phase=Phase.HELD) if job_id in mine and job.phase is Phase.RUNNING else job
        for job_id, job in view.jobs.items()
        if job_id not in queued
    }
    decisions = changes_of(policy, replace(view, jobs=seen), settings)
    for decision in decisions:
        view = _after(view, decision)
    tick = _Tick(view, settings, growth, policy.name)
    started = tick.starts()
    if growth is not None:
        # Where some still wait to start there is nothing to settle yet.
        waiting = {view.jobs[replica].replica_of for replica in queued}
        for job_id in sorted({view.jobs[replica].replica_of or "" for replica in mine} - waiting):
            tick.settle(job_id, growth)
    return ReplicaPlan(decisions=(*decisions, *started), joins=tuple(tick.joins), leaves=tuple(tick.leaves))


class _Tick:
    """One look at the replicas, after everything else was decided; `view` grows with what is promised."""

    def __init__(
        self, view: FleetView, settings: PlannerSettings, growth: Growth | None, policy: str
    ) -> None:
        self._view = view
        self._settings = settings
        self._policy = policy
        epsilon = settings.epsilon if growth is None else max(settings.epsilon, growth.least_epsilon)
        self._epsilon = epsilon
        self._tolerance = settings.tolerance
        self._bookings = Bookings(view)
        self.joins: list[Join] = []
        self.leaves: list[Leave] = []

    def starts(self) -> list[Decision]:
        """Start replicas that wait: at home, else where most surplus is left; never beside a sibling."""
        started = []
        queued = [j for j in self._view.jobs.values() if j.phase is Phase.QUEUED and j.replica_of is not None]
        for job in sorted(queued, key=lambda job: (job.submitted_at, job.job_id)):
            taken = self._taken(job.replica_of or "")
            if not self._may_come(job.replica_of or ""):
                continue
            open_sites = [site for site in sites_in_order(self._view) if self._is_open(job, site, taken)]
            best = max(
                open_sites, key=lambda site: (site.site_id == job.home_site, self._left_w(site)), default=None
            )
            if best is None:
                continue
            started.append(
                Decision(
                    job_id=job.job_id,
                    decided_at=self._view.now,
                    policy=self._policy,
                    kind=DecisionKind.START,
                    source_site=None,
                    target_site=best.site_id,
                    reason=f"a replica of {job.replica_of} starts at {best.site_id}",
                    alternatives=(),
                )
            )
            fetches = any(one.progressed_s > 0.0 for one in self._replicas(job.replica_of or ""))
            self._see(_after(self._view, started[-1]))
            if fetches:
                coming = replace(job, phase=Phase.MIGRATING, site_id=best.site_id, bound_for=best.site_id)
                self._see(replace(self._view, jobs={**self._view.jobs, job.job_id: coming}))
        return started

    def _may_come(self, job_id: str) -> bool:
        """Tell whether a replica that waits may start: at first any, later one at a time from a sibling."""
        others = self._replicas(job_id)
        if all(job.progressed_s == 0.0 for job in others):
            return True
        coming = any(job.phase is Phase.MIGRATING for job in others)
        return not coming and any(job.phase is Phase.RUNNING for job in others)

    def settle(self, job_id: str, growth: Growth) -> None:
        """Let one replica of a job join, and let those leave that are not covered and not needed."""
        running = self._running(job_id)
        if not running:
            return
        on_the_way = any(job.phase is Phase.MIGRATING for job in self._replicas(job_id))
        self._leave(job_id)
        if not on_the_way:
            self._join(job_id, self._running(job_id), growth)

    def _join(self, job_id: str, running: list[JobView], growth: Growth) -> None:
        replication = running[0].replication
        assert replication is not None  # that is how it was found
        needed = len(running) < replication.least
        # No more than the least run where one has no surplus: one more comes to replace it.
        uncovered = None if needed else self._least_covered(running)
        if uncovered is None and len(running) >= replication.most:
            return
        kept = [job for job in running if job is not uncovered]
        best: tuple[tuple[float, float, str], Join] | None = None
        for site in sites_in_order(self._view):
            found = self._candidate(site, running, kept, growth=growth, needed=needed)
            if found is not None and (best is None or found[0] > best[0]):
                best = found
        if best is not None:
            self.joins.append(best[1])
            self._see(_joined(self._view, running[0], best[1]))

    def _candidate(
        self, site: SiteView, running: list[JobView], kept: list[JobView], *, growth: Growth, needed: bool
    ) -> tuple[tuple[float, float, str], Join] | None:
        """Return a join at a site and how it ranks; None: it may not, or is not worth it."""
        job = running[0]
        job_id, left_w = job.replica_of or "", self._left_w(site)
        if not self._is_open(job, site, self._taken(job_id)):
            return None
        source = max(running, key=lambda one: (self._bps(one.site_id or "", site.site_id), one.job_id))
        link_bps = self._bps(source.site_id or "", site.site_id)
        if not link_bps > 0.0:
            return None
        lasts_s = self._lasts_s(site, job)
        terms, pays = self._worth(site, running, kept)
        terms = (Term(name="surplus", value=left_w, limit=job.power_w, unit="W", satisfied=pays), *terms)
        if not needed and not (left_w >= job.power_w and pays):
            return None
        if growth.looks_ahead and not needed and not self._is_feasible(site, job, link_bps):
            return None
        reason = (
            f"fewer than {job.replication.least if job.replication else 0} replicas run"
            if needed
            else f"surplus at {site.site_id} covers one more"
        )
        rank = (lasts_s if growth.looks_ahead else left_w, left_w, site.site_id)
        return rank, Join(
            job_id=job_id,
            source_site=source.site_id or "",
            target_site=site.site_id,
            reason=reason,
            terms=terms,
        )

    def _worth(
        self, site: SiteView, running: list[JobView], kept: list[JobView]
    ) -> tuple[tuple[Term, ...], bool]:
        """Weigh the work that a replica adds, or the energy that it saves, against the exchanges it costs."""
        job, eta = running[0], self._settings.eta
        replication = job.replication
        assert replication is not None
        now = [self._bps(*pair) for pair in ring(one.site_id or "" for one in running)]
        sites = [one.site_id or "" for one in kept] + [site.site_id]
        then = [self._bps(*pair) for pair in ring(sites)]
        gained = work_rate(replication, then, eta, replicas=len(sites)) - work_rate(
            replication, now, eta, replicas=len(running)
        )
        network = self._settings.network_wh_per_gb
        more_w = sync_power_w(replication, then, eta, network) - sync_power_w(replication, now, eta, network)
        replaced_w = job.power_w if len(kept) < len(running) else 0.0
        gain_w = gained * job.power_w + replaced_w
        terms = (
            Term(name="work_rate_gained", value=gained, limit=None, unit="1", satisfied=gained > 0.0),
            Term(name="exchanges", value=more_w, limit=gain_w, unit="W", satisfied=more_w < gain_w),
        )
        return terms, more_w < gain_w

    def _is_feasible(self, site: SiteView, job: JobView, link_bps: float) -> bool:
        answer = feasibility.assess(
            Move(
                checkpoint_bytes=job.checkpoint_bytes or None,
                link_bps=link_bps,
                seal_s=0.0,  # the sibling goes on
                load_s=job.load_s,
                downtime_s=job.downtime_s,
                until_window_end_s=self._window_s(site, job, self._epsilon),
                job_power_w=job.power_w,
                source_power_w=0.0,
                destination_power_w=job.power_w,
            ),
            self._tolerance,
        )
        return isinstance(answer, Feasible)

    def _lasts_s(self, site: SiteView, job: JobView) -> float:
        return min(self._window_s(site, job, 0.5), self._settings.horizon_s)

    def _window_s(self, site: SiteView, job: JobView, epsilon: float) -> float:
        need_w = job.power_w + self._bookings.draw_w(site.site_id)
        ahead = windows.stack([windows.site_curve(self._view.now, site)])
        ends = windows.ends_s(ahead, np.full((1, 1), need_w))
        return float(confidence.end_at_risk(ends, epsilon)[0, 0])

    def _leave(self, job_id: str) -> None:
        """Let replicas go that the surplus does not cover, the least covered first, down to the least."""
        running = self._running(job_id)
        replication = running[0].replication
        assert replication is not None
        while len(running) > replication.least:
            worst = self._least_covered(running)
            if worst is None and len(running) <= replication.most:
                return
            # More than may train only ever stand there for the instant in which one replaces another.
            gone = worst if worst is not None else running[-1]
            site = self._view.sites[gone.site_id or ""]
            short_w = -self._left_w(site)
            self.leaves.append(
                Leave(
                    job_id=job_id,
                    replica=gone.job_id,
                    site_id=site.site_id,
                    reason=f"the surplus at {site.site_id} does not cover every job there",
                    terms=(Term(name="shortage", value=short_w, limit=0.0, unit="W", satisfied=False),),
                )
            )
            jobs = {name: job for name, job in self._view.jobs.items() if name != gone.job_id}
            self._see(replace(self._view, jobs=jobs))
            running = self._running(job_id)

    def _least_covered(self, running: list[JobView]) -> JobView | None:
        """Return the replica whose site lacks the most surplus; None: all are covered."""
        worst = min(running, key=lambda job: (self._left_w(self._view.sites[job.site_id or ""]), job.job_id))
        # A hair's breadth: sums of watts are taken in another order elsewhere.
        return worst if self._left_w(self._view.sites[worst.site_id or ""]) < -1e-6 else None

    def _replicas(self, job_id: str) -> list[JobView]:
        return [job for job in self._view.jobs.values() if job.replica_of == job_id]

    def _running(self, job_id: str) -> list[JobView]:
        found = (
            job
            for job in self._replicas(job_id)
            if job.phase is Phase.RUNNING and job.site_id in self._view.sites
        )
        return sorted(found, key=lambda job: job.job_id)

    def _taken(self, job_id: str) -> set[str | None]:
        mine = self._replicas(job_id)
        return {job.site_id for job in mine} | {job.bound_for for job in mine}

    def _is_open(self, job: JobView, site: SiteView, taken: set[str | None]) -> bool:
        return site.site_id not in taken and not arrival_rejections(job, site, self._bookings)

    def _left_w(self, site: SiteView) -> float:
        return (site.known_surplus_w or 0.0) - self._bookings.draw_w(site.site_id)

    def _bps(self, source: str, destination: str) -> float:
        return self._bookings.free_bps(source, destination) or 0.0

    def _see(self, view: FleetView) -> None:
        self._view, self._bookings = view, Bookings(view)


def _after(view: FleetView, decision: Decision) -> FleetView:
    """Return the view with a decision carried out as far as slots, links and draws go."""
    job, target = view.jobs[decision.job_id], decision.target_site
    if target is None or decision.kind not in (DecisionKind.START, DecisionKind.MIGRATE):
        return view
    sites, links = dict(view.sites), dict(view.links)
    sites[target] = replace(sites[target], slots_held=sites[target].slots_held + 1)
    if decision.kind is DecisionKind.START:
        now = replace(job, phase=Phase.RUNNING, site_id=target, resident_since=view.now)
        return replace(view, sites=sites, jobs={**view.jobs, job.job_id: now})
    source, taken_bps = job.site_id or "", decision.reserved_bps or 0.0
    link, there, here = links[source, target], sites[target], sites[source]
    links[source, target] = replace(link, free_bps=max(0.0, link.free_bps - taken_bps))
    if here.uplink_free_bps is not None:
        sites[source] = replace(here, uplink_free_bps=here.uplink_free_bps - taken_bps)
    if there.downlink_free_bps is not None:
        sites[target] = replace(there, downlink_free_bps=there.downlink_free_bps - taken_bps)
    now = replace(job, phase=Phase.MIGRATING, bound_for=target, resident_since=None)
    return replace(view, sites=sites, links=links, jobs={**view.jobs, job.job_id: now})


def _joined(view: FleetView, sibling: JobView, join: Join) -> FleetView:
    """Return the view with one more replica on its way."""
    site = view.sites[join.target_site]
    name = f"{join.job_id}/{join.target_site}"  # only for this tick; who carries it out numbers replicas
    coming = replace(
        sibling,
        job_id=name,
        phase=Phase.MIGRATING,
        site_id=join.target_site,
        bound_for=join.target_site,
        resident_since=None,
    )
    return replace(
        view,
        sites={**view.sites, site.site_id: replace(site, slots_held=site.slots_held + 1)},
        jobs={**view.jobs, name: coming},
    )
