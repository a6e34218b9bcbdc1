"""Our own forecast: ensembles from the site's own past, leant on climatology, recalibrated as time goes on.

`Learner` turns a memory and one more slot of measurements into the next memory; the forecast lies in it, made
once per slot, so that a planning tick only reads. The memory is a value: whoever keeps it decides where.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

import numpy as np

from coordinator.core.confidence import QUANTILES
from coordinator.forecast import calibration, simple
from coordinator.forecast.blend import fading, leant, widened
from coordinator.forecast.calibration import Calibration
from coordinator.forecast.courses import joint_paths
from coordinator.forecast.forecaster import SiteSurplus
from coordinator.forecast.kinds import Kind
from coordinator.forecast.members import GROWN_DAYS, members
from coordinator.forecast.series import Array, Series
from coordinator.model.forecast import ForecastSlot, SurplusForecast
from sterna.errors import PermanentError

SOURCE = "learnt"
_KEEP_DAYS = 240
_MOST_DAYS = 7  # the features of `level` reach back that far
_LEAN_DAYS = 45
_LEAN_MOST = {Kind.SUN: 0.3, Kind.WIND: 0.7, Kind.OTHER: 0.3}
_SHORT_DAYS = 3  # with less, climatology says nothing
_LEAN_DAY_FRAC = 1.0  # days of lead until the leaning has grown to 1 - 1/e of its most

_Say = Callable[[Series, int, int], Array | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One term of what is forecast: generation with sign 1, load with sign -1."""

    series: Series
    sign: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteMemory:
    """All that a site's forecast is made from, and the forecast itself.

    `parts`: same slots and end; their signed sum is forecast. `paths` (P, K): the courses of the sum, None
    while nothing can be said.
    """

    parts: tuple[Part, ...]
    calibration: Calibration
    paths: Array | None

    @property
    def end_at(self) -> datetime:
        """When the last slot that is known ends, and the forecast begins."""
        return self.parts[0].series.end_at

    @property
    def leads(self) -> int:
        """How many slots are looked ahead."""
        return int(self.calibration.factors.shape[1])


