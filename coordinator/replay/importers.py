"""Recorded jobs and links as they lie on disk; traces of power, prices and carbon are `forecast.traces`'.

Owns the columns of each file; what is made of them is the scenario's (`scenariofile`).
"""

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sterna.errors import ConfigError

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedJob:
    """One row of a job trace."""

    job_id: str
    submit_s: float
    duration_s: float
    gpus: int


def philly_jobs(path: Path) -> tuple[TracedJob, ...]:
    """Read a job trace, in order of submission, ties by job id.

    Raises
    ------
    ConfigError
        It cannot be read, or a row lacks a number; names the line and the column.
    """
    jobs = [
        TracedJob(
            job_id=cell("job_id", _numeral),
            submit_s=cell("submit_s", float),
            duration_s=cell("duration_s", float),
            gpus=cell("num_gpus", int),
        )
        for cell in _rows(path)
    ]
    return tuple(sorted(jobs, key=lambda job: (job.submit_s, int(job.job_id))))


def wan_pairs(path: Path, site_set: str, names: Mapping[str, str]) -> dict[tuple[str, str], float]:
    """Read bit/s by direction between sites; `names` says which row's name stands for which site.

    One name may stand for several sites, between which it says nothing.

    Raises
    ------
    ConfigError
        It cannot be read, or a row lacks a rate; names the line and the column.
    """
    pairs: dict[tuple[str, str], float] = {}
    for cell in _rows(path):
        if cell("site_set", str) != site_set:
            continue
        source, destination = cell("src_site", str), cell("dst_site", str)
        pairs |= {
            (one, other): cell("gbps", float) * 1e9
            for one, name in names.items()
            if name == source
            for other, other_name in names.items()
            if other_name == destination
        }
    return pairs


def _numeral(text: str) -> str:
    int(text)
    return text


class _Cell:
    """The cells of one row, by column."""

    def __init__(self, path: Path, line: int, row: Mapping[str, str | None]) -> None:
        self._where = f"{path}: line {line}"
        self._row = row

    def __call__(self, column: str, as_type: Callable[[str], Value]) -> Value:
        if column not in self._row:
            raise ConfigError(f"{self._where}: no column {column}")
        try:
            return as_type(self._row[column] or "")
        except ValueError as error:
            raise ConfigError(f"{self._where}: {column}: {error}") from error


def _rows(path: Path) -> Iterator[_Cell]:
    try:
        with io.TextIOWrapper(
            gzip.open(path) if path.suffix == ".gz" else path.open("rb"), encoding="utf-8-sig", newline=""
        ) as file:
            reader = csv.DictReader(file)
            for row in reader:
                yield _Cell(path, reader.line_num, row)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}") from error
