"""The fleet as offers see it: who runs where and could give way, who waits, and what forbids to offer.

What the plan of this tick has decided counts already: a job that is about to leave or to pause is nobody's to
offer, and a slot at another site is promised to one job only. Owns that; figures are `offers`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from coordinator.core.offers import MoveAway, OfferingJob, OfferingSite, OfferSettings, offers_of, shed_order
from coordinator.model.decision import Alternative, Decision, DecisionKind
from coordinator.model.fleet import FleetState, Job, JobState
from coordinator.model.job import JobReport, newest
from coordinator.model.live import Live, LiveSite, report_of
from coordinator.model.offers import OfferSet
from coordinator.model.site import MEASURED, GridState, GridStatus, SiteSample, is_emergency
from coordinator.model.view import FleetView, JobView, Phase, SiteView

_UNTOLD = frozenset({GridState.INIT, GridState.FAILSAFE})
_LEAVING = frozenset({DecisionKind.MIGRATE, DecisionKind.PAUSE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What offers are made of: the fleet, what is live, and the newest tick's view and decisions."""

    state: FleetState
    live: Live
    view: FleetView
    decisions: Sequence[Decision]


def plan_offers(plan: Plan, settings: OfferSettings) -> Mapping[str, OfferSet]:
    """Return what every connected site may offer now, by site."""
    fleet = _Fleet(plan, settings.stale_s)
    return {
        site_id: offers_of(fleet.site(plan.view.sites[site_id]), plan.view.now, settings)
        for site_id in sorted(plan.view.sites)
        if plan.live.get(site_id, LiveSite()).connected
    }


def why_blocked(status: GridStatus | None) -> str:
    """Return why a site may not offer anything, by what its grid asks of it; "" where it may."""
    if status is None:
        return "the site has not said what its grid asks"
    if status.state in _UNTOLD:
        return "the grid operator has not been heard"
    if any(is_emergency(limit) for limit in status.limits):
        return "a grid emergency"
    return "the site cannot keep its limit" if status.unachievable else ""


