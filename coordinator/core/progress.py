"""What the coordinator does next by itself: the steps of the machines that wait for no report.

Also timeouts, cancellations that no site has to hear of, refusals, and leases that have run out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coordinator.core.endings import (
    SEALED_AT_SOURCE,
    GrantSettings,
    end_job,
    fail_migration,
    requeue,
)
from coordinator.core.migration import BEFORE_COMMIT
from coordinator.core.prestage import PrestageSettings, obstacle_to_stop, to_send_ahead, window_closed
from coordinator.core.reports import link_events
from coordinator.core.story import Story
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, Job, JobState, Migration, MigrationState
from coordinator.model.job import ALIVE_PHASES, JobPhase
from coordinator.model.live import Live, is_connected, report_of
from coordinator.model.orders import Fetch, Offer, Order, Prepare, Release, Start

On = ev.MigrationEvent
M = MigrationState


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationTimeouts:
    """Longest stay in a state before a move is given up, in seconds; states after COMMITTED have none."""

    planned_s: float = 60.0
    prepared_s: float = 60.0
    stopping_s: float = 600.0
    transferring_s: float = 3600.0
    """Also for a checkpoint that is sent ahead."""
    by_state: Mapping[MigrationState, float] = field(init=False)

    def __post_init__(self) -> None:
        stays = {
            M.PLANNED: self.planned_s,
            M.PREPARED: self.prepared_s,
            M.PRESTAGING: self.transferring_s,
            M.STOPPING: self.stopping_s,
            M.TRANSFERRING: self.transferring_s,
        }
        object.__setattr__(self, "by_state", stays)

    @property
    def reservation_s(self) -> float:
        """Return how long a reservation must last by itself: until the fetch, which then holds the slot."""
        fetching = (M.PRESTAGING, M.TRANSFERRING)
        return sum(stay_s for state, stay_s in self.by_state.items() if state not in fetching)


def next_events(
    state: FleetState,
    job_id: str,
    live: Live,
    now: datetime,
    *,
    prestage: PrestageSettings,
    settings: GrantSettings,
) -> tuple[ev.Event, ...]:
    """Return the one step that this job's machines take by themselves now, if any."""
    job = state.jobs[job_id]
    story = Story(state)
    if job.ended:
        return ()
    migration = state.migration_of(job)
    if job.cancelling:
        _cancel(story, job, migration, live, now)
    if not story.events:
        _take_back_outrun_grant(story, job, migration, live, now)
    if story.events or migration is None:
        return story.events
    if migration.state is M.VERIFIED:
        ttl_s = job.grant.lease_ttl_s if job.grant is not None else None
        story.tell(
            ev.MigrationCommitted(
                at=now, migration_id=migration.migration_id, epoch=job.epoch + 1, lease_ttl_s=ttl_s
            )
        )
    elif migration.state in (M.PREPARED, M.PRESTAGING):
        # A source that cannot hear the order goes on training; stop it only while both ends are there.
        if is_connected(live, migration.source_site) and is_connected(live, migration.destination_site):
            _towards_stop(story, migration, live, now, prestage=prestage, settings=settings)
    elif migration.state is M.TRANSFERRING and window_closed(migration, now):
        failure = "the window that the job was to move for has ended"
        fail_migration(story, migration, failure, now, settings)
    elif (event := _OWN_STEPS.get(migration.state)) is not None:
        story.tell(ev.MigrationAdvanced(at=now, migration_id=migration.migration_id, event=event))
    return story.events


_OWN_STEPS = {M.SEALED: On.FETCH, M.COMMITTED: On.START, M.CONFIRMED: On.FINISH}


def _towards_stop(
    story: Story,
    migration: Migration,
    live: Live,
    now: datetime,
    *,
    prestage: PrestageSettings,
    settings: GrantSettings,
) -> None:
    """Send ahead what is worth it; then, or without, judge the move once more and have the job stopped."""
    name, goodput_bps = migration.migration_id, None
    if migration.state is M.PREPARED:
        ahead = to_send_ahead(story.state, migration, prestage)
        if ahead is not None:
            story.tell(ev.MigrationSentAhead(at=now, migration_id=name, checkpoint=ahead))
            return
    else:
        assert migration.ahead is not None  # the step into PRESTAGING named it
        report = report_of(live, migration.destination_site, migration.job_id)
        if report is None or report.migration_id != name or not report.holds(migration.ahead.checkpoint_id):
            return
        if report.phase is not JobPhase.HELD:
            return
        goodput_bps = report.goodput_bps
        story.tell(*link_events(migration, report, now))
    obstacle = obstacle_to_stop(story.state, migration, goodput_bps, now, prestage)
    if obstacle:
        fail_migration(story, migration, obstacle, now, settings)
    else:
        story.tell(ev.MigrationAdvanced(at=now, migration_id=name, event=On.STOP))


