"""What a site's report of a job means: (state, site, report) to events.

Level-triggered: a report says everything that the site knows, so the same report may be judged again at any
time, after a restart of either side or a lost message, and tells only what is still news.
"""

from dataclasses import dataclass
from datetime import datetime

from coordinator.core.endings import GrantSettings, end_job, fail_migration, newest_step, requeue
from coordinator.core.migration import BEFORE_COMMIT
from coordinator.core.story import Story
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, Job, JobState, Migration, MigrationState
from coordinator.model.job import Checkpoint, JobPhase, JobReport, newest

On = ev.MigrationEvent
STATE_OF_PHASE = {
    JobPhase.STARTING: JobState.STARTING,
    JobPhase.RUNNING: JobState.RUNNING,
    JobPhase.PAUSED: JobState.PAUSED,
}
STOPPED_PHASES = frozenset({JobPhase.SEALED, JobPhase.HELD})
"""Nothing runs; a checkpoint may be there."""
PASSED_ON = frozenset({JobPhase.RESERVED, JobPhase.FETCHING, JobPhase.RELEASED})
"""Phases of a site that ran a job once and is not the last to have done so."""
ARRIVED_PHASES = frozenset({JobPhase.RESERVED, JobPhase.FETCHING, JobPhase.HELD})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One report being judged."""

    story: Story
    site_id: str
    report: JobReport
    now: datetime
    settings: GrantSettings

    @property
    def job(self) -> Job:
        return self.story.job(self.report.job_id)

    @property
    def phase(self) -> JobPhase:
        return self.report.phase

    def step(self, migration: Migration, event: On, failure: str = "") -> None:
        self.story.tell(
            ev.MigrationAdvanced(
                at=self.now, migration_id=migration.migration_id, event=event, failure=failure
            )
        )

    def end(self, state: JobState) -> None:
        if self.job.cancelling and state is not JobState.COMPLETED:
            state = JobState.CANCELLED
        end_job(self.story, self.job.job_id, state, self.report.message, self.now)

    def follow_phase(self) -> None:
        state, job = STATE_OF_PHASE.get(self.phase), self.job
        if state is None:
            return
        speed_frac = self.speed_frac() if state is JobState.RUNNING else 1.0
        if state is not job.state or speed_frac != job.speed_frac:
            self.story.tell(
                ev.JobPhaseChanged(at=self.now, job_id=job.job_id, state=state, speed_frac=speed_frac)
            )

    def speed_frac(self) -> float:
        """Return the speed at which the job runs, as its owner declares for what it may draw."""
        spec, power_w = self.job.spec, self.report.slowed_to_w
        if power_w is None or spec.slow is None or not spec.power_w > 0.0:
            return 1.0
        return spec.slow.speed_at(power_w / spec.power_w)

    def follow_times(self) -> None:
        job, report = self.job, self.report
        news = ev.JobMeasured(
            at=self.now,
            job_id=job.job_id,
            seal_s=report.seal_s if report.seal_s != job.seal_s else None,
            load_s=report.load_s if report.load_s != job.load_s else None,
        )
        if not job.ended and (news.seal_s is not None or news.load_s is not None):
            self.story.tell(news)


def events_for_report(
    state: FleetState, site_id: str, report: JobReport, now: datetime, settings: GrantSettings
) -> tuple[ev.Event, ...]:
    """Return what a report tells that the state does not know yet.

    Parameters
    ----------
    state : FleetState
        What is known.
    site_id : str
        Who reports; already authenticated.
    report : JobReport
        The newest of this job from this site.
    now : datetime
        When it is judged.
    settings : GrantSettings
        For the grants that follow from it.

    Returns
    -------
    tuple of Event
        To be recorded in one transaction; empty when nothing is news. A job that nobody submitted here is
        left alone.
    """
    job = state.jobs.get(report.job_id)
    if job is None:
        return ()
    if report.checkpoints_unknown and report.phase in STOPPED_PHASES:
        return ()  # what it stopped with may be newer than all that is known: the site will say it
    case = _Case(story=Story(state), site_id=site_id, report=report, now=now, settings=settings)
    _copies(case)
    if not job.ended:
        _higher_epoch(case)
        migration = case.story.migration_of(job.job_id)
        if migration is None:
            _resident(case)
        elif site_id == migration.source_site:
            _source(case, migration)
        elif site_id == migration.destination_site:
            _destination(case, migration)
    return case.story.events


def _copies(case: _Case) -> None:
    before, job = case.story.state, case.job
    if case.report.checkpoints_unknown:  # a disk that does not answer is no disk that was emptied
        return
    if case.report.checkpoints == job.copies.get(case.site_id, ()):
        return
    case.story.tell(
        ev.CheckpointSealed(
            at=case.now, job_id=job.job_id, site_id=case.site_id, checkpoints=case.report.checkpoints
        )
    )
    if job.state is JobState.QUEUED:
        _go_further_back(case, newest_step(before, job))


def _go_further_back(case: _Case, step: int | None) -> None:
    """Say that what a waiting job was to go on from is no more, and void what was ordered for it."""
    left = newest_step(case.story.state, case.job)
    if step is None or (left is not None and left >= step):
        return
    then = "no other is known" if left is None else f"it goes on from step {left}"
    message = f"its checkpoint of step {step} at {case.site_id} is corrupt or gone; {then}"
    requeue(case.story, case.job.job_id, message, case.now)


def _higher_epoch(case: _Case) -> None:
    """Take over an epoch that we do not remember: our memory was restored from an older copy.

    Also one of which the site has only heard: it would refuse all that we order under a lower one.
    """
    job, report = case.job, case.report
    owns = report.epoch > job.epoch and report.phase not in PASSED_ON
    epoch = report.epoch if owns else max(report.epoch, report.highest_epoch)
    if epoch <= job.epoch:
        return
    migration = case.story.migration_of(job.job_id)
    if owns and migration is not None:
        case.step(migration, On.VOIDED, f"{case.site_id} has the job under the higher epoch {report.epoch}")
    case.story.tell(
        ev.EpochAdopted(
            at=case.now,
            job_id=job.job_id,
            epoch=epoch,
            owner=case.site_id if owns else None,
            lease_ttl_s=case.settings.ttl_s(job.spec),
        )
    )


def _resident(case: _Case) -> None:
    """No move is under way."""
    job, report = case.job, case.report
    if case.phase is JobPhase.COMPLETED and job.state is JobState.QUEUED and report.epoch > 0:
        case.end(JobState.COMPLETED)  # it was done before its grant was voided, and nobody else has one
        return
    if job.grant is None or job.grant.site_id != case.site_id:
        return
    if job.state is JobState.WITHDRAWING:
        if case.phase is JobPhase.COMPLETED:
            case.end(JobState.COMPLETED)
        return
    if report.epoch != job.grant.epoch:
        return
    case.follow_times()
    if case.phase is JobPhase.COMPLETED:
        case.end(JobState.COMPLETED)
    elif case.phase is JobPhase.FAILED:
        if not _start_elsewhere(case):
            case.end(JobState.FAILED)
    elif case.phase in STOPPED_PHASES:
        requeue(case.story, job.job_id, f"stopped at {case.site_id}; its checkpoint is kept", case.now)
    elif case.phase is JobPhase.RELEASED:
        _let_go(case)
    else:
        case.follow_phase()


def _let_go(case: _Case) -> None:
    """Take back a grant of which the site has let go, by an order that we do not remember."""
    requeue(case.story, case.job.job_id, f"{case.site_id} has let go of it", case.now)


def _source(case: _Case, migration: Migration) -> None:
    if migration.state in BEFORE_COMMIT:
        if case.report.epoch == migration.epoch:
            case.follow_times()
            _source_before_commit(case, migration)
    elif migration.state is MigrationState.COMPENSATING:
        _source_compensating(case, migration)


def _source_before_commit(case: _Case, migration: Migration) -> None:
    if case.phase is JobPhase.COMPLETED:
        case.end(JobState.COMPLETED)
    elif case.phase is JobPhase.FAILED:
        case.end(JobState.FAILED)
    elif case.phase in STOPPED_PHASES:
        _stopped(case, migration)
    elif migration.state in (
        MigrationState.PLANNED,
        MigrationState.PREPARED,
        MigrationState.PRESTAGING,
        MigrationState.STOPPING,
    ):
        case.follow_phase()


def _stopped(case: _Case, migration: Migration) -> None:
    """Go on from a stop at the source, ordered or not: the seal is what the move needs."""
    if case.job.cancelling:
        case.end(JobState.CANCELLED)
        return
    if migration.state is not MigrationState.STOPPING:
        return
    checkpoint = newest(case.report.checkpoints)
    if checkpoint is None:
        failure = f"{migration.source_site} stopped the job but sealed no checkpoint"
        fail_migration(case.story, migration, failure, case.now, case.settings)
        return
    case.story.tell(
        ev.MigrationSealed(
            at=case.now,
            migration_id=migration.migration_id,
            checkpoint=checkpoint,
            seal_s=case.report.seal_s,
        )
    )


def _source_compensating(case: _Case, migration: Migration) -> None:
    grant = case.job.grant
    assert grant is not None  # COMPENSATING is entered with a grant to the source
    if case.report.epoch not in (migration.epoch, grant.epoch):
        return
    if case.phase is JobPhase.COMPLETED:
        case.end(JobState.COMPLETED)
    elif case.phase is JobPhase.FAILED:
        if case.report.epoch != grant.epoch or not _start_elsewhere(case):
            case.end(JobState.FAILED)
    elif case.report.epoch != grant.epoch:
        return
    elif case.phase in (JobPhase.RUNNING, JobPhase.PAUSED):
        case.step(migration, On.RESUMED)
        case.follow_phase()
    elif case.phase in STOPPED_PHASES:
        case.step(migration, On.RESUMED)
        requeue(case.story, case.job.job_id, f"stopped at {case.site_id}; its checkpoint is kept", case.now)
    elif case.phase is JobPhase.RELEASED:
        _let_go(case)


def _destination(case: _Case, migration: Migration) -> None:
    grant = case.job.grant
    if migration.state in BEFORE_COMMIT:
        _destination_before_commit(case, migration)
    elif migration.state in (MigrationState.STARTING, MigrationState.CONFIRMED):
        assert grant is not None  # COMMITTED granted it
        if case.report.epoch == grant.epoch:
            _destination_granted(case, migration)


def _destination_before_commit(case: _Case, migration: Migration) -> None:
    report = case.report
    if report.migration_id != migration.migration_id:
        return
    if migration.state is MigrationState.PLANNED and case.phase in ARRIVED_PHASES:
        case.step(migration, On.RESERVED)
    elif migration.state is MigrationState.TRANSFERRING:
        assert migration.checkpoint is not None  # SEALED named it
        if case.phase is JobPhase.HELD and report.holds(migration.checkpoint.checkpoint_id):
            case.step(migration, On.VERIFY)
            _moved(case, migration, migration.checkpoint)
        else:
            _fail_unfetched(case, migration)
    elif migration.state is MigrationState.PRESTAGING:
        _fail_unfetched(case, migration)


def _fail_unfetched(case: _Case, migration: Migration) -> None:
    if case.phase is JobPhase.FAILED or (case.phase is JobPhase.RESERVED and case.report.message):
        failure = f"{case.site_id} could not fetch the checkpoint: {case.report.message}"
        fail_migration(case.story, migration, failure, case.now, case.settings)


def _moved(case: _Case, migration: Migration, checkpoint: Checkpoint) -> None:
    """Learn from a transfer at the stop: the link's goodput, and how much of the checkpoint crossed."""
    case.story.tell(*link_events(migration, case.report, case.now))
    sent_bytes = case.report.transferred_bytes
    if sent_bytes is not None and checkpoint.size_bytes > 0:
        frac = sent_bytes / checkpoint.size_bytes
        case.story.tell(ev.JobMeasured(at=case.now, job_id=migration.job_id, sent_frac=frac))


