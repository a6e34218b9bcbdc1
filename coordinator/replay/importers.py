"""Recorded traces as they lie on disk, read with the standard library: generation, curtailment, jobs, links.

Owns the columns of each file; what is made of them is the scenario's (`scenariofile`).
"""

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sterna.errors import ConfigError
from sterna.units import SECONDS_PER_HOUR

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hourly:
    """Hourly figures of several series from `start_at` on; an hour that the file lacks counts as 0."""

    start_at: datetime
    series: Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedJob:
    """One row of a job trace."""

    job_id: str
    submit_s: float
    duration_s: float
    gpus: int


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file, gzipped or not.

    Raises
    ------
    ConfigError
        It cannot be read.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
                yield from csv.DictReader(file)
        else:
            with path.open(encoding="utf-8", newline="") as file:
                yield from csv.DictReader(file)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}") from error


def eia930_wind_and_sun(path: Path, areas: Sequence[str]) -> Hourly:
    """Read wind + solar of balancing areas in MW; missing or negative values count as 0."""
    found: dict[str, dict[datetime, float]] = {area: {} for area in areas}
    for row in rows(path):
        area = found.get(row["ba"])
        if area is not None:
            area[instant(row["ts_utc"])] = _at_least_0(row["wind_mw"]) + _at_least_0(row["solar_mw"])
    return _hourly(path, found)


def caiso_curtailment(path: Path, splits: Mapping[str, Sequence[tuple[str, str]]]) -> Hourly:
    """Read curtailed MWh of each hour, summed over the (fuel, reason) pairs of each split."""
    found: dict[str, dict[datetime, float]] = {split: {} for split in splits}
    for row in rows(path):
        at = instant(row["ts_utc"])
        for split, pairs in splits.items():
            # An hour that some other kind was curtailed in is still an hour of the file.
            curtailed = found[split].setdefault(at, 0.0)
            if (row["fuel"], row["reason"]) in pairs:
                found[split][at] = curtailed + _at_least_0(row["curtailed_mwh"])
    return _hourly(path, found)


def philly_jobs(path: Path) -> tuple[TracedJob, ...]:
    """Read a job trace, in order of submission, ties by job id."""
    jobs = [
        TracedJob(
            job_id=row["job_id"],
            submit_s=float(row["submit_s"]),
            duration_s=float(row["duration_s"]),
            gpus=int(row["num_gpus"]),
        )
        for row in rows(path)
    ]
    return tuple(sorted(jobs, key=lambda job: (job.submit_s, int(job.job_id))))


def wan_pairs(path: Path, site_set: str, names: Mapping[str, str]) -> dict[tuple[str, str], float]:
    """Read bit/s by direction between sites; `names` says which row's name stands for which site."""
    by_row = {row_name: site for site, row_name in names.items()}
    return {
        (by_row[row["src_site"]], by_row[row["dst_site"]]): float(row["gbps"]) * 1e9
        for row in rows(path)
        if row["site_set"] == site_set and row["src_site"] in by_row and row["dst_site"] in by_row
    }


def _hourly(path: Path, found: Mapping[str, Mapping[datetime, float]]) -> Hourly:
    stamps = [at for series in found.values() for at in series]
    empty = [name for name, series in found.items() if not series]
    if empty:
        raise ConfigError(f"{path}: nothing of {', '.join(empty)}")
    start_at, end_at = min(stamps), max(stamps)
    hours = int((end_at - start_at).total_seconds() // SECONDS_PER_HOUR) + 1
    series = {}
    for name, values in found.items():
        line = np.zeros(hours)
        for at, value in values.items():
            line[int((at - start_at).total_seconds() // SECONDS_PER_HOUR)] = value
        series[name] = line
    return Hourly(start_at=start_at, series=series)


def instant(stamp: str) -> datetime:
    """Return the instant of a row."""
    return datetime.fromisoformat(stamp)


def _at_least_0(text: str) -> float:
    return max(0.0, float(text)) if text else 0.0
