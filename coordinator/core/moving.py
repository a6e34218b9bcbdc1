"""How a planning tick goes: start what waits, commit the most urgent and gainful move, look again.

Shared by the policies that follow renewable seconds. What a move gains, and how long the surplus where a job
is goes on covering it, is their judge's; urgency, hysteresis, reservations and words are here.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf

import numpy as np

from coordinator.core import confidence
from coordinator.core.bookings import Bookings
from coordinator.core.emptying import Emptying
from coordinator.core.judgement import Judge, Ratings
from coordinator.core.policy import PlannerSettings
from coordinator.core.starting import HELD_REASONS, jobs_in_start_order, leave_alone
from coordinator.model.decision import Alternative, Decision, DecisionKind
from coordinator.model.view import FleetView, JobView, Phase, SiteView

_DRAIN, _SHED, _VOLUNTARY = 2, 1, 0
"""How urgently a job must leave: the higher goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What tells one policy's ticks from another's.

    `policy`: its name. `loss`: what a site's surplus does when a job may leave, as a sentence goes on.
    `need_w`: the watts that the surplus where a job is must cover for it to stay. `judge`: makes its judge.
    `slack_margin_s`: what a move must leave of a job's slack, in seconds.
    """

    policy: str
    loss: str
    need_w: Callable[[Bookings, JobView], float]
    judge: Callable[[FleetView, PlannerSettings, Bookings], Judge]
    slack_margin_s: float = 0.0


def plan(view: FleetView, settings: PlannerSettings, manner: Manner, *, tells: bool) -> tuple[Decision, ...]:
    """Decide about every job; `tells` False: only starts and moves, and without alternatives."""
    bookings = Bookings(view)
    running = [job for job in view.jobs.values() if _runs(job, view)]
    queued = jobs_in_start_order(view)
    if not tells:
        # Weeks of a replay are made of moments in which nobody could leave: they cost no figures.
        running = _could_leave(running, view, bookings, settings, manner)
        if not (running or queued):
            return ()
    planning = _Planning(manner.judge(view, settings, bookings), manner, tells=tells)
    decisions = [planning.start(job) for job in queued]
    if tells:
        for job in view.jobs.values():
            if job.phase is not Phase.QUEUED and not _runs(job, view):
                reason = HELD_REASONS.get(job.phase, "its site is not known")
                decisions.append(leave_alone(job, view, bookings, manner.policy, reason))
    decisions.extend(planning.move(sorted(running, key=lambda job: job.job_id)))
    if not tells:
        changing = (DecisionKind.START, DecisionKind.MIGRATE)
        decisions = [decision for decision in decisions if decision.kind in changing]
    return tuple(sorted(decisions, key=lambda decision: decision.job_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The best column for one job; how it ranks (urgency, feasibility, gain, link); when it has its turn."""

    column: int
    rank: tuple[float, float, float, float]
    turn: tuple[float, ...]


_Waiting = tuple[tuple[float, ...], str, int, _Choice, JobView]
"""A job that could leave: rank, id, the number of moves before it was rated, its choice."""


