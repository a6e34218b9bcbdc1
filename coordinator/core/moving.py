"""How a planning tick goes: start what waits, commit the most urgent and gainful move, look again.

Shared by the policies that follow renewable seconds. What a move gains, and how long the surplus where a job
is goes on covering it, is their judge's; urgency, hysteresis, reservations and words are here.
"""

import heapq
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isfinite, isnan

import numpy as np
from numpy.typing import NDArray

from coordinator.core import confidence
from coordinator.core.bookings import Bookings
from coordinator.core.emptying import Emptying
from coordinator.core.judgement import Judge, Ratings
from coordinator.core.leaving import DRAIN, SHED, VOLUNTARY, could_leave, how_urgent, too_many_s, why_leave
from coordinator.core.manner import Made, Manner
from coordinator.core.policy import PlannerSettings
from coordinator.core.starting import HELD_REASONS, is_open, jobs_in_start_order, leave_alone
from coordinator.core.staying import against_leaving, resident_s
from coordinator.model.decision import Alternative, Decision, DecisionKind
from coordinator.model.view import FleetView, JobView, Phase

FEW_PAIRS = 500
"""Pairs of a job and a site up to which the best move is made and all others are looked at again; beyond,
voluntary moves are chosen together."""
LARGE_PAIRS = 10_000
"""Pairs up to which every pair is rated and told; beyond, the fleet is large."""


