"""Samples gathered into the slots that forecasts are made of: means that do not lean to the busy part."""

from datetime import datetime, timedelta
from math import floor

_PARTS = 4
_LEAST_PARTS = 2
"""Quarters of a slot that must have been seen: half of it unseen may have been anything."""


class SlotMeans:
    """Means over the slots of a grid, from samples that come in any order and at any rate.

    A slot is taken in quarters, so that a stretch with many samples weighs no more than one with few.

    Parameters
    ----------
    origin_at : datetime
        Any instant at which a slot begins; aware.
    slot_s : float
        Length of a slot, seconds, > 0.
    """

    def __init__(self, origin_at: datetime, slot_s: float) -> None:
        self._origin_at = origin_at
        self._slot_s = slot_s
        self._sums: dict[int, list[tuple[float, int]]] = {}

    def add(self, at: datetime, value: float) -> None:
        """Take a sample."""
        place = (at - self._origin_at).total_seconds() / self._slot_s
        slot = floor(place)
        parts = self._sums.setdefault(slot, [(0.0, 0)] * _PARTS)
        part = min(_PARTS - 1, int((place - slot) * _PARTS))
        total, count = parts[part]
        parts[part] = (total + value, count + 1)

    def mean(self, start_at: datetime) -> float | None:
        """Return the mean of the slot that begins at an instant; None when too little of it was seen."""
        parts = self._sums.get(self._slot(start_at), [])
        means = [total / count for total, count in parts if count]
        return sum(means) / len(means) if len(means) >= _LEAST_PARTS else None

    def forget(self, before_at: datetime) -> None:
        """Drop the slots that begin before an instant."""
        first = self._slot(before_at)
        self._sums = {slot: parts for slot, parts in self._sums.items() if slot >= first}

    def _slot(self, start_at: datetime) -> int:
        return round((start_at - self._origin_at).total_seconds() / self._slot_s)


def slot_start(at: datetime, slot_s: float) -> datetime:
    """Return when the slot begins that holds an instant, counted from midnight UTC of 1970."""
    since_s = at.timestamp()
    return at - timedelta(seconds=since_s - floor(since_s / slot_s) * slot_s)