def _cancel(story: Story, job: Job, migration: Migration | None, live: Live, now: datetime) -> None:
    """End a job that is to be cancelled where no process can exist; else orders see to it."""
    sealed = migration is not None and migration.state in SEALED_AT_SOURCE
    if job.grant is None or sealed:
        end_job(story, job.job_id, JobState.CANCELLED, "cancelled", now)
        return
    report = report_of(live, job.grant.site_id, job.job_id)
    may_run = report is not None and report.phase in ALIVE_PHASES
    if not may_run and is_connected(live, job.grant.site_id) and job.state is not JobState.WITHDRAWING:
        if migration is not None:
            story.tell(
                ev.MigrationAdvanced(
                    at=now, migration_id=migration.migration_id, event=On.JOB_ENDED, failure="cancelled"
                )
            )
        story.tell(ev.JobWithdrawn(at=now, job_id=job.job_id, epoch=job.epoch + 1, message="cancelled"))


def _take_back_outrun_grant(
    story: Story, job: Job, migration: Migration | None, live: Live, now: datetime
) -> None:
    """Take back a grant, and the move under it, once any site has seen a higher epoch, unless it is at work.

    Only a store restored from an older copy gets here. An order under the lower epoch would be refused, and
    another site may hold newer steps: a job that waits is started where its newest checkpoint is.
    """
    grant = job.grant
    if grant is None or grant.epoch >= job.epoch or not is_connected(live, grant.site_id):
        return
    report = report_of(live, grant.site_id, job.job_id)
    if report is not None and job.state is not JobState.WITHDRAWING:
        alive = report.phase in ALIVE_PHASES
        if alive and report.epoch == grant.epoch:
            return
        if not alive and report.epoch >= grant.epoch:
            requeue(story, job.job_id, f"{grant.site_id} does not run it", now)
            return
    message = f"a site has seen the higher epoch {job.epoch}"
    if migration is not None:
        name = migration.migration_id
        voided = ev.MigrationAdvanced(at=now, migration_id=name, event=On.VOIDED, failure=message)
        story.tell(voided)
    message = job.message or message
    story.tell(ev.JobWithdrawn(at=now, job_id=job.job_id, epoch=job.epoch + 1, message=message))


def timeout_events(
    state: FleetState,
    migration: Migration,
    in_state_s: float,
    *,
    timeouts: MigrationTimeouts,
    now: datetime,
    settings: GrantSettings,
) -> tuple[ev.Event, ...]:
    """Return the compensation of a move that stays too long in a state before COMMITTED."""
    limit_s = timeouts.by_state.get(migration.state)
    if limit_s is None or in_state_s <= limit_s:
        return ()
    story = Story(state)
    failure = f"{migration.state.value} for more than {limit_s:g} s"
    fail_migration(story, migration, failure, now, settings)
    return story.events


def refusal_events(
    state: FleetState, order: Order, reason: str, now: datetime, settings: GrantSettings
) -> tuple[ev.Event, ...]:
    """Return what a refused order means.

    Before COMMITTED a move is given up. A first start that is refused takes the grant back. Every other
    order is level-triggered and simply sent again.
    """
    job = state.jobs.get(order.job_id)
    if job is None or job.ended:
        return ()
    story = Story(state)
    migration = state.migration_of(job)
    if migration is not None:
        current = migration.migration_id == order.migration_id and order.epoch == migration.epoch
        if current and migration.state in BEFORE_COMMIT and isinstance(order.action, (Prepare, Fetch, Offer)):
            failure = f"{order.site_id} refused to {type(order.action).__name__.lower()}: {reason}"
            fail_migration(story, migration, failure, now, settings)
    elif (
        isinstance(order.action, Start)
        and job.state is JobState.STARTING
        and job.grant is not None
        and (job.grant.site_id, job.grant.epoch) == (order.site_id, order.epoch)
    ):
        message = f"{order.site_id} refused to start it: {reason}"
        story.tell(ev.JobWithdrawn(at=now, job_id=job.job_id, epoch=job.epoch + 1, message=message))
    return story.events


def released_events(state: FleetState, order: Order, now: datetime) -> tuple[ev.Event, ...]:
    """Return what an accepted Release means for a grant that is being withdrawn: the job is free."""
    job = state.jobs.get(order.job_id)
    if (
        job is None
        or job.state is not JobState.WITHDRAWING
        or job.grant is None
        or not isinstance(order.action, Release)
        or (job.grant.site_id, job.grant.epoch) != (order.site_id, order.epoch)
    ):
        return ()
    story = Story(state)
    requeue(story, job.job_id, job.message, now)
    return story.events


def expiry_events(state: FleetState, job: Job, now: datetime) -> tuple[ev.Event, ...]:
    """Return the end of a grant whose lease has run out for certain (see `coordinator.core.grants`)."""
    if job.grant is None:
        return ()
    story = Story(state)
    site_id = job.grant.site_id
    requeue(story, job.job_id, f"the lease of {site_id} ran out", now, lost_site=site_id)
    return story.events
