"""A planning tick in which jobs may be held back: starts, then moves, then who runs and who pauses.

Owns the order and the words. Who may wait is `deferral`'s, who moves is the policy's own plan, which is shown
the fleet as if nobody waited or paused.
"""

from collections.abc import Callable, Iterator
from math import inf

import numpy as np

from coordinator.core import deferral, windows
from coordinator.core.bookings import Bookings
from coordinator.core.deferral import DeferralRules
from coordinator.core.horizon import Outlook, expected_j, outlook
from coordinator.core.starting import is_pressing, plain_alternative, sites_in_order, start_rejections
from coordinator.model.decision import Alternative, Decision, DecisionKind
from coordinator.model.view import FleetView, JobView, Phase, SiteView

Moves = Callable[[FleetView], tuple[Decision, ...]]
_UNCHANGED = (DecisionKind.STAY, DecisionKind.WAIT)


def plan_deferring(
    view: FleetView, rules: DeferralRules, moves: Moves, *, policy: str, tells: bool
) -> tuple[Decision, ...]:
    """Decide about every job where some may be held back.

    Parameters
    ----------
    view : FleetView
        The fleet at one instant.
    rules : DeferralRules
        When holding back ends.
    moves : callable
        Decides about all jobs that are no business of deferral's, and about moves.
    policy : str
        Name of the policy.
    tells : bool
        False: only what changes something, and starts without alternatives.
    """
    tick = _Tick(view, rules, policy, tells=tells)
    held = tick.starts()
    others = moves(deferral.as_if_running(view, tick.started))
    decisions = [*held, *tick.pauses([one for one in others if one.job_id not in tick.started])]
    if not tells:
        decisions = [decision for decision in decisions if decision.kind not in _UNCHANGED]
    return tuple(sorted(decisions, key=lambda decision: decision.job_id))


