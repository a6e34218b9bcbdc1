"""How the site settles with its grid operator."""

from collections.abc import Iterable
from datetime import UTC, date, tzinfo
from typing import Literal

import msgspec

Method = Literal["10-of-10", "high-4-of-5", "same-day-3+2", "match-day"]
DayName = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
DAY_NAMES: tuple[DayName, ...] = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)


def time_zone(name: str) -> tzinfo:
    """Find a time zone; OSError, ValueError or KeyError where there is none of that name."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # 0.3 MB, for sites with another

    return ZoneInfo(name)


class SettlementTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[settlement]``: a record per interval, and what events are held against."""

    enabled: bool = True
    """False: no records are made; those that there are stay."""
    interval_minutes: Literal[5, 15, 30, 60] = 15
    """Length of a record's interval."""
    timezone: str = "UTC"
    """The operator's, for its days and times of day, e.g. "Europe/Berlin"."""
    holidays: tuple[date, ...] = ()
    """Days that count as days off."""
    weekend: tuple[DayName, ...] = ("saturday", "sunday")
    """Days off in every week."""
    methods: tuple[Method, ...] = ("10-of-10", "high-4-of-5", "same-day-3+2", "match-day")
    """Baselines that events are settled by, beside the workload's."""
    report_method: Method = "10-of-10"
    """The one that reports to the operator carry."""
    look_back_days: int = 45
    """How far back a usual day may lie."""
    adjust_up_frac: float | None = None
    """Most by which an adjustment may raise a baseline, e.g. 0.2; absent: the method's own bound."""
    adjust_down_frac: float | None = None
    """The same for lowering it."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        try:
            time_zone(self.timezone)
        except (OSError, ValueError, KeyError):  # the library's own error is a KeyError
            yield "timezone", f'no time zone "{self.timezone}"'
        if not 1 <= self.look_back_days <= 366:
            yield "look_back_days", f"expected 1 to 366, got {self.look_back_days}"
        for key in ("adjust_up_frac", "adjust_down_frac"):
            frac = getattr(self, key)
            if frac is not None and not 0 <= frac <= 1:
                yield key, f"expected 0 to 1, got {frac:g}"
