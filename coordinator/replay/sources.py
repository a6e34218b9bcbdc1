"""What the plants of a scenario leave over: which recorded traces are whose, and how they become watts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from coordinator.forecast.kinds import Kind
from coordinator.forecast.series import Series
from coordinator.forecast.traces import Reading, read_traces
from sterna.errors import ConfigError

Array = NDArray[np.float64]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_WATTS = {"W": 1.0, "kW": 1e3, "MW": 1e6, "GW": 1e9}
_SLOT_S = 60.0, 3600.0
"""The shortest and the longest step of a replay."""


class SurplusTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How traces become watts of surplus.

    ``generation``: a plant of `nameplate_w` whose output goes with the trace, full at the percentile and
    above. ``curtailment``: all that was curtailed, the percentile of the slots that had any being
    `nameplate_w`. ``power``: what the trace says, which is the site's own plant. `base_load_w` is taken off.
    """

    kind: Literal["generation", "curtailment", "power"]
    file: str = ""
    """Where sites name none of their own."""
    time_column: str = ""
    time_zone: str = ""
    unit: str = ""
    """``power``: W, kW, MW or GW where the name of the column does not end with it."""
    gaps: Literal["refuse", "zero"] = "refuse"
    """Slots that a trace lacks: a fault, or nothing was left over then, which is said."""
    percentile: float | None = None
    percentile_from: Instant | None = None
    percentile_until: Instant | None = None
    nameplate_w: float | None = None
    base_load_w: float = 0.0
    threshold_w: float = 0.0
    """A slot with less counts as none."""
    price_below_per_kwh: float | None = None
    """While a site's price is lower, `price_w` count as surplus at least; as ``[surplus]`` of an agent."""
    price_w: float = 0.0

    @property
    def reading(self) -> Reading:
        """Return what plain files do not say of themselves."""
        return Reading(time_column=self.time_column, time_zone=self.time_zone)

    def faults(self) -> Iterable[str]:
        """Yield what no single field shows."""
        if self.kind != "power":
            for name in ("percentile", "nameplate_w"):
                if getattr(self, name) is None:
                    yield f'surplus.{name}: missing: kind = "{self.kind}" needs it'
        if (self.price_below_per_kwh is None) != (self.price_w <= 0.0):
            yield "surplus.price_w: how many watts count below which price: give both, or neither"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where one site's surplus comes from: traces of a file, which add up."""

    file: str
    traces: tuple[str, ...]