class Learner:
    """Makes a site's next memory from its last.

    Parameters
    ----------
    leads : int
        Slots to look ahead, > 0; a week at most.
    paths : int
        Courses in the ensemble; 100 resolve p10 and p90 well.
    rate : float
        Speed of the recalibration, > 0; see `calibration.learn`. 0 leaves the ensemble as it is.
    """

    def __init__(self, *, leads: int = 48, paths: int = 100, rate: float = 0.03) -> None:
        self._leads = leads
        self._paths = paths
        self._rate = rate

    @property
    def leads(self) -> int:
        """Slots looked ahead."""
        return self._leads

    def begin(self, parts: Sequence[Part], rehearse: int = 0) -> SiteMemory:
        """Return the memory of a site whose past is known.

        Parameters
        ----------
        parts : sequence of Part
            Same slot length, slot count and end.
        rehearse : int
            How many of the last slots to go through one by one, so that the recalibration has settled;
            each costs as much as a forecast.

        Raises
        ------
        PermanentError
            The parts do not cover the same slots, or more than a week is to be looked ahead.
        """
        first = parts[0].series
        if self._leads > _MOST_DAYS * first.per_day:
            raise PermanentError(f"a forecast looks a week ahead at most, not {self._leads} slots")
        for part in parts:
            one = part.series
            same = (one.slot_s, one.day_s, one.end_at) == (first.slot_s, first.day_s, first.end_at)
            if not same or len(part.series.values) != len(first.values):
                raise PermanentError("the parts of a forecast must cover the same slots")
        known = max(0, len(first.values) - rehearse)
        start = tuple(replace(part, series=part.series.until(known)) for part in parts)
        memory = self._issue(start, calibration.fresh(self._leads))
        for slot in range(known, len(first.values)):
            values = [float(part.series.values[slot]) for part in parts]
            memory = self.observe(memory, [None if np.isnan(value) else value for value in values])
        return memory

    def observe(self, memory: SiteMemory, values: Sequence[float | None]) -> SiteMemory:
        """Return the memory one slot on.

        Parameters
        ----------
        memory : SiteMemory
            Up to the slot before.
        values : sequence of float or None
            Mean of each part over the slot, in the order of the parts; None: not measured. A slot must not
            be left out: one that nobody saw is observed as None.
        """
        parts = tuple(
            replace(part, series=part.series.append(value, _KEEP_DAYS * part.series.per_day))
            for part, value in zip(memory.parts, values, strict=True)
        )
        known = [value for value in values if value is not None]
        total = (
            sum(part.sign * value for part, value in zip(parts, known, strict=True))
            if len(known) == len(parts)
            else None
        )
        return self._issue(parts, calibration.learn(memory.calibration, total, self._rate))

    def _issue(self, parts: tuple[Part, ...], state: Calibration) -> SiteMemory:
        raw = self._ensemble(parts)
        if raw is None:
            return SiteMemory(parts=parts, calibration=calibration.issued(state, None), paths=None)
        paths = calibration.stretched(state, raw)
        if all(part.sign > 0 and not np.nanmin(part.series.values, initial=0.0) < 0.0 for part in parts):
            paths = np.maximum(paths, 0.0)
        bounds = np.quantile(paths, (calibration.TAIL, 1.0 - calibration.TAIL), axis=0)
        return SiteMemory(parts=parts, calibration=calibration.issued(state, bounds), paths=paths)

    def _ensemble(self, parts: tuple[Part, ...]) -> Array | None:
        climate = self._plain(parts, partial(simple.climatology, days=_LEAN_DAYS))
        if climate is None:
            return None
        learnt = self._drawn(parts, climate)
        past = parts[0].series
        days = len(past.values) / past.per_day
        if learnt is not None and days >= GROWN_DAYS:
            return learnt
        held = self._plain(parts, simple.persistence)
        plain = widened(climate if held is None else fading(held, climate, past.per_day), days)
        young = (GROWN_DAYS - days) / (GROWN_DAYS - _SHORT_DAYS)
        return plain if learnt is None else leant(learnt, plain, young)

    def _plain(self, parts: tuple[Part, ...], say: _Say) -> Array | None:
        """Return a plain source's courses of the sum; None where it has none of a part."""
        told = [say(part.series, self._leads, self._paths) for part in parts]
        known = [part.sign * one for part, one in zip(parts, told, strict=True) if one is not None]
        return np.asarray(np.sum(known, axis=0)) if len(known) == len(parts) else None

    def _drawn(self, parts: tuple[Part, ...], climate: Array) -> Array | None:
        """Return what the parts' past teaches, leant on climatology; None while that is nothing."""
        drawn = [members(part.series, self._leads) for part in parts]
        known = [one for one in drawn if one is not None]
        if len(known) < len(parts):
            return None
        paths = joint_paths(known, [part.sign for part in parts], self._paths)
        return leant(paths, climate, _lean(parts, self._leads))


class LearntForecaster:
    """Gives out what a site's memory holds.

    Parameters
    ----------
    max_age_s : float
        How long after the last known slot a memory is believed, in seconds, > 0.
    """

    def __init__(self, *, max_age_s: float) -> None:
        self._max_age_s = max_age_s

    def forecast(self, now: datetime, seen: SiteSurplus) -> SurplusForecast | None:
        """Return the learnt forecast; None without a memory, with too short a past, or when it is stale."""
        if seen.learnt is None or (now - seen.learnt.issued_at).total_seconds() > self._max_age_s:
            return None
        return seen.learnt if seen.learnt.slots[-1].end_at > now else None


def surplus_forecast(memory: SiteMemory) -> SurplusForecast | None:
    """Return a memory's courses as a surplus forecast (nothing below 0 W); None when it has none.

    To be made once per slot and kept as `SiteSurplus.learnt`.
    """
    if memory.paths is None:
        return None
    paths = np.maximum(memory.paths, 0.0).astype(np.float32)
    stated = np.quantile(paths, QUANTILES, axis=0).tolist()
    slot_s = memory.parts[0].series.slot_s
    edges = [memory.end_at + timedelta(seconds=slot_s * slot) for slot in range(paths.shape[1] + 1)]
    slots = tuple(
        ForecastSlot(start_at=start_at, end_at=end_at, p10_w=p10, p50_w=p50, p90_w=p90)
        for start_at, end_at, p10, p50, p90 in zip(edges[:-1], edges[1:], *stated, strict=True)
    )
    return SurplusForecast(issued_at=memory.end_at, source=SOURCE, slots=slots, paths_w=paths)


def _lean(parts: tuple[Part, ...], leads: int) -> Array:
    """Return by lead how far the ensemble leans on climatology, 0 to 1; the parts' mean."""
    most = float(np.mean([_LEAN_MOST[part.series.kind] for part in parts]))
    days = np.arange(leads) / parts[0].series.per_day
    return most * (1.0 - np.exp(-days / _LEAN_DAY_FRAC))
