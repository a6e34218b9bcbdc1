"""A job's own deadline: when it is, and what is left to it. It never ends a job."""

from datetime import datetime, timedelta

from coordinator.model.fleet import Job


def deadline_of(job: Job) -> datetime | None:
    """Return when a job's owner wants it to have ended; None: nobody says."""
    if job.spec.deadline_after_s is not None:
        return job.submitted_at + timedelta(seconds=job.spec.deadline_after_s)
    return job.spec.deadline_at


def ran_s(job: Job, now: datetime) -> float:
    """Return for how long a job has run so far, in seconds at full speed."""
    since = job.running_since
    return job.run_s + (job.speed_frac * (now - since).total_seconds() if since is not None else 0.0)


def deadline_slack_s(job: Job, now: datetime) -> float | None:
    """Return for how long a job may still stand still and end by its deadline.

    Parameters
    ----------
    job : Job
        With the work that its owner declares.
    now : datetime
        The instant.

    Returns
    -------
    float or None
        Seconds; below 0: it ends so much late even if it runs from now on. None: it has no deadline, or has
        ended.
    """
    deadline_at, work_s = deadline_of(job), job.spec.declared_work_s
    if deadline_at is None or work_s is None or job.ended:
        return None
    return (deadline_at - now).total_seconds() - max(0.0, work_s - ran_s(job, now))
