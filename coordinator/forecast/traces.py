"""Recorded traces as series: the files of the reference data, and plain CSV. For scoring and for replay.

A file is known by its columns. Stamps mark the beginning of a slot; slots that a file leaves out are missing,
except curtailment, where what is not listed did not happen. Negative generation counts as 0.
"""

import csv
import gzip
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

from coordinator.forecast.kinds import Kind
from coordinator.forecast.series import SECONDS_PER_DAY, Series
from sterna.errors import PermanentError

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    """One number of a file: which trace it belongs to, what that measures, and when."""

    name: str
    kind: Kind
    stamp: str
    text: str
    unit: str = ""


_WIDE = {
    "solar_mw": (Kind.SUN, "MW"),
    "wind_mw": (Kind.WIND, "MW"),
    "wind_onshore_mw": (Kind.WIND, "MW"),
    "wind_offshore_mw": (Kind.WIND, "MW"),
    "load_mw": (Kind.OTHER, "MW"),
    "ci_g_per_kwh": (Kind.OTHER, "g/kWh"),
}
_FUELS = {"solar": Kind.SUN, "wind": Kind.WIND}


def read_traces(path: Path) -> dict[str, Series]:
    """Read every trace of a file.

    Parameters
    ----------
    path : Path
        CSV, gzipped where it ends in ``.gz``. Known: EIA-930 and OPSD by balancing area or zone
        (``ERCO/wind``, ``DE_amprion/wind_onshore``, ``ERCO/ci_g_per_kwh``), RTS-GMLC by plant
        (``309_WIND_1``; its local standard time is taken as UTC), CAISO curtailment by fuel and reason
        (``wind/local``, MWh), prices by zone; else any CSV with a column ``ts_utc`` and numbers, each
        column a trace: sun where its name has ``solar`` or ``pv``, wind where it has ``wind``.

    Returns
    -------
    dict
        By name, in the file's unit, NaN where missing; a trace with no number at all is left out.

    Raises
    ------
    PermanentError
        It cannot be read, has no such columns, or its stamps lie on no regular grid.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
        reader = csv.DictReader(io.StringIO(text))
        values = list(_reader(tuple(reader.fieldnames or ()))(reader))
        return _series(values, fill=0.0 if "curtailed_mwh" in (reader.fieldnames or ()) else np.nan)
    except (OSError, UnicodeDecodeError, ValueError, EOFError) as error:
        raise PermanentError(f"{path.name}: not a trace: {error}") from error


def _reader(columns: tuple[str, ...]) -> Callable[[Iterable[Row]], Iterable[_Value]]:
    if "available_mw" in columns and "ts_local" in columns:
        return _plants
    if "curtailed_mwh" in columns:
        return _curtailment
    if "price_per_mwh" in columns:
        return _prices
    if "ts_utc" not in columns:
        raise ValueError("no column ts_utc")
    key = next((name for name in ("ba", "zone") if name in columns), None)
    return (lambda rows: _areas(rows, key)) if key is not None else _plain


def _areas(rows: Iterable[Row], key: str) -> Iterable[_Value]:
    for row in rows:
        for column, (kind, unit) in _WIDE.items():
            if column in row:
                name = f"{row[key]}/{column.removesuffix('_mw')}"
                yield _Value(name=name, kind=kind, stamp=row["ts_utc"], text=row[column], unit=unit)


def _plants(rows: Iterable[Row]) -> Iterable[_Value]:
    for row in rows:
        kind = _FUELS.get(row["kind"], Kind.OTHER)
        yield _Value(name=row["site"], kind=kind, stamp=row["ts_local"] + "Z", text=row["available_mw"])


def _curtailment(rows: Iterable[Row]) -> Iterable[_Value]:
    for row in rows:
        # By nature neither sun nor wind: most of it is the market's.
        name = f"{row['fuel'].lower()}/{row['reason'].lower()}"
        yield _Value(name=name, kind=Kind.OTHER, stamp=row["ts_utc"], text=row["curtailed_mwh"])


def _prices(rows: Iterable[Row]) -> Iterable[_Value]:
    for row in rows:
        unit = f"{row['currency']}/MWh"
        text = row["price_per_mwh"]
        yield _Value(name=row["zone"], kind=Kind.OTHER, stamp=row["ts_utc"], text=text, unit=unit)


def _plain(rows: Iterable[Row]) -> Iterable[_Value]:
    for row in rows:
        for column, text in row.items():
            if column != "ts_utc" and _is_number(text):
                yield _Value(name=column, kind=_kind(column), stamp=row["ts_utc"], text=text)


def _kind(column: str) -> Kind:
    words = column.lower()
    if "curtail" in words or "price" in words or "lmp" in words:
        return Kind.OTHER
    if "solar" in words or "pv" in words.split("_"):
        return Kind.SUN
    return Kind.WIND if "wind" in words else Kind.OTHER


def _is_number(text: str) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def _series(values: Iterable[_Value], fill: float) -> dict[str, Series]:
    points: dict[str, dict[str, float]] = {}
    measures: dict[str, tuple[Kind, str]] = {}
    for value in values:
        if not value.text:
            continue
        known = points.setdefault(value.name, {})
        measures[value.name] = value.kind, value.unit
        # Curtailment has a row per type; they add up. Elsewhere a stamp comes once.
        known[value.stamp] = (known.get(value.stamp, 0.0) if fill == 0.0 else 0.0) + float(value.text)
    stamps = {stamp: _instant(stamp) for known in points.values() for stamp in known}
    if len(stamps) < 2:
        raise ValueError("less than two slots")
    ordered = sorted(set(stamps.values()))
    slot_s = min((b - a).total_seconds() for a, b in pairwise(ordered))
    if SECONDS_PER_DAY % slot_s:
        raise ValueError(f"slots of {slot_s:.0f} s do not make a day")
    return {
        name: _one(*measures[name], {stamps[stamp]: number for stamp, number in known.items()}, slot_s, fill)
        for name, known in points.items()
    }


def _one(kind: Kind, unit: str, points: Mapping[datetime, float], slot_s: float, fill: float) -> Series:
    start, last = min(points), max(points)
    places = [(at - start).total_seconds() / slot_s for at in points]
    if any(place % 1.0 for place in places):
        raise ValueError("the stamps lie on no regular grid")
    values = np.full(int(max(places)) + 1, fill)
    values[np.array(places, dtype=np.intp)] = list(points.values())
    if kind is not Kind.OTHER:
        values = np.maximum(values, 0.0)  # NaN stays NaN
    return Series(kind=kind, slot_s=slot_s, end_at=last + timedelta(seconds=slot_s), values=values, unit=unit)


def _instant(stamp: str) -> datetime:
    at = datetime.fromisoformat(stamp)
    if at.tzinfo is None:
        raise ValueError(f"{stamp} has no time zone")
    return at.astimezone(UTC)
