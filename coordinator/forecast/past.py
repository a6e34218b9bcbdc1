"""A site's surplus of earlier days from a file, for a site that is new to the fleet."""

import csv
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

from coordinator.forecast.kinds import Kind
from coordinator.forecast.series import Array, Series
from sterna.errors import ConfigError

STAMP, VALUE = "ts_utc", "surplus_w"
_CLOSE_FRAC = 1e-3
"""Of a step: stamps are text, and may be rounded."""


def read_past(path: Path, *, kind: Kind, slot_s: float, day_s: float, now: datetime) -> Series:
    """Read a CSV with the columns ``ts_utc`` (a slot's beginning) and ``surplus_w`` (its mean, watts).

    Parameters
    ----------
    path : Path
        The file. Its rows may be shorter than a slot, not longer; rows that are absent or empty are missing.
    kind : Kind
        What the surplus comes of.
    slot_s, day_s : float
        Of the series, seconds.
    now : datetime
        What ends later is refused: it cannot be the past.

    Raises
    ------
    ConfigError
        The file cannot be read, or what is in it is no such past; names the file and the line.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            if not {STAMP, VALUE} <= set(reader.fieldnames or ()):
                raise ConfigError(f"{path}: expected the columns {STAMP} and {VALUE}")
            points = dict(_point(path, reader.line_num, row) for row in reader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return _series(path, points, kind=kind, slot_s=slot_s, day_s=day_s, now=now)


def _point(path: Path, line: int, row: Mapping[str, str]) -> tuple[datetime, float]:
    try:
        at = datetime.fromisoformat(row[STAMP])
        value = float(row[VALUE]) if row[VALUE] else np.nan
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}:{line}: {error}") from error
    if at.tzinfo is None:
        raise ConfigError(f"{path}:{line}: {STAMP}: {row[STAMP]} has no time zone")
    if value < 0.0 or np.isinf(value):
        raise ConfigError(f"{path}:{line}: {VALUE}: expected zero or more, got {row[VALUE]}")
    return at, value


def _series(
    path: Path, points: Mapping[datetime, float], *, kind: Kind, slot_s: float, day_s: float, now: datetime
) -> Series:
    stamps = sorted(points)
    if len(stamps) < 2:
        raise ConfigError(f"{path}: less than two rows")
    step_s = min((after - before).total_seconds() for before, after in pairwise(stamps))
    rows = round(slot_s / step_s)
    if rows < 1 or abs(rows * step_s - slot_s) > _CLOSE_FRAC * step_s:
        raise ConfigError(f"{path}: rows of {step_s:g} s do not make slots of {slot_s:g} s")
    start = stamps[0]
    if (stamps[-1] - now).total_seconds() + step_s > 0:
        raise ConfigError(f"{path}: the row of {stamps[-1].isoformat()} has not passed yet")
    places = [(at - start).total_seconds() / step_s for at in stamps]
    if any(abs(place - round(place)) > _CLOSE_FRAC for place in places):
        raise ConfigError(f"{path}: the stamps lie on no grid of {step_s:g} s")
    table = np.full(round(places[-1]) + 1, np.nan)
    table[[round(place) for place in places]] = [points[at] for at in stamps]
    # A slot that the file does not fill is not over: what is still to come of it is measured.
    whole = len(table) // rows
    if not whole:
        raise ConfigError(f"{path}: not one slot of {slot_s:g} s")
    values = _means(table[: whole * rows].reshape(whole, rows))
    return Series(
        kind=kind,
        slot_s=slot_s,
        end_at=start + timedelta(seconds=slot_s * len(values)),
        values=values,
        day_s=day_s,
    )


def _means(table: Array) -> Array:
    """Return the mean of each row, NaN where less than half of it is known."""
    known = ~np.isnan(table)
    count = known.sum(axis=1)
    total = np.where(known, table, 0.0).sum(axis=1)
    means: Array = np.where(2 * count >= table.shape[1], total / np.maximum(count, 1), np.nan)
    return means
