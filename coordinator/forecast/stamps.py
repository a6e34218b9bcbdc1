"""Stamps of recorded traces as instants: ISO 8601, day first as in Europe, ENTSO-E's market time units.

A local hour that comes twice when clocks go back has two instants, one that clocks skip has none: who reads a
file in order can tell which is meant.
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAY_FIRST = re.compile(r"(\d{1,2})[./](\d{1,2})[./](\d{4})[ T]+(\d{1,2}):(\d{2})(?::(\d{2}))?$")
_IN_BRACKETS = re.compile(r"\(([A-Z]+(?:/[A-Z]+)?)\)")
_HOUR = timedelta(hours=1)
_ABBREVIATED: dict[str, tzinfo | str] = {
    "UTC": UTC,
    "GMT": UTC,
    "WET": UTC,
    "WEST": timezone(_HOUR),
    "BST": timezone(_HOUR),
    "CET": timezone(_HOUR),
    "CEST": timezone(2 * _HOUR),
    "EET": timezone(2 * _HOUR),
    "EEST": timezone(3 * _HOUR),
    "GMT/BST": "Europe/London",
    "WET/WEST": "Europe/Lisbon",
    "CET/CEST": "Europe/Brussels",
    "EET/EEST": "Europe/Athens",
}
"""As ENTSO-E's files name zones; with a slash: summer time is kept."""


def zone_named(name: str) -> tzinfo:
    """Return a time zone by its name in the IANA database, or as ENTSO-E abbreviates it.

    Raises
    ------
    ValueError
        There is none of that name here.
    """
    known = _ABBREVIATED.get(name, name)
    if not isinstance(known, str):
        return known
    try:
        return ZoneInfo(known)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name} is no time zone that is known here") from error


def zone_of_header(column: str) -> str:
    """Return the zone that the heading of a column names in brackets; "": none."""
    found = _IN_BRACKETS.search(column)
    return found.group(1) if found else ""


def instants(text: str, zone: tzinfo | None) -> tuple[datetime, ...]:
    """Return the instants that a stamp may mean, the earlier first.

    Parameters
    ----------
    text : str
        One instant, or a span as ``01.01.2022 00:00 - 01.01.2022 01:00 (CET/CEST)``, which begins there.
    zone : tzinfo or None
        Where the stamp itself does not say it; None: then it must.

    Returns
    -------
    tuple
        In UTC: one; two where the local hour comes twice; none where clocks skip it.

    Raises
    ------
    ValueError
        It is no instant, or nobody says in which zone.
    """
    start, _, end = text.strip().partition(" - ")
    told = _IN_BRACKETS.search(start) or _IN_BRACKETS.search(end)
    at = _parsed(_IN_BRACKETS.sub("", start).strip())
    if at.tzinfo is not None:
        return (at.astimezone(UTC),)
    if told is not None:
        zone = zone_named(told.group(1))
    if zone is None:
        raise ValueError(f"{text} has no time zone")
    both = (at.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    # An instant of a skipped hour comes back as another hour.
    return tuple(sorted({one for one in both if one.astimezone(zone).replace(tzinfo=None) == at}))


def _parsed(text: str) -> datetime:
    found = _DAY_FIRST.match(text)
    if found is None:
        return datetime.fromisoformat(text)
    day, month, year, hour, minute, second = (int(part or 0) for part in found.groups())
    return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - the caller knows the zone
