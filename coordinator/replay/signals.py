"""Prices and carbon intensity of a scenario's sites: which recorded trace is whose, step by step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from math import isnan

import msgspec
import numpy as np
from numpy.typing import NDArray

from coordinator.forecast.series import Series
from coordinator.forecast.traces import Reading
from coordinator.replay.sources import TraceFiles
from coordinator.replay.world import Signal
from sterna.errors import ConfigError

Array = NDArray[np.float64]
_PER = {"kWh": 1.0, "MWh": 1e-3}
_GRAMS = {"g": 1.0, "kg": 1e3, "t": 1e6}


class SignalTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[price]`` or ``[carbon]``: a file with a trace for each site that names one.

    `unit`: of its figures where the file does not say it, as ``EUR/MWh`` or ``g/kWh``.
    """

    file: str
    unit: str = ""
    time_column: str = ""
    time_zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signals:
    """The traces of one signal, by site, in `money` or grams per kilowatt-hour; a site without is unknown."""

    money: str = ""
    series: Mapping[str, Series]

    def on(self, site_id: str, start_at: datetime, step_s: float) -> Signal | None:
        """Return a site's signal in a world that begins at `start_at`, by its steps; None: unknown."""
        series = self.series.get(site_id)
        if series is None:
            return None
        past, ahead = series.on(start_at, step_s)
        return Signal(per_kwh=_known(ahead), past=_known(past))


def read_signals(
    what: str, table: SignalTable | None, names: Mapping[str, str], files: TraceFiles
) -> Signals:
    """Read a signal.

    Parameters
    ----------
    what : str
        ``price`` or ``carbon``.
    table : SignalTable or None
        None: the scenario has none, and no site may name a trace.
    names : mapping
        By site, which trace; "": none.
    files : TraceFiles
        Where the file is.

    Raises
    ------
    ConfigError
        A site names a trace that is not there, or its unit is none of such a signal, or not the others'.
    """
    named = {site: name for site, name in names.items() if name}
    if table is None:
        if named:
            raise ConfigError(f"fleet.sites: {', '.join(named)}: {what}: needs a table [{what}]")
        return Signals(series={})
    reading = Reading(time_column=table.time_column, time_zone=table.time_zone)
    found, units = {}, set()
    for site, name in named.items():
        line = files.trace(table.file, name, reading, f"the {what} at {site}")
        money, factor = _unit(what, f"{table.file}: {name}", line.unit, table.unit)
        found[site] = replace(line, values=factor * line.values)
        units.add(money)
    if len(units) > 1:
        raise ConfigError(f"{table.file}: prices in {' and '.join(sorted(units))}: expected one currency")
    return Signals(money=units.pop() if units and what == "price" else "", series=found)


def _unit(what: str, where: str, told: str, asked: str) -> tuple[str, float]:
    """Return the money or mass of a unit, and what its figures are multiplied with."""
    if told and asked and told != asked:
        raise ConfigError(f"{where} is in {told}, the scenario's {what}.unit is {asked}")
    mass_or_money, _, per = (told or asked).partition("/")
    factor = _PER.get(per, 0.0) * (
        _GRAMS.get(mass_or_money, 0.0) if what == "carbon" else bool(mass_or_money)
    )
    if not factor:
        expected = "g/kWh or kg/MWh" if what == "carbon" else "a currency, as EUR/MWh"
        raise ConfigError(f"{where}: {what}.unit {told or asked or 'is missing'}: expected {expected}")
    return mass_or_money, factor


def _known(values: Array) -> tuple[float | None, ...]:
    return tuple(None if isnan(value) else value for value in values.tolist())