class _Tick:
    """One tick; `started` has where jobs that were held back start now."""

    def __init__(self, view: FleetView, rules: DeferralRules, policy: str, *, tells: bool) -> None:
        self.started: dict[str, str] = {}
        self._view = view
        self._rules = rules
        self._policy = policy
        self._tells = tells
        self._pressed = not deferral.slots_suffice(view, rules)
        self._sites = sites_in_order(view)
        self._bookings = Bookings(view)
        self._ahead: Outlook | None = None
        self._at: dict[str, list[JobView]] = {site_id: [] for site_id in view.sites}
        for job in view.jobs.values():
            if deferral.draws_now(job) and job.site_id in self._at:
                self._at[job.site_id].append(job)
        self._left_w = {site.site_id: self._left_at(site.site_id) for site in self._sites}

    def _left_at(self, site_id: str) -> float:
        """Return what those who run at a site leave of its surplus now, in watts; below 0: they lack it."""
        here, site = self._at[site_id], self._view.sites[site_id]
        run = self._runners(site, here)
        return deferral.surplus_w(site) - sum(job.power_w for job in here if job.job_id in run)

    def _runners(self, site: SiteView, here: list[JobView]) -> frozenset[str]:
        limit_w = self._bookings.limit_now_w(site.site_id)
        return deferral.runners(site, here, self._rules, pressed=self._pressed, limit_w=limit_w)

    def starts(self) -> list[Decision]:
        """Decide about every queued job with slack, the one with the least first: START or WAIT."""
        queued = [job for job in self._view.jobs.values() if job.phase is Phase.QUEUED]
        slots = sum(self._bookings.free_slots(site.site_id) for site in self._sites if site.available)
        spare = slots - sum(job.slack_s is None for job in queued)
        decisions = []
        for job in deferral.in_need_order(job for job in queued if job.slack_s is not None):
            free = (slots if is_pressing(job) else spare) > len(self.started)
            target = self._target(job) if free else None
            alternatives = self._alternatives(job, target, free=free) if self._tells else ()
            if target is None:
                decisions.append(
                    self._decision(job, DecisionKind.WAIT, None, self._why_held(job), alternatives)
                )
                continue
            self._bookings.start(job, target)
            self._left_w[target] -= job.power_w
            self.started[job.job_id] = target
            reason = f"starts at {target}: {self._why_start(job)}"
            decisions.append(self._decision(job, DecisionKind.START, target, reason, alternatives))
        return decisions

    def _target(self, job: JobView) -> str | None:
        """Return where surplus leaves a job most, now and over the next hours; None: it waits."""
        forced = self._must_start(job)
        allowed = [
            index
            for index, site in enumerate(self._sites)
            if (forced or self._rules.enough(self._left_w[site.site_id], job))
            and not start_rejections(job, site, self._bookings)
        ]
        if not allowed:
            return None
        if self._ahead is None:
            self._ahead = outlook([windows.site_curve(self._view.now, site) for site in self._sites])
        draws = np.array([[self._bookings.draw_w(site.site_id) for site in self._sites]])
        reach_s = self._rules.reach_s
        ahead_j = expected_j(self._ahead, draws, np.array([job.power_w]), np.zeros_like(draws), reach_s)[0]

        def worse(index: int) -> tuple[float, bool, str]:
            site_id = self._sites[index].site_id
            now_w = min(job.power_w, max(0.0, self._left_w[site_id]))
            return (-now_w - float(ahead_j[index]) / reach_s, site_id != job.home_site, site_id)

        return self._sites[min(allowed, key=worse)].site_id

    def pauses(self, others: list[Decision]) -> Iterator[Decision]:
        """Pass moves and the rest on, and say of those that stay whether they run."""
        gone = {one.job_id for one in others if one.kind is DecisionKind.MIGRATE}
        told = {one.job_id: one for one in others}
        for site in self._sites:
            here = [job for job in self._at[site.site_id] if job.job_id not in gone]
            here += [self._view.jobs[job_id] for job_id, at in self.started.items() if at == site.site_id]
            run = self._runners(site, here)
            for job in here:
                runs = job.job_id in run
                if job.phase not in (Phase.RUNNING, Phase.PAUSED):
                    continue
                if runs is (job.phase is Phase.RUNNING):
                    kind = DecisionKind.STAY
                else:
                    kind = DecisionKind.RESUME if runs else DecisionKind.PAUSE
                if runs and kind is DecisionKind.STAY:
                    continue
                reason = f"resumes: {self._why_start(job)}" if runs else self._why_held(job)
                said = told.pop(job.job_id, None)
                alternatives = said.alternatives if said is not None else ()
                yield self._decision(job, kind, site.site_id, reason, alternatives)
        yield from told.values()

    def _must_start(self, job: JobView) -> bool:
        return self._pressed or not deferral.may_wait(job, self._rules)

    def _why_start(self, job: JobView) -> str:
        if not deferral.may_wait(job, self._rules):
            return f"its slack of {job.slack_s or 0.0:.0f} s is used up"
        if self._pressed:
            return "others would wait too long for its slot"
        return f"surplus covers {self._rules.least_share:.0%} of its draw or more"

    def _why_held(self, job: JobView) -> str:
        if self._must_start(job):
            return "no site may take it now"
        limited = job.site_id is not None and self._bookings.limit_now_w(job.site_id) < inf
        under = " under the grid limit" if limited else ""
        return f"held back for surplus{under}, with {job.slack_s or 0.0:.0f} s of slack left"

    def _alternatives(self, job: JobView, target: str | None, *, free: bool) -> tuple[Alternative, ...]:
        told = []
        for site in self._sites:
            rejections = start_rejections(job, site, self._bookings)
            feasible = not rejections
            left_w = self._left_w[site.site_id]
            if site.site_id == target:
                rejections = ()
            elif not free:
                rejections += ("its free slots are for those without slack",)
            elif not self._must_start(job) and not self._rules.enough(left_w, job):
                rejections += (f"{max(0.0, left_w):.0f} W of surplus are left of {job.power_w:.0f} W",)
            elif feasible:
                rejections = (f"{target} offers as much surplus or more",)
            told.append(
                plain_alternative(
                    job, site, self._bookings, rejections, feasible=feasible, score=max(0.0, left_w)
                )
            )
        return tuple(told)

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
            decided_at=self._view.now,
            policy=self._policy,
            kind=kind,
            source_site=job.site_id,
            target_site=target,
            reason=reason,
            alternatives=alternatives,
        )


def may_defer(view: FleetView) -> bool:
    """Tell whether any job may be held back, or was paused."""
    return any(job.slack_s is not None or job.phase is Phase.PAUSED for job in view.jobs.values())
