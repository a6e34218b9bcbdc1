"""What the site's jobs would draw had the grid asked for nothing: also those that were sent away for it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


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


def counterfactual_w(
    full_w: float | None, workload: Workload, live: Collection[str], *, cap_max_w: float | None = None
) -> float | None:
    """Return the site's import with all of its jobs at full power, watts, >= 0.

    Parameters
    ----------
    full_w : float or None
        Import with every job that is here at full power, from metered load and the jobs' calibrated power;
        None: unknown.
    workload : Workload
        The jobs since the limit began.
    live : collection of str
        Those that `full_w` covers.
    cap_max_w : float or None
        What a job that declares nothing may draw at most; None: then the figure is unknown.
    """
    if full_w is None:
        return None
    gone = [power_w for job, power_w in workload.jobs.items() if job not in live]
    powers = [cap_max_w if power_w is None else power_w for power_w in gone]
    known = [power_w for power_w in powers if power_w is not None]
    return max(0.0, full_w + sum(known)) if len(known) == len(powers) else None
