"""What the site's jobs would draw had the grid asked for nothing: also those that were sent away for it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from agent.core.known import total


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The jobs that the site had since a limit began, with their declared watts; None: not declared."""

    jobs: Mapping[str, float | None] = field(default_factory=dict)


def followed(
    workload: Workload, live: Mapping[str, float | None], *, finished: Collection[str], limited: bool
) -> Workload:
    """Follow the jobs of a site.

    Parameters
    ----------
    workload : Workload
        As it was.
    live : mapping of job to watts
        Those that have a process here, paused or not.
    finished : collection of str
        Jobs that have come to their own end, and would have without a limit.
    limited : bool
        Whether the grid limits the site: while it does, who leaves unfinished left for the limit's sake.
    """
    if not limited:
        return Workload(jobs=dict(live))
    stayed = {job: power_w for job, power_w in workload.jobs.items() if job not in finished}
    return Workload(jobs={**stayed, **live})


def counterfactual_w(full_w: float | None, workload: Workload, live: Collection[str]) -> float | None:
    """Return the site's import with all of its jobs at full power, watts, >= 0.

    Parameters
    ----------
    full_w : float or None
        Import with every job that is here at full power, from metered load and the jobs' calibrated power;
        None: unknown.
    workload : Workload
        The jobs since the limit began; with one that declares nothing and has gone the figure is unknown.
    live : collection of str
        Those that `full_w` covers.
    """
    import_w = total((full_w, *(power_w for job, power_w in workload.jobs.items() if job not in live)))
    return None if import_w is None else max(0.0, import_w)
