"""The fleet as the planner sees it, from what is stored and what is live. Pure.

Here it is decided what counts as known: a sample that is too old or not of OK quality is no surplus.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from coordinator.core.coming import carried_to, slots_promised
from coordinator.core.deadlines import deadline_slack_s, ran_s
from coordinator.core.declared import declared_at, declared_w, surplus_of
from coordinator.core.endings import holders_of
from coordinator.core.firming import with_batteries
from coordinator.core.import_costs import import_cost
from coordinator.core.migration import BEFORE_COMMIT
from coordinator.core.windows import site_curve, window
from coordinator.model.fleet import FleetState, Job, JobState, Site
from coordinator.model.forecast import SurplusForecast
from coordinator.model.import_cost import Objective
from coordinator.model.job import Flexibility
from coordinator.model.links import LinkTable
from coordinator.model.live import Live, LiveSite, report_of
from coordinator.model.site import MEASURED, ActiveLimit, SiteSample, is_emergency
from coordinator.model.view import FleetView, JobView, Phase, SiteView

_PACED = frozenset({Phase.QUEUED, Phase.RUNNING, Phase.PAUSED})
"""Phases in which a job runs by the next tick if the plan says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSettings:
    """What jobs and links are taken for until they are measured.

    Parameters
    ----------
    seal_s, load_s, downtime_s : float
        Stop to durable seal, process start to first step, and what a move costs besides, in seconds.
    min_residence_s : float
        Shortest stay before a voluntary move, for jobs that state none.
    stale_s : float
        Age beyond which a sample says nothing any more.
    move_request_s : float
        How long a site's request to move a job away stands.
    eta : float
        The planner's goodput efficiency: measured goodput is divided by it, so that it counts once.
    default_bps : float or None
        Rate of the links that `link_bps` does not name; None: there is no such link.
    link_bps : mapping
        Rate of directed links in bit/s.
    sites : frozenset of str
        Sites that are shown even before they were ever heard of.
    hold_back_s : float or None
        A job that declares its work, and no deadline of its own, may stand still for as long as that and so
        much more, in seconds; None: no job is held back.
    least_run_s : float
        A job that began to run, or goes on, is not paused for surplus before it has run so long.
    objective : Objective
        What is to be saved.
    cost_per_kwh : mapping
        By site, what import costs by that objective where its operator does not tell.
    """

    seal_s: float = 30.0
    load_s: float = 30.0
    downtime_s: float = 0.0
    min_residence_s: float = 0.0
    stale_s: float = 30.0
    move_request_s: float = 600.0
    eta: float = 1.0
    default_bps: float | None = None
    link_bps: Mapping[tuple[str, str], float] = field(default_factory=dict)
    sites: frozenset[str] = frozenset()
    hold_back_s: float | None = None
    least_run_s: float = 0.0
    objective: Objective = Objective.ENERGY
    cost_per_kwh: Mapping[str, float] = field(default_factory=dict)


def build_view(
    state: FleetState,
    live: Live,
    forecasts: Mapping[str, SurplusForecast | None],
    now: datetime,
    settings: ViewSettings,
) -> FleetView:
    """Return the view of one instant.

    Parameters
    ----------
    state : FleetState
        What is stored.
    live : Live
        What the sites said since the coordinator started.
    forecasts : mapping of site to SurplusForecast or None
        What is believed of each site's future.
    now : datetime
        The instant.
    settings : ViewSettings
        Defaults and bounds.
    """
    sites = with_batteries(site_views(state, live, forecasts, now, settings), state, live, now)
    jobs = {
        job_id: _on_its_way(
            _paced(
                _held_back(job_view(state, job, settings, _phase(job, live)), job, sites, now, settings),
                job,
                state,
                live,
            ),
            carried_to(job, live),
        )
        for job_id, job in state.jobs.items()
        if not job.ended
    }
    return FleetView(now=now, sites=sites, jobs=jobs, links=_links(state, settings))


