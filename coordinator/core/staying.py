"""What keeps a job where it is: the hysteresis that a move which nobody demands must overcome, in words."""

from datetime import datetime

import numpy as np

from coordinator.core.judgement import Judge, Ratings
from coordinator.model.view import JobView


def resident_s(job: JobView, now: datetime) -> float:
    """Return for how long a job has been at its site, in seconds; 0 where it is not known."""
    return 0.0 if job.resident_since is None else (now - job.resident_since).total_seconds()


def against_leaving(
    job: JobView, ratings: Ratings, pair: tuple[int, int], judge: Judge, slack_margin_s: float
) -> tuple[str, ...]:
    """Return what hysteresis has against a voluntary move, every reason.

    Parameters
    ----------
    job : JobView
        Who would move.
    ratings, pair
        The figures, and the row of the job and the column of the site in them.
    judge : Judge
        Whose figures they are.
    slack_margin_s : float
        What a move must leave of a job's slack.
    """
    reasons = []
    total_s, lasts_s = float(ratings.terms.migration_s[pair]), float(ratings.lasts_s[pair[0]])
    if lasts_s > total_s:
        reasons.append(f"the surplus here lasts {lasts_s:.1f} s, longer than the move of {total_s:.1f} s")
    if job.spare_s is not None and total_s >= job.spare_s - slack_margin_s:
        reasons.append(f"it would end late: {total_s:.1f} s of {job.spare_s:.1f} s of slack")
    here_s = resident_s(job, judge.view.now)
    least_s = max(job.min_residence_s, judge.settings.min_residence_s)
    if here_s < least_s:
        reasons.append(f"resident for {here_s:.1f} s, at least {least_s:.1f} s are asked for")
    gain_s, margin_s = float(ratings.gain_s[pair]), judge.margin_s(float(ratings.stay_s[pair]))
    if not gain_s > margin_s and np.isfinite(gain_s):
        brings = f"gains {gain_s:.1f}" if gain_s >= 0.0 else f"loses {-gain_s:.1f}"
        reasons.append(f"{brings} renewable s, a gain of more than {margin_s:.1f} s is asked for")
    return tuple(reasons)
