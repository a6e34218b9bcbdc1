"""Where a job may draw power: what the energy ledger takes a site's draw to be shared by."""

from collections.abc import Iterator
from dataclasses import dataclass

from coordinator.model.fleet import FleetState, Job, JobState, MigrationState

_DRAWS = frozenset({JobState.STARTING, JobState.RUNNING})
_STANDS_STILL = frozenset({MigrationState.SEALED, MigrationState.TRANSFERRING, MigrationState.VERIFIED})
"""Stopped at the source and not yet the destination's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A job that draws somewhere else than before; None: nowhere."""

    job_id: str
    power_w: float
    left: str | None
    reached: str | None


def draws_at(state: FleetState, job: Job) -> str | None:
    """Return the site where a job loads, runs or seals; None: it draws nowhere, or is paused."""
    if job.grant is None or job.state not in _DRAWS:
        return None
    migration = state.migration_of(job)
    if migration is not None and migration.state in _STANDS_STILL:
        return None
    return job.grant.site_id


def moves(before: FleetState, after: FleetState) -> Iterator[Moved]:
    """Yield the jobs that draw somewhere else after a change of the fleet."""
    # Values are frozen: what is the same object has not changed.
    changed = {job_id for job_id, job in after.jobs.items() if before.jobs.get(job_id) is not job}
    changed |= {
        one.job_id
        for migration_id, one in after.migrations.items()
        if before.migrations.get(migration_id) is not one
    }
    for job_id in sorted(changed):
        job = after.jobs[job_id]
        known = before.jobs.get(job_id)
        left = draws_at(before, known) if known is not None else None
        reached = draws_at(after, job)
        if left != reached:
            yield Moved(job_id=job_id, power_w=job.spec.power_w, left=left, reached=reached)