def site_views(
    state: FleetState,
    live: Live,
    forecasts: Mapping[str, SurplusForecast | None],
    now: datetime,
    settings: ViewSettings,
) -> dict[str, SiteView]:
    """Return the sites of the view of one instant; of arguments as `build_view` has them."""
    held = _slots_held(state)
    return {
        site_id: _site(
            state,
            site_id,
            live.get(site_id, LiveSite()),
            held=held[site_id] + slots_promised(state, live, site_id),
            forecast=forecasts.get(site_id),
            now=now,
            settings=settings,
        )
        for site_id in sorted({*state.sites, *settings.sites})
    }


def slots_held(state: FleetState, site_id: str) -> int:
    """Return the slots that jobs and reservations hold at a site."""
    return _slots_held(state)[site_id]


def _slots_held(state: FleetState) -> Counter[str | None]:
    """Return them for every site: a thousand sites, each asking ten thousand jobs, take seconds."""
    held = Counter(job.owner_site for job in state.jobs.values() if not job.ended)
    held.update(one.destination_site for one in state.migrations.values() if one.state in BEFORE_COMMIT)
    return held


def fresh_sample(live: LiveSite, now: datetime, stale_s: float) -> SiteSample | None:
    """Return the site's newest sample, unless it is too old or the site is silent."""
    sample = live.sample
    if sample is None or not live.connected:
        return None
    return sample if (now - sample.measured_at).total_seconds() <= stale_s else None


def wants_away(live: LiveSite, job: Job) -> bool:
    """Tell whether the site has asked for this job, as granted now, to be moved away."""
    request = live.move_requests.get(job.job_id)
    return request is not None and job.grant is not None and request.epoch == job.grant.epoch


def _site(
    state: FleetState,
    site_id: str,
    live: LiveSite,
    *,
    held: int,
    forecast: SurplusForecast | None,
    now: datetime,
    settings: ViewSettings,
) -> SiteView:
    site = state.sites.get(site_id, Site(site_id=site_id))
    sample = fresh_sample(live, now, settings.stale_s)
    surplus_w, believed = surplus_of(sample, declared_w(declared_at(live), now))
    asked = (state.jobs.get(job_id) for job_id in live.move_requests)
    shedding = any(job is not None and job.owner_site == site_id and wants_away(live, job) for job in asked)
    return SiteView(
        site_id=site_id,
        available=live.connected and not site.draining and not site.fenced,
        draining=site.draining,
        slots=site.capabilities.slots if site.capabilities is not None else 0,
        slots_held=held,
        surplus_w=surplus_w,
        surplus_quality_ok=believed,
        compute_w=sample.compute_w if sample is not None else None,
        forecast=forecast,
        limits=limits_at(live),
        emergency=any(limit.start_at <= now and is_emergency(limit) for limit in limits_at(live)),
        others_w=_others_w(sample, site),
        site_load_w=sample.site_load_w if sample is not None else None,
        generation_w=sample.generation_w if sample is not None else None,
        wants_to_shed=shedding,
        container_engines=site.capabilities.container_engines if site.capabilities is not None else (),
        container_mounts=site.capabilities.container_mounts if site.capabilities is not None else (),
        import_cost=import_cost(
            settings.objective, live.grid_status, settings.cost_per_kwh.get(site_id), now
        ),
    )


def limits_at(live: LiveSite) -> tuple[ActiveLimit, ...]:
    """Return the limits of the import that a site has told of, those that are known to come included."""
    status = live.grid_status
    return () if status is None else status.limits + status.coming


def _others_w(sample: SiteSample | None, site: Site) -> float | None:
    """Return what a site would import if no job ran there; None: not measured."""
    if sample is None or sample.quality not in MEASURED or sample.grid_w is None or sample.compute_w is None:
        return None
    idle_w = site.capabilities.idle_power_w if site.capabilities is not None else 0.0
    return sample.grid_w - sample.compute_w + idle_w


