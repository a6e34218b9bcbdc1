"""The policy `energy-only`: jobs follow the surplus whenever there is some, whatever a move takes.

The comparison of the feasibility paper: it looks at watts now, not at checkpoints, links or how long a
window lasts. Where it can carry a checkpoint at all, it moves.
"""

from coordinator.core.bookings import Bookings
from coordinator.core.leaving import VOLUNTARY, how_urgent
from coordinator.core.policy import PlannerSettings
from coordinator.core.starting import (
    HELD_REASONS,
    arrival_rejections,
    jobs_in_start_order,
    leave_alone,
    sites_in_order,
    slots_term,
    start_rejections,
)
from coordinator.core.staying import resident_s
from coordinator.model.decision import Alternative, Decision, DecisionKind, Term
from coordinator.model.view import FleetView, JobView, Phase, SiteView

_NAME = "energy-only"


class EnergyOnlyPolicy:
    """Follow the surplus, feasible or not."""

    @property
    def name(self) -> str:
        """Return ``energy-only``."""
        return _NAME

    def decide(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Start at home, else where most surplus is left; move what the surplus no longer covers.

        The job that came last goes first, since surplus is allotted to the longest resident; each takes
        the site with most surplus left that covers it.
        """
        return self._plan(view, settings, tells=True)

    def act(self, view: FleetView, settings: PlannerSettings) -> tuple[Decision, ...]:
        """Start and move as `decide` does, and say no more than that; see `BriefPolicy.act`."""
        changing = (DecisionKind.START, DecisionKind.MIGRATE)
        return tuple(one for one in self._plan(view, settings, tells=False) if one.kind in changing)

    def _plan(self, view: FleetView, settings: PlannerSettings, *, tells: bool) -> tuple[Decision, ...]:
        tick = _Tick(view, settings, tells=tells)
        decisions = [tick.start(job) for job in jobs_in_start_order(view)]
        for job in sorted(view.jobs.values(), key=_latest_first):
            if job.phase is Phase.RUNNING and job.site_id in view.sites:
                decisions.append(tick.move(job))
            elif tells and job.phase is not Phase.QUEUED:
                reason = HELD_REASONS.get(job.phase, "its site is not known")
                decisions.append(leave_alone(job, view, tick.bookings, _NAME, reason))
        return tuple(sorted(decisions, key=lambda decision: decision.job_id))


class _Tick:
    """One look at the fleet. `tells` False: no decision names its alternatives."""

    def __init__(self, view: FleetView, settings: PlannerSettings, *, tells: bool) -> None:
        self._tells = tells
        self._view = view
        self._settings = settings
        self._sites = sites_in_order(view)
        self.bookings = Bookings(view)

    def start(self, job: JobView) -> Decision:
        found = {site.site_id: start_rejections(job, site, self.bookings) for site in self._sites}
        open_sites = [site for site in self._sites if not found[site.site_id]]
        target = max(
            open_sites, key=lambda site: (site.site_id == job.home_site, self._left_w(site)), default=None
        )
        told = self._told(job, found, target)
        if target is None:
            return self._decision(job, DecisionKind.WAIT, None, "no site may take it now", told)
        self.bookings.start(job, target.site_id)
        at_home = target.site_id == job.home_site
        reason = f"starts at {target.site_id}, {'its home' if at_home else 'where most surplus is left'}"
        return self._decision(job, DecisionKind.START, target, reason, told)

    def move(self, job: JobView) -> Decision:
        here = self._view.sites[job.site_id or ""]
        need_w = self.bookings.need_here_w(job)
        demanded = how_urgent(here, self.bookings) != VOLUNTARY
        if not demanded and need_w <= _surplus_w(here):
            return self._stay(job, here, "the surplus here covers it")
        found = {site.site_id: self._move_rejections(job, site) for site in self._sites}
        open_sites = [site for site in self._sites if not found[site.site_id]]
        target = max(open_sites, key=self._left_w, default=None)
        here_s = resident_s(job, self._view.now)
        least_s = max(job.min_residence_s, self._settings.min_residence_s)
        if target is None:
            return self._stay(job, here, "no surplus here covers it, and no site with surplus can take it")
        if not demanded and here_s < least_s:
            return self._stay(job, here, f"resident for {here_s:.1f} s of at least {least_s:.1f} s")
        told = self._told(job, found, target)
        # No rate is asked for: its transfers share the links with whatever else uses them.
        self.bookings.move(job, target.site_id, 0.0)
        why = "must leave" if demanded else "no surplus here covers it"
        return self._decision(
            job,
            DecisionKind.MIGRATE,
            target,
            f"{why}; most is left at {target.site_id}",
            told,
        )

    def _move_rejections(self, job: JobView, site: SiteView) -> tuple[str, ...]:
        if site.site_id == job.site_id:
            return ("the surplus here does not cover it",)
        reasons = list(arrival_rejections(job, site, self.bookings))
        if not job.may_migrate:
            reasons.append("the job may not migrate")
        if not job.checkpoint_bytes:
            reasons.append("the size of its checkpoint is not known")
        if not (self.bookings.free_bps(job.site_id or "", site.site_id) or 0.0) > 0.0:
            reasons.append("no link there is free")
        left_w = self._left_w(site)
        if site.known_surplus_w is None or left_w < job.power_w:
            reasons.append(f"{max(0.0, left_w):.0f} W of surplus are left, {job.power_w:.0f} W are needed")
        return tuple(reasons)

    def _stay(self, job: JobView, here: SiteView, reason: str) -> Decision:
        told = self._told(job, {site.site_id: (reason,) for site in self._sites}, here)
        return self._decision(job, DecisionKind.STAY, here, reason, told)

    def _told(
        self, job: JobView, found: dict[str, tuple[str, ...]], target: SiteView | None
    ) -> tuple[Alternative, ...]:
        if not self._tells:
            return ()
        chosen = target.site_id if target is not None else None
        return tuple(
            Alternative(
                site_id=site.site_id,
                feasible=not found[site.site_id] or site.site_id == chosen,
                score=self._left_w(site),
                terms=self._terms(job, site),
                rejections=()
                if site.site_id == chosen
                else found[site.site_id] or (f"{chosen} has as much surplus left, or is its home",),
            )
            for site in self._sites
        )

    def _terms(self, job: JobView, site: SiteView) -> tuple[Term, ...]:
        left_w = self._left_w(site)
        enough = left_w >= job.power_w
        remedy = "" if enough else f"{job.power_w - left_w:.0f} W more surplus"
        return (
            slots_term(self.bookings.free_slots(site.site_id)),
            Term(
                name="surplus",
                value=max(0.0, left_w),
                limit=job.power_w,
                unit="W",
                satisfied=enough,
                remedy=remedy,
            ),
            *self.bookings.limit_terms(job, site.site_id),
        )

    def _left_w(self, site: SiteView) -> float:
        """Return the surplus that the jobs there, and those bound for it, leave; below 0: they lack some."""
        return _surplus_w(site) - self.bookings.draw_w(site.site_id)

    def _decision(
        self,
        job: JobView,
        kind: DecisionKind,
        target: SiteView | None,
        reason: str,
        told: tuple[Alternative, ...],
    ) -> Decision:
        return Decision(
            job_id=job.job_id,
            decided_at=self._view.now,
            policy=_NAME,
            kind=kind,
            source_site=job.site_id,
            target_site=target.site_id if target is not None else None,
            reason=reason,
            alternatives=told,
        )


def _surplus_w(site: SiteView) -> float:
    return site.known_surplus_w or 0.0


def _latest_first(job: JobView) -> tuple[bool, float, str]:
    since = job.resident_since
    return (not job.may_migrate, -since.timestamp() if since is not None else 0.0, job.job_id)