@dataclass(slots=True)
class _Fleet:
    """One round over the sites; `free` counts the slots that nobody was promised yet."""

    plan: Plan
    stale_s: float
    free: dict[str, int] = field(default_factory=dict)
    decided: dict[str, Decision] = field(default_factory=dict)
    queued: dict[str, list[JobView]] = field(default_factory=dict)
    resident: dict[str, list[JobView]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        view = self.plan.view
        self.decided = {one.job_id: one for one in self.plan.decisions}
        for site_id, site in view.sites.items():
            self.free[site_id] = max(0, site.slots - site.slots_held) if site.available else 0
        for decision in self.plan.decisions:
            if decision.kind in (DecisionKind.START, DecisionKind.MIGRATE) and decision.target_site:
                self._take(decision.target_site)
        for job in sorted(view.jobs.values(), key=lambda one: (one.submitted_at, one.job_id)):
            if job.site_id is not None:
                self.resident.setdefault(job.site_id, []).append(job)
            if job.phase is Phase.QUEUED and job.slack_s is not None and (where := self._where(job)):
                self.queued.setdefault(where, []).append(job)

    def site(self, site: SiteView) -> OfferingSite:
        """Return one site as offers see it."""
        live = self.plan.live[site.site_id]
        sample = self._sample(live)
        known = self.plan.state.sites.get(site.site_id)
        capabilities = known.capabilities if known is not None else None
        here = self.resident.get(site.site_id, [])
        running = [job for job in here if self._stays(job)]
        others = [job for job in here if self._may_draw(job) and not self._stays(job)]
        paused = [job for job in here if job.phase is Phase.PAUSED]
        return OfferingSite(
            site_id=site.site_id,
            blocked=self._blocked(site, live),
            import_w=sample.grid_w if sample is not None else None,
            compute_w=sample.compute_w if sample is not None else None,
            idle_w=capabilities.idle_power_w if capabilities is not None else 0.0,
            limit_w=live.grid_status.limit_w if live.grid_status is not None else None,
            running=self._movable([self._job(job) for job in running]),
            others_w=sum(job.power_w for job in others),
            waiting=tuple(self._job(job) for job in (*paused, *self.queued.get(site.site_id, ()))),
        )

    def _blocked(self, site: SiteView, live: LiveSite) -> str:
        if site.draining:
            return "the site is draining"
        if site.wants_to_shed:
            return "the site asks for jobs to be moved away"
        return why_blocked(live.grid_status)

    def _sample(self, live: LiveSite) -> SiteSample | None:
        sample = live.sample
        if sample is None or sample.quality not in MEASURED:
            return None
        age_s = (self.plan.view.now - sample.measured_at).total_seconds()
        return sample if age_s <= self.stale_s else None

    def _stays(self, job: JobView) -> bool:
        decision = self.decided.get(job.job_id)
        leaves = decision is not None and decision.kind in _LEAVING
        return job.phase is Phase.RUNNING and self._state(job) is JobState.RUNNING and not leaves

    def _may_draw(self, job: JobView) -> bool:
        return job.phase not in (Phase.QUEUED, Phase.PAUSED) and self._state(job) is not JobState.PAUSED

    def _state(self, job: JobView) -> JobState:
        return self.plan.state.jobs[job.job_id].state

    def _job(self, view: JobView) -> OfferingJob:
        job = self.plan.state.jobs[view.job_id]
        report = report_of(self.plan.live, job.owner_site, job.job_id)
        if report is not None and (job.grant is None or report.epoch != job.grant.epoch):
            report = None
        return OfferingJob(
            job_id=job.job_id,
            power_w=view.power_w,
            flexibility=job.spec.flexibility,
            slack_s=view.spare_s,
            unsaved_s=_unsaved_s(job, self.plan.view.now),
            steps_at_risk=_steps_at_risk(report),
        )

    def _movable(self, jobs: list[OfferingJob]) -> tuple[OfferingJob, ...]:
        """Find a place elsewhere for each, those first that give way first; a slot goes to one of them."""
        return tuple(replace(job, move=self._away(job.job_id)) for job in sorted(jobs, key=shed_order))

    def _away(self, job_id: str) -> MoveAway | None:
        view, decision = self.plan.view.jobs[job_id], self.decided.get(job_id)
        if decision is None or not view.may_migrate:
            return None
        places = (_move_of(one) for one in decision.alternatives if self._fits(one, view.site_id))
        best = min((one for one in places if one is not None), key=_by_downtime, default=None)
        if best is not None:
            self._take(best.site_id)
        return best

    def _fits(self, place: Alternative, home: str | None) -> bool:
        return place.feasible and place.site_id != home and self.free.get(place.site_id, 0) > 0

    def _where(self, job: JobView) -> str | None:
        """Return where a job that is held back could start: at home if it can; None: nowhere now."""
        decision = self.decided.get(job.job_id)
        if decision is None or decision.kind is not DecisionKind.WAIT:
            return None
        places = [one.site_id for one in decision.alternatives if self._fits(one, None)]
        chosen = min(places, key=lambda site_id: (site_id != job.home_site, site_id), default=None)
        if chosen is not None:
            self._take(chosen)
        return chosen

    def _take(self, site_id: str) -> None:
        self.free[site_id] = self.free.get(site_id, 0) - 1


def _by_downtime(move: MoveAway) -> tuple[float, str]:
    return (move.downtime_s, move.site_id)


def _move_of(place: Alternative) -> MoveAway | None:
    figures = {term.name: term.value for term in place.terms}
    if "time" not in figures:
        return None
    return MoveAway(site_id=place.site_id, downtime_s=figures["time"], extra_wh=figures.get("energy", 0.0))


def _unsaved_s(job: Job, now: datetime) -> float | None:
    saved = job.checkpoint
    return None if saved is None else max(0.0, (now - saved.sealed_at).total_seconds())


def _steps_at_risk(report: JobReport | None) -> int | None:
    if report is None or report.step is None:
        return None
    saved = newest(report.checkpoints)
    return max(0, report.step - (saved.step if saved is not None else 0))
