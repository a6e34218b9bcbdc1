"""The fold: fleet state and one event to the next fleet state.

It holds what no event may break: epochs strictly increase, a job has at most one active migration, and an
ended job stays ended. It decides nothing; whoever makes events does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from coordinator.core.migration import advance
from coordinator.model import events as ev
from coordinator.model.fleet import (
    FleetState,
    Grant,
    Job,
    JobState,
    LinkGoodput,
    Migration,
    MigrationState,
    Site,
)
from sterna.errors import IllegalTransitionError

GOODPUT_WEIGHT = 0.3
"""Weight of the newest transfer in a link's mean goodput."""

THROTTLED_FRAC = 0.9
"""A transfer that reached this share of its allotment was held back by the allotment."""

K = TypeVar("K")
V = TypeVar("V")


def apply(state: FleetState, event: ev.Event) -> FleetState:
    """Return the state after one event.

    Raises
    ------
    IllegalTransitionError
        The event contradicts the state; nothing changes.
    """
    match event:
        case ev.SiteSeen() | ev.SiteDrained() | ev.SiteResumed() | ev.SiteFenced():
            return _site_changed(state, event)
        case ev.LinkMeasured():
            return _link_measured(state, event)
        case (
            ev.MigrationPlanned()
            | ev.MigrationAdvanced()
            | ev.MigrationSentAhead()
            | ev.MigrationSealed()
            | ev.MigrationCommitted()
            | ev.MigrationFailed()
        ):
            return _apply_to_migration(state, event)
        case _:
            return _apply_to_job(state, event)


def fold(events: Iterable[ev.Event], state: FleetState | None = None) -> FleetState:
    """Return the state after all events, from an empty fleet or from `state`."""
    state = FleetState() if state is None else state
    for event in events:
        state = apply(state, event)
    return state


def _apply_to_migration(state: FleetState, event: ev.Event) -> FleetState:
    match event:
        case ev.MigrationPlanned():
            return _planned(state, event)
        case ev.MigrationAdvanced():
            return _migration_advanced(state, event)
        case ev.MigrationSentAhead():
            return _migration_sent_ahead(state, event)
        case ev.MigrationSealed():
            return _migration_sealed(state, event)
        case ev.MigrationCommitted():
            return _migration_committed(state, event)
        case ev.MigrationFailed():
            return _migration_failed(state, event)
        case _:
            raise AssertionError(event)


def _apply_to_job(state: FleetState, event: ev.Event) -> FleetState:  # noqa: PLR0911 - one line an event
    match event:
        case ev.JobSubmitted():
            return _submitted(state, event)
        case ev.JobGranted():
            return _job_granted(state, event)
        case ev.JobPhaseChanged():
            return _phase_changed(state, event)
        case ev.JobWithdrawn():
            return _withdrawn(state, event)
        case ev.JobRequeued():
            return _requeued(state, event)
        case ev.JobStartFailed():
            return _start_failed(state, event)
        case ev.JobMeasured():
            return _measured(state, event)
        case ev.CheckpointSealed():
            return _checkpoints(state, event)
        case ev.CancelRequested():
            return _cancelling(state, event)
        case ev.JobEnded():
            return _ended(state, event)
        case ev.EpochAdopted():
            return _adopted(state, event)
        case _:
            raise AssertionError(event)


def _put(entries: Mapping[K, V], key: K, value: V) -> dict[K, V]:
    return {**entries, key: value}


def _job(state: FleetState, job_id: str) -> Job:
    job = state.jobs.get(job_id)
    if job is None:
        raise IllegalTransitionError(f"job {job_id}: unknown")
    if job.ended:
        raise IllegalTransitionError(f"job {job_id}: has ended as {job.state.value}")
    return job


def _with_job(state: FleetState, job: Job) -> FleetState:
    return replace(state, jobs=_put(state.jobs, job.job_id, job))


