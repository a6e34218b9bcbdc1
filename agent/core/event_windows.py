"""Which intervals of an operator's limit are to be reported, and when they are over. Knows no meter."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.model.figures import Window
from agent.model.limits import LimitCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A limit that is being reported on; `number` counts its intervals, the present one began `since`."""

    command: LimitCommand
    since: datetime
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """An interval of a limit that is over."""

    command: LimitCommand
    window: Window


def follow(
    running: Running | None, limit: LimitCommand | None, now: datetime, *, interval_s: float
) -> tuple[Running | None, Closed | None]:
    """Tell what is reported on from now, and the interval that has just ended.

    Parameters
    ----------
    running : Running or None
        What was reported on until now; None: nothing.
    limit : LimitCommand or None
        Of the operator, in force now; None: none is.
    now : datetime
        Calendar now.
    interval_s : float
        Longest interval.

    Notes
    -----
    A calendar that is stepped ends the interval, if forward, and starts it anew, if backward.
    """
    if running is None:
        return (None if limit is None else Running(command=limit, since=now)), None
    if now < running.since:
        running = replace(running, since=now)
    over = limit != running.command
    if not over and (now - running.since).total_seconds() < interval_s:
        return running, None
    closed = None
    if now > running.since:
        end_at = min(now, running.since + timedelta(seconds=interval_s))
        window = Window(id=running.number, start_at=running.since, end_at=end_at)
        closed = Closed(command=running.command, window=window)
    if not over:
        return replace(running, since=now, number=running.number + 1), closed
    return (None if limit is None else Running(command=limit, since=now)), closed
