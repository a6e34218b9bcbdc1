"""ISO 8601 durations and instants, as OpenADR writes them. Pure arithmetic; knows no events."""

import calendar
import re
from datetime import MAXYEAR, UTC, datetime, timedelta

from agent.model.openadr import NOW, Duration
from sterna.units import SECONDS_PER_HOUR

SECONDS_PER_DAY = 24 * SECONDS_PER_HOUR
MONTHS_PER_YEAR = 12
NO_TIME = Duration()

_DURATION = re.compile(
    r"P(?=\d|T\d)(?:(\d{1,6})Y)?(?:(\d{1,6})M)?(?:(\d{1,6})W)?(?:(\d{1,6})D)?"
    r"(?:T(?=\d)(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?",
    re.ASCII,
)


def parse_duration(text: str) -> Duration | None:
    """Read a duration such as ``PT15M``; None when it is none. Negative durations are none."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    years, months, weeks, days, hours, minutes = (int(part or 0) for part in match.groups()[:6])
    return Duration(
        months=MONTHS_PER_YEAR * years + months,
        seconds=(7 * weeks + days) * SECONDS_PER_DAY
        + hours * SECONDS_PER_HOUR
        + minutes * 60.0
        + float(match.group(7) or 0.0),
    )


def parse_start(text: str) -> datetime | None:
    """Read a start; `NOW` for ``0001-01-01``, None when it is none or states no offset from UTC."""
    try:
        parsed = datetime.fromisoformat(text)
        if parsed.date() == NOW.date():
            return NOW
        return None if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def after(start_at: datetime, duration: Duration, times: int = 1) -> datetime | None:
    """Return the instant a number of durations after another; None: beyond the calendar, so never.

    Months are calendar months; the 31st becomes the last day of a shorter month.
    """
    try:
        months = start_at.month - 1 + times * duration.months
        year, month = start_at.year + months // MONTHS_PER_YEAR, months % MONTHS_PER_YEAR + 1
        if year > MAXYEAR:
            return None
        day = min(start_at.day, calendar.monthrange(year, month)[1])
        moved = start_at.replace(year=year, month=month, day=day)
        return moved + timedelta(seconds=times * duration.seconds)
    except OverflowError:
        return None


def longest_s(duration: Duration) -> float:
    """Return a bound in seconds for a randomised start; a month counts as 30 days."""
    return duration.months * 30 * SECONDS_PER_DAY + duration.seconds
