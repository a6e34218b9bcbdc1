"""Which job or site a caller means, and what to say where that is nobody or more than one."""

from collections.abc import Collection, Mapping, Sequence

from coordinator.model.fleet import Job

CANDIDATES_NAMED = 5


def matching(jobs: Mapping[str, Job], given: str) -> list[str]:
    """Return the job ids that `given` may mean, in order.

    The very id alone; else all that begin so, and the jobs of that name: those that have not ended, if any.
    """
    if given in jobs:
        return [given]
    named = [job for job in jobs.values() if job.spec.name == given]
    live = [job for job in named if not job.ended]
    return sorted({one for one in jobs if one.startswith(given)} | {job.job_id for job in live or named})


def no_single_job(given: str, found: Sequence[str]) -> str:
    """Say that no job is meant, or that more than one may be."""
    if not found:
        return f"no job {given!r}"
    more = f" and {len(found) - CANDIDATES_NAMED} more" if len(found) > CANDIDATES_NAMED else ""
    return f"{given!r} may mean {', '.join(found[:CANDIDATES_NAMED])}{more}; write more of the id"


def no_site(given: str, known: Collection[str]) -> str:
    """Say that there is no such site, and which there are."""
    return f"no site {given!r}; known sites: {', '.join(sorted(known)) or 'none'}"