def plan(view: FleetView, settings: PlannerSettings, manner: Manner, *, tells: bool) -> tuple[Decision, ...]:
    """Decide about every job; `tells` False: only starts and moves, and without alternatives.

    In a fleet of more than `FEW_PAIRS` pairs of a job and a site voluntary moves are the `bulk`'s where the
    manner has one; of more than `LARGE_PAIRS`, no decision names its alternatives.
    """
    bookings = Bookings(view)
    running = [job for job in view.jobs.values() if _runs(job, view)]
    queued = jobs_in_start_order(view)
    pairs = len(view.jobs) * len(view.sites)
    large = pairs > LARGE_PAIRS
    leaving = running
    if large or not tells:
        # Weeks of a replay are made of moments in which nobody could leave: they cost no figures.
        leaving = could_leave(running, view, bookings, settings, manner.need_w)
        if not (tells or leaving or queued):
            return ()
    together = (large or pairs > FEW_PAIRS) and manner.bulk is not None
    judge = manner.judge(view, settings, bookings)
    planning = _Planning(judge, manner, tells=tells and not large, together=together)
    decisions = {job.job_id: planning.start(job) for job in queued}
    if tells:
        for job in view.jobs.values():
            if job.phase is not Phase.QUEUED and not _runs(job, view):
                reason = HELD_REASONS.get(job.phase, "its site is not known")
                decisions[job.job_id] = (
                    planning.leave_alone(job, reason)
                    if large
                    else leave_alone(job, view, bookings, manner.policy, reason)
                )
    leaving = sorted(leaving, key=lambda job: job.job_id)
    decisions |= planning.move_many(leaving) if together else planning.move(leaving)
    if large and tells:
        decisions |= planning.stay_all([job for job in running if job.job_id not in decisions])
    if not tells:
        changing = (DecisionKind.START, DecisionKind.MIGRATE)
        decisions = {job_id: one for job_id, one in decisions.items() if one.kind in changing}
    return tuple(decisions[job_id] for job_id in sorted(decisions))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The best column for one job, and when it has its turn: by urgency, feasibility, gain, link."""

    column: int
    turn: tuple[float, ...]


_Waiting = tuple[tuple[float, ...], str, int, _Choice, JobView]
"""A job that could leave: rank, id, the number of moves before it was rated, its choice."""


class _Planning:
    """One tick of planning.

    `tells` False: no decision names its alternatives, none says that a job stays. `together`: voluntary moves
    are chosen together.
    """

    def __init__(self, judge: Judge, manner: Manner, *, tells: bool, together: bool) -> None:
        self.judge = judge
        self._manner = manner
        self._tells = tells
        self._beats = "brings the fleet as much or more" if together else "gains as much or more"
        self._emptying = Emptying(judge.view, judge.bookings, ())
        self._accepts = np.array([is_open(site) for site in judge.sites], dtype=np.bool_)

    def start(self, job: JobView) -> Decision:
        """Start a queued job at home, else where its judge finds it the most worth, else let it wait."""
        target = self._start_target(job)
        at_home = target is not None and target == job.home_site
        told = self._start_told(job, target, at_home=at_home) if self._tells else ()
        if target is None:
            return self._decision(job, DecisionKind.WAIT, None, "no site may take it now", told)
        self.judge.bookings.start(job, target)
        best = "where import costs the least" if self.judge.is_valued else "the most renewable site open"
        reason = f"starts at its home {target}" if at_home else f"starts at {target}, {best}"
        return self._decision(job, DecisionKind.START, target, reason, told)

    def _start_target(self, job: JobView) -> str | None:
        allowed = self._accepts & (self.judge.bookings.slots >= 1) & self.judge.fits(job)
        allowed &= self.judge.has_room(job)
        if job.must_start_at_holder:
            allowed &= [site.site_id in job.held_at for site in self.judge.sites]
        home = job.home_site
        if home in self.judge.view.sites and allowed[self.judge.column_of(home or "")]:
            return home
        columns = np.flatnonzero(allowed).tolist()
        if not columns:
            return None
        worth_s = self.judge.start_worth_s(job)
        sites = self.judge.sites
        best = min(columns, key=lambda c: (-worth_s[c], -(sites[c].known_surplus_w or 0.0), sites[c].site_id))
        return sites[best].site_id

    def _start_told(self, job: JobView, target: str | None, *, at_home: bool) -> tuple[Alternative, ...]:
        ratings = self.judge.rate([job])
        better = "costs as little" if self.judge.is_valued else "offers as many renewable seconds or more"
        why = "is the job's home and has a free slot" if at_home else better
        told = []
        for column, site in enumerate(self.judge.sites):
            alternative = self.judge.start_alternative(job, site, ratings, (0, column))
            if not alternative.rejections and site.site_id != target:
                alternative = replace(alternative, rejections=(f"{target} {why}",))
            told.append(alternative)
        return tuple(told)

    def move_many(self, jobs: list[JobView]) -> dict[str, Decision]:
        """Decide about running jobs: first the moves that sites demand, then together those that gain."""
        willing = [job for job in jobs if self._urgency(job) == VOLUNTARY]
        decisions = self.move([job for job in jobs if self._urgency(job) != VOLUNTARY])
        ratings = self.judge.rate(willing) if self._tells else None
        rows = {job.job_id: row for row, job in enumerate(willing)}
        assert self._manner.bulk is not None
        for made in self._manner.bulk(self.judge, self._manner.slack_margin_s).run(willing):
            told: tuple[Alternative, ...] = ()
            if ratings is not None:
                chosen, here = self.judge.sites[made.column].site_id, (self._why_leave(made.job),)
                told = self._told(made.job, ratings, rows[made.job.job_id], chosen=chosen, here=here)
            decisions[made.job.job_id] = self._moved(made, told)
        if self._tells:
            ratings = self.judge.rate(willing)
            stay = (job for job in willing if job.job_id not in decisions)
            decisions |= {job.job_id: self._stay(job, ratings, rows[job.job_id]) for job in stay}
        return decisions

    def leave_alone(self, job: JobView, reason: str) -> Decision:
        """Return that nothing changes; where else the job could be is not told."""
        kind = DecisionKind.WAIT if job.site_id is None else DecisionKind.STAY
        return self._decision(job, kind, job.site_id, reason, ())

    def stay_all(self, jobs: list[JobView]) -> dict[str, Decision]:
        """Return that jobs of a large fleet stay, and why; where else they could be is not told."""
        lasts_s = self.judge.lasts_s(jobs).tolist()
        return {
            job.job_id: self._decision(job, DecisionKind.STAY, job.site_id, self._why_stay(job, lasts), ())
            for job, lasts in zip(jobs, lasts_s, strict=True)
        }

    def move(self, jobs: list[JobView]) -> dict[str, Decision]:
        """Decide about running jobs: commit the most urgent and gainful move, then look again."""
        ratings = self.judge.rate(jobs)
        must = [job for job in jobs if self._urgency(job) == DRAIN]
        self._emptying = Emptying(self.judge.view, self.judge.bookings, must)
        heap: list[_Waiting] = []
        places = {job.job_id: index for index, job in enumerate(jobs)}
        for index in self._hopeful(jobs, ratings):
            job = jobs[index]
            choice = self._choose(job, ratings, index)
            if choice is not None:
                heapq.heappush(heap, (_sooner(choice), job.job_id, 0, choice, job))
        decisions: dict[str, Decision] = {}
        touched: dict[str, int] = {}
        moved = 0
        while heap:
            _, job_id, rated_at, best, job = heapq.heappop(heap)
            destination = self.judge.sites[best.column].site_id
            now, row = (self.judge.rate([job]), 0) if moved else (ratings, places[job_id])
            # Bookings only ever make a choice worse, so one whose two sites nobody touched is still the
            # best, and a lazy second look at the others keeps the order exact.
            if max(touched.get(destination, 0), touched.get(job.site_id or "", 0)) > rated_at:
                choice = self._choose(job, now, row)
                if choice is not None:
                    heapq.heappush(heap, (_sooner(choice), job_id, moved, choice, job))
                continue
            decisions[job_id] = self._migrate(job, now, (row, best.column))
            moved += 1
            touched[destination] = touched[job.site_id or ""] = moved
        if not self._tells:
            return decisions
        if moved:
            ratings = self.judge.rate(jobs)
        for index, job in enumerate(jobs):
            if job.job_id not in decisions:
                decisions[job.job_id] = self._stay(job, ratings, index)
        return decisions

    def _hopeful(self, jobs: list[JobView], ratings: Ratings) -> list[int]:
        """Return the rows of the jobs that `_choose` may find a place for, all others left out at once."""
        urgent = np.array([self._urgency(job) for job in jobs], dtype=np.int64)[:, None]
        passes = (urgent == DRAIN) | (ratings.terms.in_time & ratings.terms.pays)
        passes &= (urgent != VOLUNTARY) | ~(ratings.lasts_s[:, None] > ratings.terms.migration_s)
        usable = self._accepts & (self.judge.bookings.slots >= 1) & (ratings.link_bps > 0.0)
        rows: list[int] = np.flatnonzero((passes & usable).any(axis=1)).tolist()
        return rows

    def _choose(self, job: JobView, ratings: Ratings, index: int) -> _Choice | None:
        urgency = self._urgency(job)
        columns = np.flatnonzero(self._open(job, ratings, index, urgency))
        if not columns.size:
            return None
        feasible = ratings.terms.in_time[index, columns] & ratings.terms.pays[index, columns]
        gain_s, link_bps = ratings.gain_s[index, columns], ratings.link_bps[index, columns]
        best = int(np.lexsort((-link_bps, -gain_s, ~feasible))[0])
        gain = float(gain_s[best])
        if self._manner.by_energy and isfinite(gain):
            gain *= job.power_w
        column = int(columns[best])
        rank = (float(urgency), float(feasible[best]), gain, float(link_bps[best]))
        if urgency != DRAIN:
            return _Choice(column=column, turn=rank)
        saved_w = self._emptying.saved_w(job, ratings, (index, column))
        return _Choice(column=column, turn=(*rank[:2], saved_w, *rank[2:]))

    def _open(self, job: JobView, ratings: Ratings, index: int, urgency: int) -> NDArray[np.bool_]:
        """Return where a job may go, as short as it can be found out; the long form is `_told`."""
        bookings, terms, settings = self.judge.bookings, ratings.terms, self.judge.settings
        # Where it is, there is no link to.
        usable: NDArray[np.bool_] = self._accepts & (bookings.slots >= 1) & (ratings.link_bps[index] > 0.0)
        usable &= self.judge.fits(job)
        usable &= self.judge.has_room(job, terms.migration_s[index])
        if not job.may_migrate:
            usable = np.zeros_like(usable)
        if urgency == DRAIN:
            return self._alone(job, ratings, index, usable)
        usable &= terms.in_time[index] & terms.pays[index]
        if urgency == SHED:
            here = self.judge.view.sites[job.site_id or ""]
            usable &= terms.migration_s[index] < too_many_s(here, bookings)
            return usable
        if resident_s(job, self.judge.view.now) < max(job.min_residence_s, settings.min_residence_s):
            return np.zeros_like(usable)
        total_s, gain_s = terms.migration_s[index], ratings.gain_s[index]
        if job.spare_s is not None:
            usable &= total_s < job.spare_s - self._manner.slack_margin_s
        least_s = self.judge.margin_s(ratings.stay_s[index])
        usable &= (gain_s > least_s) | ~np.isfinite(gain_s)
        usable &= ~(ratings.lasts_s[index] > total_s)
        return usable

    def _alone(
        self, job: JobView, ratings: Ratings, index: int, usable: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return where the link still has a rate for one more job of a draining site."""
        for column in np.flatnonzero(usable).tolist():
            site_id = self.judge.sites[column].site_id
            usable[column] = self._emptying.rate_bps(job, site_id, ratings, (index, column)) > 0.0
        return usable

    def _migrate(self, job: JobView, ratings: Ratings, cell: tuple[int, int]) -> Decision:
        row, column = cell
        site = self.judge.sites[column]
        rate_bps = float(ratings.link_bps[cell])
        total_s = float(ratings.terms.migration_s[cell])
        company = ""
        if self._urgency(job) == DRAIN:
            rate_bps = self._emptying.rate_bps(job, site.site_id, ratings, cell)
            total_s = self._emptying.predicted_s(rate_bps, ratings, cell)
            self._emptying.leaves(job, site.site_id)
            company = self._emptying.company(job, site.site_id)
        here = (self._why_leave(job),)
        alternatives = self._told(job, ratings, row, chosen=site.site_id, here=here) if self._tells else ()
        made = Made(
            job=job,
            column=column,
            rate_bps=rate_bps,
            total_s=total_s,
            ends_s=float(ratings.ends_s[(confidence.MEDIAN, *cell)]),
            gain_s=float(ratings.gain_s[cell]),
        )
        decision = self._moved(made, alternatives, company)
        self.judge.bookings.move(job, site.site_id, rate_bps)
        return decision

    def _moved(self, made: Made, alternatives: tuple[Alternative, ...] = (), company: str = "") -> Decision:
        site_id = self.judge.sites[made.column].site_id
        aside = self.judge.aside(made.job, made.column, made.gain_s)
        reason = f"{self._why_leave(made.job)}; {site_id} gains the most{aside}{company}"
        decision = self._decision(made.job, DecisionKind.MIGRATE, site_id, reason, alternatives)
        return replace(
            decision,
            predicted_s=None if isnan(made.total_s) else made.total_s,
            reserved_bps=made.rate_bps,
            window_end_at=self._window_end_at(made.job, made.ends_s),
        )

    def _window_end_at(self, job: JobView, ends_s: float) -> datetime | None:
        """Return until when the move is worth making, by the median; None where it is made in any case."""
        if self._urgency(job) != VOLUNTARY or not np.isfinite(ends_s):
            return None
        return self.judge.view.now + timedelta(seconds=ends_s)

    def _stay(self, job: JobView, ratings: Ratings, index: int) -> Decision:
        reason = self._why_stay(job, float(ratings.lasts_s[index]))
        alternatives = self._told(job, ratings, index, chosen=job.site_id, here=())
        return self._decision(job, DecisionKind.STAY, job.site_id, reason, alternatives)

    def _why_stay(self, job: JobView, lasts_s: float) -> str:
        if not job.may_migrate:
            return "the job may not migrate"
        if self._urgency(job) != VOLUNTARY:
            queue = self._emptying.queue(job) if self._urgency(job) == DRAIN else ""
            return f"{self._why_leave(job, leaves=False)}, but {queue or 'no destination can take it'}"
        if lasts_s > 0.0:
            return f"the surplus here covers it for {lasts_s:.1f} s more"
        known = self.judge.view.sites[job.site_id or ""].known_surplus_w is not None
        here = "no surplus here covers it" if known else "the surplus here is not known"
        return f"{here}, but no move elsewhere passes every test"

    def _told(
        self, job: JobView, ratings: Ratings, index: int, *, chosen: str | None, here: tuple[str, ...]
    ) -> tuple[Alternative, ...]:
        """Return every site with all that speaks against it; nothing speaks against the chosen one."""
        told, urgency = [], self._urgency(job)
        least_s = too_many_s(self.judge.view.sites[job.site_id or ""], self.judge.bookings)
        for column, site in enumerate(self.judge.sites):
            pair = (index, column)
            if site.site_id == job.site_id:
                told.append(self.judge.here_alternative(site, ratings, index, here))
                continue
            alternative = self.judge.move_alternative(job, site, ratings, pair)
            rejections = alternative.rejections
            if site.site_id == chosen:
                rejections = ()
            elif urgency == VOLUNTARY:
                rejections += against_leaving(job, ratings, pair, self.judge, self._manner.slack_margin_s)
            elif urgency == SHED and ratings.terms.migration_s[pair] >= least_s:
                rejections += ("a move would take longer than the limit here holds",)
            if site.site_id != chosen and not rejections:
                rejections = (f"{chosen} {self._beats}",)
            told.append(replace(alternative, rejections=rejections))
        return tuple(told)

    def _why_leave(self, job: JobView, *, leaves: bool = True) -> str:
        if self._urgency(job) == VOLUNTARY:
            return f"the surplus at {job.site_id} {self._manner.loss}"
        here = self.judge.view.sites[job.site_id or ""]
        return why_leave(here, self.judge.bookings, self.judge.view.now, leaves=leaves)

    def _urgency(self, job: JobView) -> int:
        return how_urgent(self.judge.view.sites[job.site_id or ""], self.judge.bookings)

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