class TraceFiles:
    """The files of traces in one folder, each read once."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._known: dict[tuple[str, Reading], dict[str, Series]] = {}

    def trace(self, file: str, name: str, reading: Reading, of: str) -> Series:
        """Return a trace.

        Raises
        ------
        ConfigError
            The file cannot be read or has no such trace; `of` says what it would be.
        """
        path = self._data_dir / file
        key = file, reading
        if key not in self._known:
            self._known[key] = read_traces(path, reading)
        if name not in self._known[key]:
            raise ConfigError(f"{path}: no trace {name}, {of}; it has {', '.join(self._known[key])}")
        return self._known[key][name]


def read_surplus(
    table: SurplusTable, sources: Mapping[str, Source], prices: Mapping[str, Series], files: TraceFiles
) -> tuple[dict[str, Series], tuple[str, ...]]:
    """Read the surplus of every site.

    Parameters
    ----------
    table : SurplusTable
        How.
    sources : mapping
        By site, from where.
    prices : mapping
        By site, per kilowatt-hour, where known.
    files : TraceFiles
        The files.

    Returns
    -------
    tuple
        Watts by site, and what there is to say of gaps that count as 0.

    Raises
    ------
    ConfigError
        A trace is missing, has gaps, or is none of what the table makes watts of.
    """
    found, notes = {}, []
    for site, source in sources.items():
        lines = [
            files.trace(source.file, name, table.reading, f"the surplus at {site}") for name in source.traces
        ]
        for name, line in zip(source.traces, lines, strict=True):
            notes += _gaps(f"{source.file}: {name}", line, table.gaps)
        if table.price_below_per_kwh is not None and site not in prices:
            raise ConfigError(f"fleet.sites: {site}: price: surplus.price_below_per_kwh needs one")
        if lines:
            found[site] = _watts(table, site, source, _summed(source, lines))
        elif table.price_below_per_kwh is not None:
            found[site] = replace(prices[site], values=np.zeros(len(prices[site].values)), unit="W")
        else:
            raise ConfigError(
                f"fleet.sites: {site}: traces: missing: which traces of which file are its surplus"
            )
        if table.price_below_per_kwh is not None:
            found[site] = _with_cheap(table, found[site], prices[site])
    return found, tuple(notes)


def step_s_of(surplus: Iterable[Series]) -> float:
    """Return the steps of a replay over such traces: the shortest slot of any.

    Raises
    ------
    ConfigError
        It is shorter than a minute or longer than an hour.
    """
    step_s = min(line.slot_s for line in surplus)
    if not _SLOT_S[0] <= step_s <= _SLOT_S[1]:
        raise ConfigError(f"traces of {step_s:g} s a slot: expected a minute to an hour")
    return step_s


def _gaps(where: str, line: Series, allowed: str) -> list[str]:
    missing = np.flatnonzero(np.isnan(line.values))
    if not len(missing):
        return []
    first_at = line.begin_at + timedelta(seconds=line.slot_s * int(missing[0]))
    said = (
        f"{where}: {len(missing)} of {len(line.values)} slots are missing, the first {first_at.isoformat()}"
    )
    if allowed == "refuse":
        raise ConfigError(f'{said}; surplus.gaps = "zero" counts them as 0')
    return [f"{said}; they count as 0"]


def _summed(source: Source, lines: list[Series]) -> Series:
    """Return the sum of traces over the time that all of them cover."""
    whole = lines[0]
    for name, line in zip(source.traces, lines, strict=True):
        if (line.slot_s, line.unit) != (whole.slot_s, whole.unit):
            raise ConfigError(
                f"{source.file}: {name} has slots of {line.slot_s:g} s in {line.unit or 'no unit'}, "
                f"{source.traces[0]} of {whole.slot_s:g} s in {whole.unit or 'no unit'}: expected the same"
            )
    begin_at, end_at = max(line.begin_at for line in lines), min(line.end_at for line in lines)
    slots = round((end_at - begin_at).total_seconds() / whole.slot_s)
    if slots < 1:
        raise ConfigError(f"{source.file}: {', '.join(source.traces)}: no time that all of them cover")
    total = np.zeros(slots)
    for line in lines:
        _, values = line.on(begin_at, line.slot_s)
        total = total + np.maximum(0.0, np.nan_to_num(values[:slots]))
    return replace(whole, end_at=end_at, values=total)


def _watts(table: SurplusTable, site: str, source: Source, plant: Series) -> Series:
    if table.kind == "power":
        factor = _WATTS.get(table.unit or plant.unit)
        if factor is None or (table.unit and plant.unit and table.unit != plant.unit):
            raise ConfigError(
                f"{source.file}: {source.traces[0]}, at {site}: surplus.unit {table.unit or 'is missing'}, "
                f"the file says {plant.unit or 'nothing'}: expected one of {', '.join(_WATTS)}"
            )
        output_w = factor * plant.values
    else:
        output_w = _scaled_w(table, site, source, plant)
    surplus_w = np.maximum(0.0, output_w - table.base_load_w)
    surplus_w = np.where(surplus_w < table.threshold_w, 0.0, surplus_w)
    return replace(plant, kind=Kind.OTHER, values=surplus_w, unit="W")


def _scaled_w(table: SurplusTable, site: str, source: Source, plant: Series) -> Array:
    assert table.percentile is not None and table.nameplate_w is not None  # `faults` has looked
    first, last = (
        None if at is None else max(0, int((at - plant.begin_at).total_seconds() // plant.slot_s))
        for at in (table.percentile_from, table.percentile_until)
    )
    counted = plant.values[first:last]
    if table.kind == "curtailment":
        counted = counted[counted > 0.0]
    full = float(np.percentile(counted, table.percentile)) if len(counted) else 0.0
    if not full > 0.0:
        raise ConfigError(
            f"{source.file}: {', '.join(source.traces)}, at {site}: the percentile {table.percentile:g} is 0"
        )
    share = plant.values / full
    return table.nameplate_w * (share if table.kind == "curtailment" else np.minimum(1.0, share))


def _with_cheap(table: SurplusTable, surplus: Series, price: Series) -> Series:
    """Return a surplus of `price_w` at least where the price is low; an unknown price is not low."""
    _, known = price.on(surplus.begin_at, surplus.slot_s)
    per_kwh = np.full(len(surplus.values), np.nan)
    per_kwh[: len(known)] = known[: len(per_kwh)]
    cheap = per_kwh < table.price_below_per_kwh
    return replace(surplus, values=np.where(cheap, np.maximum(surplus.values, table.price_w), surplus.values))