def _raised(job: Job, epoch: int) -> int:
    if epoch <= job.epoch:
        raise IllegalTransitionError(f"job {job.job_id}: epoch {epoch} is not above {job.epoch}")
    return epoch


def _halted(job: Job, at: datetime) -> Job:
    """Close the account of running time."""
    if job.running_since is None:
        return job
    run_s = job.run_s + job.speed_frac * max(0.0, (at - job.running_since).total_seconds())
    return replace(job, run_s=run_s, running_since=None)


def _granted(job: Job, grant: Grant) -> Job:
    moved = job.grant is None or job.grant.site_id != grant.site_id
    return replace(
        _halted(job, grant.granted_at),
        state=JobState.STARTING,
        epoch=_raised(job, grant.epoch),
        grant=grant,
        lost_sites=frozenset(),
        resident_since=grant.granted_at if moved else job.resident_since,
        message="",
    )


def _submitted(state: FleetState, event: ev.JobSubmitted) -> FleetState:
    if event.job_id in state.jobs:
        raise IllegalTransitionError(f"job {event.job_id}: submitted twice")
    job = Job(job_id=event.job_id, spec=event.spec, state=JobState.QUEUED, submitted_at=event.at)
    return _with_job(state, job)


def _job_granted(state: FleetState, event: ev.JobGranted) -> FleetState:
    job = _job(state, event.job_id)
    if job.migration_id is not None or job.state is not JobState.QUEUED:
        raise IllegalTransitionError(f"job {job.job_id}: granted while {job.state.value}")
    grant = Grant(
        site_id=event.site_id,
        epoch=event.epoch,
        checkpoint_id=event.checkpoint_id,
        granted_at=event.at,
        lease_ttl_s=event.lease_ttl_s,
    )
    return _with_job(state, _granted(job, grant))


def _phase_changed(state: FleetState, event: ev.JobPhaseChanged) -> FleetState:
    job = _job(state, event.job_id)
    if job.grant is None:
        raise IllegalTransitionError(f"job {job.job_id}: {event.state.value} without a grant")
    job = replace(_halted(job, event.at), state=event.state, speed_frac=event.speed_frac)
    if event.state is JobState.RUNNING:
        started_at = job.started_at or event.at
        job = replace(job, running_since=event.at, started_at=started_at, message="")
    return _with_job(state, job)


def _withdrawn(state: FleetState, event: ev.JobWithdrawn) -> FleetState:
    job = _job(state, event.job_id)
    if job.grant is None or job.migration_id is not None:
        raise IllegalTransitionError(f"job {job.job_id}: nothing to withdraw")
    epoch = _raised(job, event.epoch)
    grant = replace(job.grant, epoch=epoch, granted_at=event.at)
    job = replace(_halted(job, event.at), state=JobState.WITHDRAWING, epoch=epoch, grant=grant)
    return _with_job(state, replace(job, message=event.message))


def _requeued(state: FleetState, event: ev.JobRequeued) -> FleetState:
    job = _job(state, event.job_id)
    if job.migration_id is not None:
        raise IllegalTransitionError(f"job {job.job_id}: requeued while it is moved")
    job = replace(
        _halted(job, event.at),
        lost_sites=job.lost_sites if event.lost_site is None else job.lost_sites | {event.lost_site},
        state=JobState.QUEUED,
        epoch=_raised(job, event.epoch),
        grant=None,
        resident_since=None,
        message=event.message,
    )
    return _with_job(state, job)


def _start_failed(state: FleetState, event: ev.JobStartFailed) -> FleetState:
    job = _job(state, event.job_id)
    if job.grant is None:
        raise IllegalTransitionError(f"job {job.job_id}: failed to start without a grant")
    grant = replace(job.grant, epoch=event.epoch, granted_at=event.at)
    job = replace(_granted(job, grant), failed_starts=job.failed_starts + 1, message=event.message)
    return _with_job(state, job)


