"""Which waiting jobs' checkpoints are on their way, as the sites' own reports say; see `carrying`."""

from coordinator.model.fleet import FleetState, Job, JobState
from coordinator.model.job import JobPhase
from coordinator.model.live import Live, is_connected, report_of

COMING = frozenset({JobPhase.RESERVED, JobPhase.FETCHING})


def carry_id(job: Job) -> str:
    """Return what stands for the migration's id in the orders; another one after every grant."""
    return f"carry-{job.job_id}-{job.epoch}"


def carried_to(job: Job, live: Live) -> str | None:
    """Return the site that a waiting job's checkpoint is on its way to; None: to none.

    Where it could not be fetched it is no longer on its way: that site is to let go of the room.
    """
    if job.state is not JobState.QUEUED:
        return None
    coming = (site_id for site_id in live if is_coming(job, live, site_id))
    return min((site_id for site_id in coming if not has_failed(job, live, site_id)), default=None)


def has_failed(job: Job, live: Live, site_id: str) -> bool:
    """Tell whether a site says why it could not fetch the checkpoint that it has made room for."""
    report = report_of(live, site_id, job.job_id)
    return report is not None and bool(report.message)


def is_coming(job: Job, live: Live, site_id: str) -> bool:
    """Tell whether a site has room for a waiting job's checkpoint alone, whatever became of the fetch."""
    report = report_of(live, site_id, job.job_id)
    return (
        job.state is JobState.QUEUED
        and report is not None
        and report.phase in COMING
        and report.migration_id == carry_id(job)
        and is_connected(live, site_id)
    )


def slots_promised(state: FleetState, live: Live, site_id: str) -> int:
    """Return the slots that checkpoints on their way to a site have reserved there."""
    site = live.get(site_id)
    reports = site.reports.values() if site is not None else ()
    # By what the site says, not by job: fleets have more jobs than a site has reports.
    here = (state.jobs.get(report.job_id) for report in reports if report.phase in COMING)
    return sum(job is not None and is_coming(job, live, site_id) for job in here)