def _phase(job: Job, live: Live) -> Phase:
    if job.migration_id is not None:
        return Phase.MIGRATING
    if job.cancelling:
        return Phase.HELD
    if job.state is JobState.QUEUED:
        return Phase.QUEUED
    owner = live.get(job.owner_site or "", LiveSite())
    if not owner.connected:
        return Phase.HELD
    if job.state is JobState.PAUSED and _is_held(job, live) and not wants_away(owner, job):
        return Phase.PAUSED
    # A job that its site paused for a limit, or wants to be rid of, is to be moved like one that runs.
    limited = owner.grid_status is not None and owner.grid_status.limit_w is not None
    may_leave = job.state is JobState.PAUSED and (limited or wants_away(owner, job))
    return Phase.RUNNING if job.state is JobState.RUNNING or may_leave else Phase.HELD


def job_view(state: FleetState, job: Job, settings: ViewSettings, phase: Phase = Phase.RUNNING) -> JobView:
    """Return what is known of a job, declared figures where none were measured."""
    spec, migration = job.spec, state.migration_of(job)
    known = job.checkpoint
    size_bytes = known.size_bytes if known is not None else spec.checkpoint_bytes or None
    declared_load_s = spec.load_s if spec.load_s is not None else settings.load_s
    return JobView(
        job_id=job.job_id,
        phase=phase,
        site_id=job.owner_site,
        home_site=spec.home_site or None,
        power_w=spec.power_w,
        checkpoint_bytes=size_bytes,
        stop_bytes=_stop_bytes(job, size_bytes),
        seal_s=job.seal_s if job.seal_s is not None else settings.seal_s,
        load_s=job.load_s if job.load_s is not None else declared_load_s,
        downtime_s=settings.downtime_s,
        may_migrate=spec.may_migrate,
        submitted_at=job.submitted_at,
        resident_since=job.resident_since,
        min_residence_s=spec.min_residence_s
        if spec.min_residence_s is not None
        else settings.min_residence_s,
        held_at=holders_of(state, job),
        must_start_at_holder=job.sealed_once,
        declared_work_s=spec.declared_work_s,
        progressed_s=job.run_s,
        bound_for=migration.destination_site if migration is not None else None,
        container=spec.container,
    )


def _is_held(job: Job, live: Live) -> bool:
    """Tell whether it is the plan that has paused a job, by the word of its site."""
    report = report_of(live, job.owner_site, job.job_id)
    mine = report is not None and job.grant is not None and report.epoch == job.grant.epoch
    paused = report is not None and report.held_until is not None and report.slowed_to_w is None
    return mine and paused


def _paced(view: JobView, job: Job, state: FleetState, live: Live) -> JobView:
    """Say how far a job may be slowed where it is, or would start, and what the plan has it draw now."""
    spec, site = job.spec, state.sites.get(view.site_id or "")
    if spec.slow is None or view.phase not in _PACED:
        return view
    able = view.phase is Phase.QUEUED or (
        site is not None and site.capabilities is not None and site.capabilities.can_slow
    )
    slow = spec.slow if able and spec.flexibility is not Flexibility.FLEX_0 else None
    if job.state is not JobState.RUNNING:
        return replace(view, slow=slow)
    report = report_of(live, view.site_id, job.job_id)
    mine = report is not None and job.grant is not None and report.epoch == job.grant.epoch
    return replace(view, slow=slow, slowed_to_w=report.slowed_to_w if mine and report is not None else None)


def _held_back(
    view: JobView, job: Job, sites: Mapping[str, SiteView], now: datetime, settings: ViewSettings
) -> JobView:
    """Say how long a job may still stand still, and whether it may be paused where it runs."""
    slack_s, to_deadline_s = _slack_s(job, now, settings), deadline_slack_s(job, now)
    may_pause = view.phase is Phase.PAUSED or _may_pause(view, job, sites, now, settings)
    if slack_s is None and to_deadline_s is None and not may_pause:
        return view
    return replace(view, slack_s=slack_s, deadline_slack_s=to_deadline_s, may_pause=may_pause)


def _on_its_way(view: JobView, coming_to: str | None) -> JobView:
    return view if coming_to is None else replace(view, coming_to=coming_to)


