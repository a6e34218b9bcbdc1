"""A job's deadline in words: when it is, and whether it can be kept."""

from google.protobuf.duration_pb2 import Duration
from rich.text import Text

from coordinator.cli import render
from sterna.v1 import fleet_pb2


def words(job: fleet_pb2.Job, slack: Duration | None) -> Text:
    """Return the deadline, and what is left to it; ``–`` without one.

    Parameters
    ----------
    job : sterna.v1.Job
        Whose.
    slack : Duration or None
        Below zero: it cannot be kept. None: the job has ended, or has none.
    """
    if not job.HasField("deadline_at"):
        return Text(render.UNKNOWN)
    at = f"{render.instant(job.deadline_at):%Y-%m-%d %H:%M:%S} UTC"
    if slack is None:
        return Text(at)
    left_s = slack.ToTimedelta().total_seconds()
    if left_s < 0.0:
        return Text(
            f"{at}; it ends {render.duration(-left_s)} late even if it runs from now on", style="yellow"
        )
    return Text(f"{at}; {render.duration(left_s)} to spare")


def lines(job: fleet_pb2.Job, slack: Duration | None) -> list[Text]:
    """Return a line about the deadline; none where there is nothing to say."""
    return [] if slack is None else [Text.assemble("deadline ", words(job, slack))]
