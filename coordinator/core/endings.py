"""How moves fail and jobs end, requeue or lose their grant: the sequences of events that belong together.

Every function adds to a `Story` what must be recorded in one transaction.
"""

from dataclasses import dataclass
from datetime import datetime

from coordinator.core.migration import BEFORE_COMMIT
from coordinator.core.story import Story
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, Job, JobState, Migration, MigrationState
from coordinator.model.job import JobSpec, OnPartition, newest


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSettings:
    """The numbers of grants.

    Parameters
    ----------
    lease_ttl_s : float
        How long a lease runs for a job with on_partition = stop, in seconds.
    start_attempts : int
        How often a destination may fail to start a job before the job has failed.
    """

    lease_ttl_s: float = 120.0
    start_attempts: int = 3

    def ttl_s(self, spec: JobSpec) -> float | None:
        """Return the lease of a job in seconds; None: it has no end."""
        return self.lease_ttl_s if spec.on_partition is OnPartition.STOP else None


SEALED_AT_SOURCE = frozenset({MigrationState.SEALED, MigrationState.TRANSFERRING, MigrationState.VERIFIED})
"""States in which the source has stopped and nobody may run the job."""


def fail_migration(story: Story, migration: Migration, failure: str, now: datetime, s: GrantSettings) -> None:
    """Compensate: the source gets the job back, from the newest checkpoint that it is known to hold."""
    job = story.job(migration.job_id)
    if job.cancelling and migration.state in SEALED_AT_SOURCE:
        end_job(story, job.job_id, JobState.CANCELLED, "cancelled while it was moved", now)
        return
    held = newest(job.copies.get(migration.source_site, ()))
    checkpoint = held if held is not None else migration.checkpoint
    story.tell(
        ev.MigrationFailed(
            at=now,
            migration_id=migration.migration_id,
            epoch=job.epoch + 1,
            checkpoint_id=checkpoint.checkpoint_id if checkpoint is not None else None,
            lease_ttl_s=s.ttl_s(job.spec),
            failure=failure,
        )
    )


def end_job(story: Story, job_id: str, state: JobState, message: str, now: datetime) -> None:
    """End a job, and the move under it."""
    migration = story.migration_of(job_id)
    if migration is not None:
        failure = message or "the job ended first"
        story.tell(_step(migration, ev.MigrationEvent.JOB_ENDED, now, failure))
    story.tell(ev.JobEnded(at=now, job_id=job_id, state=state, message=message))


def requeue(story: Story, job_id: str, message: str, now: datetime, *, lost_site: str | None = None) -> None:
    """Void what was granted; the job waits for a site. A job that is being cancelled ends instead."""
    job = story.job(job_id)
    if job.cancelling:
        end_job(story, job_id, JobState.CANCELLED, "cancelled", now)
        return
    migration = story.migration_of(job_id)
    if migration is not None:
        story.tell(_step(migration, ev.MigrationEvent.VOIDED, now, message))
    story.tell(
        ev.JobRequeued(at=now, job_id=job_id, epoch=job.epoch + 1, message=message, lost_site=lost_site)
    )


def fence(state: FleetState, site_id: str, now: datetime, s: GrantSettings) -> tuple[ev.Event, ...]:
    """Return what an operator's FenceSite means: its grants are void, moves that hang on it end."""
    story = Story(state)
    story.tell(ev.SiteFenced(at=now, site_id=site_id))
    for job in state.jobs.values():
        if not job.ended and job.owner_site == site_id:
            requeue(story, job.job_id, f"site {site_id} was fenced", now, lost_site=site_id)
    for migration in state.migrations.values():
        # A site may be the source of one move and the destination of another; those above have ended.
        bound_here = migration.destination_site == site_id and migration.state in BEFORE_COMMIT
        if bound_here and not story.state.migrations[migration.migration_id].ended:
            fail_migration(story, migration, f"site {site_id} was fenced", now, s)
    return story.events


def _step(migration: Migration, event: ev.MigrationEvent, now: datetime, failure: str) -> ev.Event:
    return ev.MigrationAdvanced(at=now, migration_id=migration.migration_id, event=event, failure=failure)


def grant(
    state: FleetState, job_id: str, site_id: str, now: datetime, s: GrantSettings
) -> tuple[ev.Event, ...]:
    """Return the grant of a waiting job to a site, from the newest checkpoint that the site holds.

    Nothing when the job does not wait any more, or has progress that the site does not hold.
    """
    job = state.jobs.get(job_id)
    if (
        job is None
        or job.state is not JobState.QUEUED
        or job.cancelling
        or not may_start_at(state, job, site_id)
    ):
        return ()
    held = newest(job.copies.get(site_id, ()))
    event = ev.JobGranted(
        at=now,
        job_id=job_id,
        site_id=site_id,
        epoch=job.epoch + 1,
        checkpoint_id=held.checkpoint_id if held is not None else None,
        lease_ttl_s=s.ttl_s(job.spec),
    )
    return (event,)


def may_start_at(state: FleetState, job: Job, site_id: str) -> bool:
    """Tell whether a site may start a waiting job without losing steps that a living site holds."""
    site = state.sites.get(site_id)
    if site is None or site.fenced:
        return False
    return not job.sealed_once or site_id in holders_of(state, job)


def holders_of(state: FleetState, job: Job) -> frozenset[str]:
    """Return the sites that hold the newest checkpoint to start from.

    Fenced sites do not count; lost ones count only where nobody else holds any.
    """
    steps = {
        site_id: held.step
        for site_id, copies in job.copies.items()
        if (held := newest(copies)) is not None
        and not (site_id in state.sites and state.sites[site_id].fenced)
    }
    present = {site_id: step for site_id, step in steps.items() if site_id not in job.lost_sites}
    candidates = present or steps
    most = max(candidates.values(), default=None)
    return frozenset(site_id for site_id, step in candidates.items() if step == most)


def newest_step(state: FleetState, job: Job) -> int | None:
    """Return the step that a waiting job goes on from; None: nobody holds a checkpoint."""
    held = (newest(job.copies[site_id]) for site_id in holders_of(state, job))
    return next((one.step for one in held if one is not None), None)