class _Planning:
    """One tick of planning. `tells` False: no decision names its alternatives, none says that a job stays."""

    def __init__(self, judge: Judge, manner: Manner, *, tells: bool) -> None:
        self.judge = judge
        self._manner = manner
        self._tells = tells
        self._emptying = Emptying(judge.view, judge.bookings, ())

    def start(self, job: JobView) -> Decision:
        """Start a queued job at home, else where the most renewable seconds are, else let it wait."""
        ratings = self.judge.rate([job])
        found = [
            self.judge.start_alternative(job, site, ratings, (0, column))
            for column, site in enumerate(self.judge.sites)
        ]
        target = self._start_target(job, found)
        at_home = target is not None and target == job.home_site
        why = (
            "is the job's home and has a free slot" if at_home else "offers as many renewable seconds or more"
        )
        told = tuple(
            alternative
            if alternative.rejections or alternative.site_id == target
            else replace(alternative, rejections=(f"{target} {why}",))
            for alternative in found
        )
        if target is None:
            return self._decision(job, DecisionKind.WAIT, None, "no site may take it now", told)
        self.judge.bookings.start(job, target)
        reason = (
            f"starts at its home {target}" if at_home else f"starts at {target}, the most renewable site open"
        )
        return self._decision(job, DecisionKind.START, target, reason, told)

    def _start_target(self, job: JobView, found: list[Alternative]) -> str | None:
        allowed = [alternative for alternative in found if alternative.feasible]
        if any(alternative.site_id == job.home_site for alternative in allowed):
            return job.home_site
        best = min(allowed, key=lambda a: (-a.score, -self._surplus_w(a.site_id), a.site_id), default=None)
        return None if best is None else best.site_id

    def move(self, jobs: list[JobView]) -> list[Decision]:
        """Decide about running jobs: commit the most urgent and gainful move, then look again."""
        ratings = self.judge.rate(jobs)
        must = [job for job in jobs if self._urgency(job) == _DRAIN]
        self._emptying = Emptying(self.judge.view, self.judge.bookings, must)
        heap: list[_Waiting] = []
        for index, job in enumerate(jobs):
            choice = self._choose(job, ratings, index)
            if choice is not None:
                heapq.heappush(heap, (_sooner(choice), job.job_id, 0, choice, job))
        decisions: dict[str, Decision] = {}
        touched: dict[str, int] = {}
        moved = 0
        while heap:
            _, job_id, rated_at, best, job = heapq.heappop(heap)
            destination = self.judge.sites[best.column].site_id
            now = self.judge.rate([job])
            # Bookings only ever make a choice worse, so one whose two sites nobody touched is still the
            # best, and a lazy second look at the others keeps the order exact.
            if max(touched.get(destination, 0), touched.get(job.site_id or "", 0)) > rated_at:
                choice = self._choose(job, now, 0)
                if choice is not None:
                    heapq.heappush(heap, (_sooner(choice), job_id, moved, choice, job))
                continue
            decisions[job_id] = self._migrate(job, now, best)
            moved += 1
            touched[destination] = touched[job.site_id or ""] = moved
        if not self._tells:
            return list(decisions.values())
        if moved:
            ratings = self.judge.rate(jobs)
        for index, job in enumerate(jobs):
            if job.job_id not in decisions:
                decisions[job.job_id] = self._stay(job, ratings, index)
        return list(decisions.values())

    def _choose(self, job: JobView, ratings: Ratings, index: int) -> _Choice | None:
        best: _Choice | None = None
        urgency = self._urgency(job)
        for column in range(len(self.judge.sites)):
            if self._why_not(job, ratings, (index, column)):
                continue
            feasible = bool(ratings.terms.feasible[index, column])
            gain_s, link_bps = ratings.gain_s[index, column], ratings.link_bps[index, column]
            rank = (float(urgency), float(feasible), float(gain_s), float(link_bps))
            if best is None or rank > best.rank:
                best = _Choice(column=column, rank=rank, turn=rank)
        if best is None or urgency != _DRAIN:
            return best
        saved_w = self._emptying.saved_w(job, ratings, (index, best.column))
        return replace(best, turn=(*best.rank[:2], saved_w, *best.rank[2:]))

    def _why_not(self, job: JobView, ratings: Ratings, index: tuple[int, int]) -> tuple[str, ...]:
        """Return what forbids the move, as short as it can be found out; the long form is `_told`."""
        site = self.judge.sites[index[1]]
        if site.site_id == job.site_id:
            return ("it is there",)
        if not job.may_migrate or not site.available or site.wants_to_shed:
            return ("not allowed",)
        if self.judge.bookings.free_slots(site.site_id) < 1 or not ratings.link_bps[index] > 0.0:
            return ("full",)
        urgency = self._urgency(job)
        if urgency == _DRAIN:
            alone = self._emptying.rate_bps(job, site.site_id, ratings, index) > 0.0
            return () if alone else ("others are on the link",)
        if not ratings.terms.feasible[index]:
            return ("infeasible",)
        return () if urgency == _SHED else self._voluntary_rejections(job, ratings, index)

    def _voluntary_rejections(
        self, job: JobView, ratings: Ratings, index: tuple[int, int]
    ) -> tuple[str, ...]:
        """Return what hysteresis has against a move that nobody demands, every reason."""
        reasons = []
        total_s, lasts_s = float(ratings.terms.migration_s[index]), float(ratings.lasts_s[index[0]])
        if lasts_s > total_s:
            reasons.append(f"the surplus here lasts {lasts_s:.1f} s, longer than the move of {total_s:.1f} s")
        least_s = max(job.min_residence_s, self.judge.settings.min_residence_s)
        if job.slack_s is not None and not total_s < job.slack_s - self._manner.slack_margin_s:
            reasons.append(f"it would end late: {total_s:.1f} s of {job.slack_s:.1f} s of slack")
        resident_s = self._resident_s(job)
        if resident_s < least_s:
            reasons.append(f"resident for {resident_s:.1f} s, at least {least_s:.1f} s are asked for")
        gain_s = float(ratings.gain_s[index])
        margin_s = self.judge.margin_s(float(ratings.stay_s[index]))
        if not gain_s > margin_s and np.isfinite(gain_s):
            reasons.append(f"gains {gain_s:.1f} renewable s, more than {margin_s:.1f} s are asked for")
        return tuple(reasons)

    def _migrate(self, job: JobView, ratings: Ratings, choice: _Choice) -> Decision:
        site = self.judge.sites[choice.column]
        rate_bps = float(ratings.link_bps[0, choice.column])
        total_s = float(ratings.terms.migration_s[0, choice.column])
        why, company = self._why_leave(job), ""
        if self._urgency(job) == _DRAIN:
            rate_bps = self._emptying.rate_bps(job, site.site_id, ratings, (0, choice.column))
            total_s = self._emptying.predicted_s(rate_bps, ratings, (0, choice.column))
            self._emptying.leaves(job, site.site_id)
            company = self._emptying.company(job, site.site_id)
        alternatives = self._told(job, ratings, 0, chosen=site.site_id, here=(why,)) if self._tells else ()
        self.judge.bookings.move(job, site.site_id, rate_bps)
        reason = f"{why}; {site.site_id} gains the most{company}"
        decision = self._decision(job, DecisionKind.MIGRATE, site.site_id, reason, alternatives)
        predicted_s = None if np.isnan(total_s) else total_s
        return replace(
            decision,
            predicted_s=predicted_s,
            reserved_bps=rate_bps,
            window_end_at=self._window_end_at(
                job, float(ratings.ends_s[confidence.MEDIAN, 0, choice.column])
            ),
        )

    def _window_end_at(self, job: JobView, ends_s: float) -> datetime | None:
        """Return until when the move is worth making, by the median; None where it is made in any case."""
        if self._urgency(job) != _VOLUNTARY or not np.isfinite(ends_s):
            return None
        return self.judge.view.now + timedelta(seconds=ends_s)

    def _stay(self, job: JobView, ratings: Ratings, index: int) -> Decision:
        lasts_s = float(ratings.lasts_s[index])
        if not job.may_migrate:
            reason = "the job may not migrate"
        elif self._urgency(job) != _VOLUNTARY:
            queue = self._emptying.queue(job) if self._urgency(job) == _DRAIN else ""
            reason = f"{self._why_leave(job)}, but {queue or 'no destination can take it'}"
        elif lasts_s > 0.0:
            reason = f"the surplus here covers it for {lasts_s:.1f} s more"
        else:
            reason = "no surplus here covers it, but no move elsewhere passes every test"
        alternatives = self._told(job, ratings, index, chosen=job.site_id, here=())
        return self._decision(job, DecisionKind.STAY, job.site_id, reason, alternatives)

    def _told(
        self, job: JobView, ratings: Ratings, index: int, *, chosen: str | None, here: tuple[str, ...]
    ) -> tuple[Alternative, ...]:
        """Return every site with all that speaks against it; nothing speaks against the chosen one."""
        told = []
        for column, site in enumerate(self.judge.sites):
            pair = (index, column)
            if site.site_id == job.site_id:
                told.append(self.judge.here_alternative(site, ratings, index, here))
                continue
            alternative = self.judge.move_alternative(job, site, ratings, pair)
            rejections = alternative.rejections
            if site.site_id == chosen:
                rejections = ()
            elif self._urgency(job) == _VOLUNTARY:
                rejections += self._voluntary_rejections(job, ratings, pair)
            if site.site_id != chosen and not rejections:
                rejections = (f"{chosen} gains as much or more",)
            told.append(replace(alternative, rejections=rejections))
        return tuple(told)

    def _why_leave(self, job: JobView) -> str:
        urgency = self._urgency(job)
        if urgency == _DRAIN:
            return f"{job.site_id} is draining"
        if urgency == _SHED:
            return f"{job.site_id} asks for jobs to be moved away"
        return f"the surplus at {job.site_id} {self._manner.loss}"

    def _urgency(self, job: JobView) -> int:
        site = self.judge.view.sites[job.site_id or ""]
        return _DRAIN if site.draining else _SHED if site.wants_to_shed else _VOLUNTARY

    def _resident_s(self, job: JobView) -> float:
        if job.resident_since is None:
            return 0.0
        return (self.judge.view.now - job.resident_since).total_seconds()

    def _surplus_w(self, site_id: str) -> float:
        site = self.judge.view.sites[site_id]
        return site.surplus_w if site.surplus_w is not None and site.surplus_quality_ok else 0.0

    def _decision(
        self,
        job: JobView,
        kind: DecisionKind,
        target: str | None,
        reason: str,
        alternatives: tuple[Alternative, ...],
    ) -> Decision:
        return Decision(
            job_id=job.job_id,
            decided_at=self.judge.view.now,
            policy=self._manner.policy,
            kind=kind,
            source_site=job.site_id if kind is not DecisionKind.START else None,
            target_site=target,
            reason=reason,
            alternatives=alternatives,
        )


