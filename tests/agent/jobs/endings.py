"""Takes a whole site down, for tests that leave its jobs running."""

import signal
import time
from pathlib import Path

from agent.jobs.runner import SETTLE_S, Run
from agent.shim import files


def end_runs(jobs_root: Path, timeout_s: float) -> int:
    """Stop every run below a site's jobs folder, with grace.

    Parameters
    ----------
    jobs_root : Path
        The keeper's root.
    timeout_s : float
        Seconds after which what still runs is killed.

    Returns
    -------
    int
        Runs that were alive.
    """
    runs = [run for run in map(Run, jobs_root.glob("*/runs/*")) if run.is_alive()]
    for run in runs:
        run.nudge(signal.SIGTERM)
    deadline_s = files.boottime_s() + timeout_s
    while any(run.is_alive() for run in runs) and files.boottime_s() < deadline_s:
        time.sleep(SETTLE_S)
    for run in runs:
        if run.is_alive():
            run.nudge(signal.SIGKILL)
        run.kill_leftovers(0.0)
    return len(runs)
