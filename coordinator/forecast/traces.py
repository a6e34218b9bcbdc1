"""Recorded traces as series, for scoring and for replay alike.

A file is known by its columns (`formats`). Stamps mark the beginning of a slot; slots that a file leaves out
are missing, except curtailment, where what is not listed did not happen. Negative generation counts as 0.
"""

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from coordinator.forecast.formats import Cell, Format, format_of
from coordinator.forecast.kinds import Kind
from coordinator.forecast.series import SECONDS_PER_DAY, Series
from coordinator.forecast.stamps import instants, zone_named
from sterna.errors import ConfigError

_MISSING = frozenset({"", "-", "n/e", "n/a", "na", "nan", "null", "none"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a plain file does not say of itself: its column of stamps, and their zone where they name none."""

    time_column: str = ""
    time_zone: str = ""


@dataclass(slots=True, kw_only=True)
class _Trace:
    """A trace while it is read: its numbers by instant, NaN where a row had none."""

    cell: Cell
    points: dict[datetime, float] = field(default_factory=dict)
    numbers: int = 0
    last_at: datetime | None = None


def read_traces(path: Path, reading: Reading = Reading()) -> dict[str, Series]:
    """Read every trace of a file.

    Parameters
    ----------
    path : Path
        CSV, gzipped where it ends in ``.gz``; between commas, or semicolons or tabs and then with decimal
        commas or points. Known: EIA-930 and OPSD by balancing area or zone (``ERCO/wind``,
        ``DE_amprion/wind_onshore``, ``ERCO/ci_g_per_kwh``), the time series of OPSD by column, ENTSO-E's
        generation per type and day-ahead prices by area (``BZN|NL/wind_onshore``, ``BZN|NL``), RTS-GMLC by
        plant (``309_WIND_1``; its local standard time is taken as UTC), CAISO curtailment by fuel and reason
        (``wind/local``, MWh), prices by zone; else any with a column of stamps and columns of numbers, each
        a trace: sun where its name has ``solar`` or ``pv``, wind where it has ``wind``.
    reading : Reading
        For plain files.

    Returns
    -------
    dict
        By name, in the file's unit, NaN where missing; a trace with no number at all is left out.

    Raises
    ------
    ConfigError
        It cannot be read, has no such columns, or its stamps lie on no regular grid; names the line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror}") from error
    try:
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
        between = max(",;\t", key=text.partition("\n")[0].count)
        rows = csv.DictReader(io.StringIO(text), delimiter=between, restval="")
        columns = tuple(rows.fieldnames or ())
        form = format_of(columns, time_column=reading.time_column, time_zone=reading.time_zone)
        zone = zone_named(form.zone) if form.zone else None
        return _series(_read(rows, form, zone, decimal_comma=between != ","), adds_up=form.adds_up)
    except (OSError, UnicodeDecodeError, ValueError, EOFError, csv.Error) as error:
        raise ConfigError(f"{path}: not a trace: {error}") from error


def _read(
    rows: "csv.DictReader[str]", form: Format, zone: tzinfo | None, *, decimal_comma: bool
) -> Mapping[str, _Trace]:
    known = cache(lambda stamp: instants(stamp, zone))
    traces: dict[str, _Trace] = {}
    texts: set[str] = set()
    for row in rows:
        try:
            possible = known(row[form.time])
        except ValueError as error:
            raise ValueError(f"line {rows.line_num}: {form.time}: {error}") from error
        for cell in form.cells(row):
            if cell.trace in texts:
                continue
            trace = traces.setdefault(cell.trace, _Trace(cell=cell))
            try:
                value = _number(row[cell.column], decimal_comma=decimal_comma)
            except ValueError as error:
                if form.texts and not trace.numbers:
                    texts.add(cell.trace)
                    del traces[cell.trace]
                    continue
                raise ValueError(f"line {rows.line_num}: {cell.column}: {error}") from error
            _add(trace, possible, value, f"line {rows.line_num}: {row[form.time]}", adds_up=form.adds_up)
    return {name: trace for name, trace in traces.items() if trace.numbers}


def _add(
    trace: _Trace, possible: Sequence[datetime], value: float | None, where: str, *, adds_up: bool
) -> None:
    """Add a number at the instant that is meant: where there are two, rows follow each other in time."""
    points = trace.points
    free = [one for one in possible if adds_up or one not in points]
    later = [one for one in free if trace.last_at is None or one > trace.last_at]
    at = next(iter(later or free), None)
    trace.last_at = at or trace.last_at
    if value is not None:
        if not possible:
            raise ValueError(f"{where}: clocks skip this hour there")
        if at is None:
            raise ValueError(f"{where} comes twice of {trace.cell.trace}")
        trace.numbers += 1
    if at is not None:
        before = points.get(at, 0.0) if adds_up else 0.0
        points[at] = np.nan if value is None else before + value


def _number(text: str, *, decimal_comma: bool) -> float | None:
    short = text.strip()
    if short.lower() in _MISSING:
        return None
    value = float(short.replace(",", ".") if decimal_comma else short)
    if not np.isfinite(value):
        raise ValueError(f"{text}: expected a number")
    return value


def _series(traces: Mapping[str, _Trace], *, adds_up: bool) -> dict[str, Series]:
    every = sorted({at for trace in traces.values() for at in trace.points})
    if len(every) < 2:
        raise ValueError("less than two slots")
    least_s = _slot_s(every)
    found = {}
    for name, trace in traces.items():
        # Of curtailment, hours that are not listed count, up to the ends of the file; else known ones do.
        ends = (every[0], every[-1]) if adds_up else None
        own = sorted(at for at, value in trace.points.items() if not np.isnan(value))
        slot_s = least_s if adds_up or len(own) < 2 else _slot_s(own)
        if SECONDS_PER_DAY % slot_s:
            raise ValueError(f"{name}: slots of {slot_s:.0f} s do not make a day")
        found[name] = _one(trace, ends or (own[0], own[-1]), slot_s, 0.0 if adds_up else np.nan)
    return found


def _slot_s(ordered: Iterable[datetime]) -> float:
    return min((after - before).total_seconds() for before, after in pairwise(ordered))


def _one(trace: _Trace, ends: tuple[datetime, datetime], slot_s: float, fill: float) -> Series:
    first, last = ends
    values = np.full(int((last - first).total_seconds() // slot_s) + 1, fill)
    for at, value in trace.points.items():
        place = (at - first).total_seconds() / slot_s
        if np.isnan(value):
            continue
        if place % 1.0:
            stamp = at.astimezone(UTC).isoformat()
            raise ValueError(f"{trace.cell.trace}: {stamp} is on no regular grid of {slot_s:.0f} s")
        values[int(place)] = value
    if trace.cell.kind is not Kind.OTHER:
        values = np.maximum(values, 0.0)  # NaN stays NaN
    return Series(
        kind=trace.cell.kind,
        slot_s=slot_s,
        end_at=last + timedelta(seconds=slot_s),
        values=values,
        unit=trace.cell.unit,
    )