def _may_pause(
    view: JobView, job: Job, sites: Mapping[str, SiteView], now: datetime, settings: ViewSettings
) -> bool:
    """Tell whether a job that runs may be paused for want of surplus: not while that is not known."""
    site = sites.get(view.site_id or "")
    if view.phase is not Phase.RUNNING or job.state is not JobState.RUNNING or site is None:
        return False
    if settings.hold_back_s is None or job.spec.flexibility is Flexibility.FLEX_0:
        return False
    ran_s = (now - job.running_since).total_seconds() if job.running_since is not None else 0.0
    return site.known_surplus_w is not None and ran_s >= settings.least_run_s


def _slack_s(job: Job, now: datetime, settings: ViewSettings) -> float | None:
    """Return how long a job may still stand still; None: not at all, or nobody says how long it takes."""
    work_s = job.spec.declared_work_s
    if settings.hold_back_s is None or work_s is None:
        return None
    own_s = deadline_slack_s(job, now)
    if own_s is not None:
        return own_s
    stood_s = (now - job.submitted_at).total_seconds() - ran_s(job, now)
    return settings.hold_back_s + work_s - max(0.0, stood_s)


def _links(state: FleetState, settings: ViewSettings) -> LinkTable:
    """Return what `link_rate_bps` tells of all pairs, at once: a thousand sites have a million of them."""
    names = sorted(state.sites)
    places = {name: place for place, name in enumerate(names)}
    default = math.nan if settings.default_bps is None else settings.default_bps
    rates = np.full((len(names), len(names)), default)
    named = {pair for pair in (*settings.link_bps, *state.links) if set(pair) <= places.keys()}
    for source, destination in named:
        rate_bps = link_rate_bps(state, source, destination, settings)
        rates[places[source], places[destination]] = math.nan if rate_bps is None else rate_bps
    dialled = np.array([_is_dialled(state, name) for name in names], dtype=np.bool_)
    rates[~(dialled[:, None] | dialled)] = math.nan
    np.fill_diagonal(rates, math.nan)
    reserved: dict[tuple[str, str], float] = {}
    for migration in state.migrations.values():
        if migration.state in BEFORE_COMMIT and migration.reserved_bps is not None:
            pair = (migration.source_site, migration.destination_site)
            reserved[pair] = reserved.get(pair, 0.0) + migration.reserved_bps
    free = np.array(rates)
    for pair, reserved_bps in reserved.items():
        if set(pair) <= places.keys():
            free[places[pair[0]], places[pair[1]]] -= reserved_bps
    return LinkTable(names, np.maximum(free, 0.0), rates)


def link_rate_bps(state: FleetState, source: str, destination: str, settings: ViewSettings) -> float | None:
    """Return the rate of a link: as measured, but not above what is configured; None: no link."""
    configured = settings.link_bps.get((source, destination), settings.default_bps)
    if configured is None:
        return None
    measured = state.links.get((source, destination))
    return configured if measured is None else min(configured, measured.goodput_bps / settings.eta)


def can_meet(state: FleetState, source: str, destination: str) -> bool:
    """Tell whether one of two sites can be dialled; until both said Hello it is not known."""
    return _is_dialled(state, source) or _is_dialled(state, destination)


def _is_dialled(state: FleetState, site_id: str) -> bool:
    end = state.sites[site_id].capabilities
    return end is not None and bool(end.checkpoint_address)


def open_windows(sites: Mapping[str, SiteView], now: datetime) -> Mapping[str, datetime]:
    """Return when the renewable window ends at each site that has surplus now."""
    ends: dict[str, datetime] = {}
    for site_id, site in sites.items():
        # Any surplus at all: operators see the site's window, whatever a single job needs.
        found = window(site_curve(now, site), need_w=1.0)
        if found is not None and found.start_at <= now:
            ends[site_id] = found.end_at
    return ends


def _stop_bytes(job: Job, size_bytes: int | None) -> int | None:
    """Expect S_effective by the share of the checkpoint that crossed at the stop of the job's last move."""
    if size_bytes is None or job.sent_frac is None:
        return None
    return max(1, round(size_bytes * min(1.0, job.sent_frac)))