def _measured(state: FleetState, event: ev.JobMeasured) -> FleetState:
    job = _job(state, event.job_id)
    seal_s = job.seal_s if event.seal_s is None else event.seal_s
    load_s = job.load_s if event.load_s is None else event.load_s
    sent_frac = job.sent_frac if event.sent_frac is None else event.sent_frac
    return _with_job(state, replace(job, seal_s=seal_s, load_s=load_s, sent_frac=sent_frac))


def _checkpoints(state: FleetState, event: ev.CheckpointSealed) -> FleetState:
    job = state.jobs.get(event.job_id)
    if job is None:
        raise IllegalTransitionError(f"job {event.job_id}: unknown")
    sealed_once = job.sealed_once or bool(event.checkpoints)
    copies = _put(job.copies, event.site_id, event.checkpoints)
    lost_sites = job.lost_sites - {event.site_id}
    return _with_job(state, replace(job, copies=copies, sealed_once=sealed_once, lost_sites=lost_sites))


def _cancelling(state: FleetState, event: ev.CancelRequested) -> FleetState:
    return _with_job(state, replace(_job(state, event.job_id), cancelling=True))


def _ended(state: FleetState, event: ev.JobEnded) -> FleetState:
    job = _job(state, event.job_id)
    if job.migration_id is not None:
        raise IllegalTransitionError(f"job {job.job_id}: ended while it is moved")
    job = replace(_halted(job, event.at), state=event.state, ended_at=event.at, message=event.message)
    return _with_job(state, replace(job, grant=None))


def _adopted(state: FleetState, event: ev.EpochAdopted) -> FleetState:
    job = _job(state, event.job_id)
    epoch = _raised(job, event.epoch)
    if event.owner is None:
        return _with_job(state, replace(job, epoch=epoch))
    if job.migration_id is not None:
        raise IllegalTransitionError(f"job {job.job_id}: owner adopted while it is moved")
    grant = Grant(
        site_id=event.owner,
        epoch=event.epoch,
        checkpoint_id=None,
        granted_at=event.at,
        lease_ttl_s=event.lease_ttl_s,
    )
    return _with_job(state, _granted(job, grant))


def _planned(state: FleetState, event: ev.MigrationPlanned) -> FleetState:
    job = _job(state, event.job_id)
    if job.grant is None or job.migration_id is not None or event.migration_id in state.migrations:
        raise IllegalTransitionError(f"job {job.job_id}: cannot be moved now")
    migration = Migration(
        migration_id=event.migration_id,
        job_id=job.job_id,
        source_site=job.grant.site_id,
        destination_site=event.destination_site,
        state=MigrationState.PLANNED,
        epoch=job.grant.epoch,
        planned_at=event.at,
        reason=event.reason,
        predicted_s=event.predicted_s,
        reserved_bps=event.reserved_bps,
        window_end_at=event.window_end_at,
    )
    state = replace(state, migrations=_put(state.migrations, migration.migration_id, migration))
    return _with_job(state, replace(job, migration_id=migration.migration_id))


def _migration(state: FleetState, migration_id: str) -> Migration:
    migration = state.migrations.get(migration_id)
    if migration is None:
        raise IllegalTransitionError(f"migration {migration_id}: unknown")
    return migration


def _stepped(state: FleetState, migration: Migration, event: ev.MigrationEvent, at: datetime) -> FleetState:
    """Advance one migration; at its end its job is free of it."""
    migration = replace(migration, state=advance(migration.state, event))
    if migration.ended:
        migration = replace(migration, ended_at=at)
        job = state.jobs[migration.job_id]
        moved = event is ev.MigrationEvent.FINISH
        state = _with_job(state, replace(job, migration_id=None, migrations=job.migrations + moved))
    return replace(state, migrations=_put(state.migrations, migration.migration_id, migration))