def link_events(migration: Migration, report: JobReport, now: datetime) -> tuple[ev.Event, ...]:
    """Return what the transfer that a destination reports says of the link."""
    if report.goodput_bps is None or report.goodput_bps <= 0:
        return ()
    measured = ev.LinkMeasured(
        at=now,
        source=migration.source_site,
        destination=migration.destination_site,
        goodput_bps=report.goodput_bps,
        allotted_bps=migration.reserved_bps,
    )
    return (measured,)


def _stepped(report: JobReport, migration: Migration) -> bool:
    """Tell whether the resumed process has done a new step."""
    assert migration.checkpoint is not None  # SEALED named it
    from_step = migration.checkpoint.step if report.start_step is None else report.start_step
    return report.step is not None and report.step > from_step


def _destination_granted(case: _Case, migration: Migration) -> None:
    """Judge a report under the epoch that COMMITTED, or a later try, granted."""
    job, report = case.job, case.report
    if migration.state is MigrationState.STARTING and (
        case.phase is JobPhase.COMPLETED or (case.phase is JobPhase.RUNNING and _stepped(report, migration))
    ):
        case.follow_phase()
        case.step(migration, On.CONFIRM)
        case.follow_times()
        case.step(migration, On.FINISH)
        if case.phase is JobPhase.COMPLETED:
            case.end(JobState.COMPLETED)
    elif case.phase is JobPhase.COMPLETED:
        case.end(JobState.COMPLETED)
    elif case.phase is JobPhase.FAILED:
        _failed_to_start(case, migration)
    elif case.phase is JobPhase.SEALED or (case.phase is JobPhase.HELD and report.epoch == job.epoch):
        requeue(case.story, job.job_id, f"stopped at {case.site_id} before its first step", case.now)
    elif case.phase is JobPhase.RELEASED:
        _let_go(case)
    else:
        case.follow_phase()


def _start_elsewhere(case: _Case) -> bool:
    """Void a grant whose checkpoint is corrupt at its site; another copy, or an older one, is left."""
    job, grant = case.job, case.job.grant
    if job.state is not JobState.STARTING or grant is None or grant.checkpoint_id is None:
        return False
    if case.report.holds(grant.checkpoint_id):
        return False
    message = f"{case.site_id}: {case.report.message}"
    requeue(case.story, job.job_id, message, case.now)
    return True


def _failed_to_start(case: _Case, migration: Migration) -> None:
    if migration.state is MigrationState.STARTING and _start_elsewhere(case):
        return
    job = case.job
    last_try = job.failed_starts + 1 >= case.settings.start_attempts
    if job.cancelling or last_try or migration.state is MigrationState.CONFIRMED:
        case.end(JobState.FAILED)
        return
    message = f"{case.site_id} failed to start it: {case.report.message}"
    case.story.tell(ev.JobStartFailed(at=case.now, job_id=job.job_id, epoch=job.epoch + 1, message=message))
