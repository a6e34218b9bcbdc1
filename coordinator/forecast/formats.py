"""The files that hold recorded traces, known by their columns: which cells of a row belong to which trace."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coordinator.forecast.kinds import Kind
from coordinator.forecast.stamps import zone_of_header

Row = Mapping[str, str]


class Cell(NamedTuple):
    """One number of a row: of which trace, what that measures, in which unit ("": not said), which column."""

    trace: str
    kind: Kind
    unit: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a file is read.

    `time`: the column of stamps; `zone`: in which they are where they do not say it, "": they must.
    `adds_up`: a stamp may come again and its numbers add up, and what is not listed was 0. `texts`: a column
    that begins with no number is no trace; elsewhere it is a fault.
    """

    time: str
    cells: Callable[[Row], Iterable[Cell]]
    zone: str = ""
    adds_up: bool = False
    texts: bool = False


_TIMES = ("ts_utc", "utc_timestamp", "timestamp", "time", "datetime", "date")
_WIDE = {
    "solar_mw": (Kind.SUN, "MW"),
    "wind_mw": (Kind.WIND, "MW"),
    "wind_onshore_mw": (Kind.WIND, "MW"),
    "wind_offshore_mw": (Kind.WIND, "MW"),
    "load_mw": (Kind.OTHER, "MW"),
    "ci_g_per_kwh": (Kind.OTHER, "g/kWh"),
}
_FUELS = {"solar": Kind.SUN, "wind": Kind.WIND, "wind_onshore": Kind.WIND, "wind_offshore": Kind.WIND}
_GENERATION = re.compile(r"(.+?)\s+- Actual Aggregated \[MW\]$")
_DAY_AHEAD = re.compile(r"Day-ahead Price [\[(]([A-Z]{3})/MWh[\])]$")
_POWER = re.compile(r"(?:^|[\s_\[(])([kmg]?w)[\])]?$", re.IGNORECASE)
_POWERS = {"w": "W", "kw": "kW", "mw": "MW", "gw": "GW"}
_RATE = re.compile(r"(?:^|[\s_\[(])(g|kg|[a-z]{3})(?:/|_per_)([km]wh)[\])]?$", re.IGNORECASE)


def format_of(columns: Sequence[str], *, time_column: str = "", time_zone: str = "") -> Format:
    """Return how a file with such columns is read.

    Parameters
    ----------
    columns : sequence of str
        Its heading.
    time_column, time_zone : str
        Of a plain file, where its own are none of the usual; "": nobody says.

    Raises
    ------
    ValueError
        It has no column of stamps.
    """
    if time_column and time_column not in columns:
        raise ValueError(f"no column {time_column}; it has {', '.join(columns)}")
    if "available_mw" in columns and "ts_local" in columns:
        return Format(time="ts_local", zone="UTC", cells=_plant)
    if "curtailed_mwh" in columns:
        return Format(time="ts_utc", cells=_curtailed, adds_up=True)
    if "price_per_mwh" in columns:
        return Format(time="ts_utc", cells=_price)
    entsoe = next((column for column in columns if column.split(" ")[0] == "MTU"), None)
    if entsoe is not None and not time_column:
        return _entsoe(columns, entsoe, time_zone)
    time = time_column or next((name for name in _TIMES if name in (c.lower() for c in columns)), "")
    time = next((column for column in columns if column.lower() == time.lower()), "")
    if not time:
        raise ValueError(f"no column ts_utc nor any other of {', '.join(_TIMES)}")
    key = next((name for name in ("ba", "zone") if name in columns), None)
    if key is not None:
        return Format(time=time, zone=time_zone, cells=lambda row: _area(row, key))
    opsd = "cet_cest_timestamp" in columns
    cells = tuple(
        Cell(column, _kind(column), _opsd_unit(column) if opsd else unit_of(column), column)
        for column in columns
        if column not in (time, "cet_cest_timestamp")
    )
    return Format(time=time, zone=time_zone, cells=lambda row: cells, texts=True)


def unit_of(column: str) -> str:
    """Return the unit that the name of a column ends with, as ``kW``, ``EUR/MWh`` or ``g/kWh``; "": none."""
    power, rate = _POWER.search(column), _RATE.search(column)
    if power is not None:
        return _POWERS[power.group(1).lower()]
    if rate is None:
        return ""
    what = rate.group(1).lower()
    per = "kWh" if rate.group(2).lower() == "kwh" else "MWh"
    return f"{what if what in ('g', 'kg') else what.upper()}/{per}"


def _area(row: Row, key: str) -> Iterable[Cell]:
    for column, (kind, unit) in _WIDE.items():
        if column in row:
            yield Cell(f"{row[key]}/{column.removesuffix('_mw')}", kind, unit, column)


def _plant(row: Row) -> Iterable[Cell]:
    yield Cell(row["site"], _FUELS.get(row["kind"], Kind.OTHER), "MW", "available_mw")


def _curtailed(row: Row) -> Iterable[Cell]:
    # By nature neither sun nor wind: most of it is the market's.
    yield Cell(f"{row['fuel'].lower()}/{row['reason'].lower()}", Kind.OTHER, "MWh", "curtailed_mwh")


def _price(row: Row) -> Iterable[Cell]:
    yield Cell(row["zone"], Kind.OTHER, f"{row['currency']}/MWh", "price_per_mwh")


def _entsoe(columns: Sequence[str], time: str, time_zone: str) -> Format:
    """Return how files of ENTSO-E's transparency platform are read, those of its old site and of its new."""
    zone = zone_of_header(time) or time_zone
    wide = {column: found.group(1) for column in columns if (found := _GENERATION.match(column))}
    price = next((column for column in columns if _DAY_AHEAD.match(column)), None)

    def generation(row: Row) -> Iterable[Cell]:
        for column, fuel in wide.items():
            yield _generated(row, fuel, column)

    def by_type(row: Row) -> Iterable[Cell]:
        yield _generated(row, row["Production Type"], "Generation (MW)")

    def day_ahead(row: Row) -> Iterable[Cell]:
        assert price is not None  # or it would not be chosen
        found = _DAY_AHEAD.match(price)
        assert found is not None
        # A zone may have several auctions; the first is the one that is meant.
        auction = row.get("Sequence") or ""
        more = f"/{auction}" if auction[-1:].isdigit() and not auction.endswith("1") else ""
        yield Cell((row.get("Area") or "price") + more, Kind.OTHER, f"{found.group(1)}/MWh", price)

    if wide:
        return Format(time=time, zone=zone, cells=generation)
    if "Production Type" in columns and "Generation (MW)" in columns:
        return Format(time=time, zone=zone, cells=by_type)
    if price is not None:
        return Format(time=time, zone=zone, cells=day_ahead)
    raise ValueError("a file of ENTSO-E without generation per type or day-ahead prices")


def _generated(row: Row, fuel: str, column: str) -> Cell:
    short = re.sub(r"[^a-z0-9]+", "_", fuel.lower()).strip("_")
    return Cell(f"{row.get('Area') or 'area'}/{short}", _FUELS.get(short, Kind.OTHER), "MW", column)


def _opsd_unit(column: str) -> str:
    if column.endswith("_price_day_ahead"):
        return "GBP/MWh" if column.startswith("GB_") else "EUR/MWh"
    return "" if column.endswith("_profile") else "MW"


def _kind(column: str) -> Kind:
    words = column.lower()
    if any(word in words for word in ("curtail", "price", "lmp", "capacity", "profile")):
        return Kind.OTHER
    if "solar" in words or "pv" in words.split("_"):
        return Kind.SUN
    return Kind.WIND if "wind" in words else Kind.OTHER
