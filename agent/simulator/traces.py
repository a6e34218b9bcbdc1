"""Weather as capacity factors over a year: read from CSV, interpolated, repeated. It knows no plant."""

import csv
import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from sterna.errors import ConfigError
from sterna.units import SECONDS_PER_HOUR

PLACES = ("greensboro", "miami", "sand-point")
COLUMNS = ("pv_cf", "wind_cf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Sun and wind at one instant, as fractions of nameplate, 0 to 1."""

    pv_cf: float
    wind_cf: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Capacity factors in equal steps from the start of a year, UTC.

    Parameters
    ----------
    place : str
        For people.
    pv_cf, wind_cf : array of float
        Means over each step, equally many.
    step_s : float
        Length of a step, seconds.
    """

    place: str
    pv_cf: "array[float]"
    wind_cf: "array[float]"
    step_s: float = SECONDS_PER_HOUR

    def at(self, instant: datetime) -> Sample:
        """Interpolate between the middles of the steps; the trace repeats when it ends."""
        start = datetime(instant.astimezone(UTC).year, 1, 1, tzinfo=UTC)
        position = (instant - start).total_seconds() / self.step_s - 0.5
        below = math.floor(position)
        weight = position - below
        count = len(self.pv_cf)
        low, high = below % count, (below + 1) % count
        return Sample(
            pv_cf=(1 - weight) * self.pv_cf[low] + weight * self.pv_cf[high],
            wind_cf=(1 - weight) * self.wind_cf[low] + weight * self.wind_cf[high],
        )


def bundled(place: str) -> Trace:
    """Load a place that ships with Sterna; `agent/simulator/data/README.md` says where it comes from.

    Raises
    ------
    ConfigError
        There is no such place.
    """
    if place not in PLACES:
        raise ConfigError(f"no weather for {place!r}; there is {', '.join(PLACES)}")
    text = (files("agent.simulator") / "data" / f"{place}.csv").read_text(encoding="ascii")
    return parsed(text.splitlines(), place=place)


def from_csv(path: Path, *, step_s: float = SECONDS_PER_HOUR) -> Trace:
    """Read a CSV with the columns ``pv_cf`` and ``wind_cf`` (either may be absent: nothing of that kind).

    Raises
    ------
    ConfigError
        The file cannot be read or a figure is not a fraction.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return parsed(lines, place=path.stem, step_s=step_s, source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def parsed(
    lines: Iterable[str], *, place: str, step_s: float = SECONDS_PER_HOUR, source: str = "trace"
) -> Trace:
    """Parse the lines of a CSV; see `from_csv`."""
    reader = csv.DictReader(lines)
    columns: dict[str, array[float]] = {name: array("d") for name in COLUMNS}
    if not set(COLUMNS) & set(reader.fieldnames or ()):
        raise ConfigError(f"{source}: neither pv_cf nor wind_cf in the header")
    for row in reader:
        for name, values in columns.items():
            try:
                value = float(row.get(name) or 0)
            except ValueError as error:
                raise ConfigError(f"{source}:{reader.line_num}: {name}: {row[name]!r}") from error
            if not 0 <= value <= 1:
                raise ConfigError(f"{source}:{reader.line_num}: {name}: {value} is not within 0..1")
            values.append(value)
    if not columns["pv_cf"]:
        raise ConfigError(f"{source}: no rows")
    return Trace(place=place, pv_cf=columns["pv_cf"], wind_cf=columns["wind_cf"], step_s=step_s)