def _sooner(choice: _Choice) -> tuple[float, ...]:
    return tuple(-part for part in choice.turn)


def _runs(job: JobView, view: FleetView) -> bool:
    return job.phase is Phase.RUNNING and job.site_id in view.sites


def _could_leave(
    running: list[JobView],
    view: FleetView,
    bookings: Bookings,
    settings: PlannerSettings,
    manner: Manner,
) -> list[JobView]:
    """Leave out jobs that `_Planning.move` would let stay, by looks at a few watts; it may keep too many.

    A move takes less than alpha of what forecasts span, else it is not feasible: a job that is covered
    for that long stays. Where no site has surplus left for one more, only those that must go could.
    """
    ends = [
        site.forecast.slots[-1].end_at
        for site in view.sites.values()
        if site.forecast is not None and site.forecast.slots
    ]
    reach_at = view.now + settings.alpha * (max(ends, default=view.now) - view.now)
    sure_w = {site.site_id: _sure_w(site, view, reach_at) for site in view.sites.values()}
    found = [
        job
        for job in running
        if _must_leave(view.sites[job.site_id or ""])
        or (job.may_migrate and not manner.need_w(bookings, job) <= sure_w[job.site_id or ""])
    ]
    left_w = max(
        (
            site.surplus_w - bookings.draw_w(site.site_id)
            for site in view.sites.values()
            if site.surplus_w is not None
            and site.surplus_quality_ok
            and bookings.free_slots(site.site_id) > 0
        ),
        default=0.0,
    )
    # A hair's breadth, since the sums of watts are taken in another order where it is decided.
    return [
        job for job in found if _must_leave(view.sites[job.site_id or ""]) or job.power_w <= left_w + 1e-6
    ]


def _must_leave(site: SiteView) -> bool:
    return site.draining or site.wants_to_shed


def _sure_w(site: SiteView, view: FleetView, reach_at: datetime) -> float:
    """Return the watts that the median surplus of a site keeps from now to an instant; -inf: unknown."""
    if site.surplus_w is None or not site.surplus_quality_ok or site.forecast is None:
        return -inf
    if site.forecast.paths_w is not None:
        return -inf  # most paths may dip below each slot's median at some time or other
    known_at, least_w = view.now, site.surplus_w
    for slot in site.forecast.slots:
        if known_at > reach_at:
            break
        if slot.end_at <= known_at:
            continue
        if slot.start_at > known_at:
            return -inf
        if slot.start_at > view.now:
            least_w = min(least_w, max(slot.p10_w, slot.p50_w))
        known_at = slot.end_at
    return least_w if known_at > reach_at else -inf