def _migration_advanced(state: FleetState, event: ev.MigrationAdvanced) -> FleetState:
    migration = _migration(state, event.migration_id)
    if event.failure:
        migration = replace(migration, failure=event.failure)
    if event.event is ev.MigrationEvent.CONFIRM:
        migration = replace(migration, confirmed_at=event.at)
    state = _stepped(state, migration, event.event, event.at)
    migration = state.migrations[event.migration_id]
    if migration.state is not MigrationState.CONFIRMED:
        return state
    job = state.jobs[migration.job_id]
    return _with_job(state, replace(job, failed_starts=0, downtime_s=migration.downtime_s))


def _migration_sent_ahead(state: FleetState, event: ev.MigrationSentAhead) -> FleetState:
    migration = replace(_migration(state, event.migration_id), ahead=event.checkpoint)
    return _stepped(state, migration, ev.MigrationEvent.PRESTAGE, event.at)


def _migration_sealed(state: FleetState, event: ev.MigrationSealed) -> FleetState:
    stopped_at = event.at - timedelta(seconds=event.seal_s or 0.0)
    migration = _migration(state, event.migration_id)
    migration = replace(migration, checkpoint=event.checkpoint, stopped_at=stopped_at)
    return _stepped(state, migration, ev.MigrationEvent.SEAL, event.at)


def _migration_committed(state: FleetState, event: ev.MigrationCommitted) -> FleetState:
    migration = _migration(state, event.migration_id)
    state = _stepped(state, migration, ev.MigrationEvent.COMMIT, event.at)
    job = _job(state, migration.job_id)
    assert migration.checkpoint is not None  # the table leads here through SEALED alone
    grant = Grant(
        site_id=migration.destination_site,
        epoch=event.epoch,
        checkpoint_id=migration.checkpoint.checkpoint_id,
        granted_at=event.at,
        lease_ttl_s=event.lease_ttl_s,
    )
    return _with_job(state, replace(_granted(job, grant), failed_starts=0))


def _migration_failed(state: FleetState, event: ev.MigrationFailed) -> FleetState:
    migration = replace(_migration(state, event.migration_id), failure=event.failure)
    state = _stepped(state, migration, ev.MigrationEvent.FAIL, event.at)
    grant = Grant(
        site_id=migration.source_site,
        epoch=event.epoch,
        checkpoint_id=event.checkpoint_id,
        granted_at=event.at,
        lease_ttl_s=event.lease_ttl_s,
    )
    return _with_job(state, _granted(_job(state, migration.job_id), grant))


def _site_changed(
    state: FleetState, event: ev.SiteSeen | ev.SiteDrained | ev.SiteResumed | ev.SiteFenced
) -> FleetState:
    site = state.sites.get(event.site_id, Site(site_id=event.site_id))
    match event:
        case ev.SiteSeen():
            site = replace(site, capabilities=event.capabilities)
        case ev.SiteDrained():
            site = replace(site, draining=True)
        case ev.SiteResumed():
            site = replace(site, draining=False, fenced=False)
        case ev.SiteFenced():
            site = replace(site, fenced=True)
    return replace(state, sites=_put(state.sites, site.site_id, site))


def _link_measured(state: FleetState, event: ev.LinkMeasured) -> FleetState:
    key = (event.source, event.destination)
    known = state.links.get(key)
    throttled = event.allotted_bps is not None and event.goodput_bps >= THROTTLED_FRAC * event.allotted_bps
    if throttled and (known is None or event.goodput_bps <= known.goodput_bps):
        return state  # the plan was the bottleneck, not the link: it says nothing about the link
    mean_bps, samples = event.goodput_bps, 1
    if known is not None:
        mean_bps = known.goodput_bps + GOODPUT_WEIGHT * (event.goodput_bps - known.goodput_bps)
        samples = known.samples + 1
    link = LinkGoodput(
        source=event.source, destination=event.destination, goodput_bps=mean_bps, samples=samples
    )
    return replace(state, links=_put(state.links, key, link))
