"""Foresight of a replay from our own learnt forecasts: the very ones that the coordinator makes.

Reads of a site what was seen up to and including the step that has begun, never what comes. A forecast
depends on nothing that a policy does, so replays of one site over the same days share them.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Learner, Part, SiteMemory, surplus_forecast
from coordinator.forecast.series import Series
from coordinator.model.forecast import SurplusForecast
from coordinator.model.import_cost import ImportCost
from coordinator.replay.foresight import told_costs
from coordinator.replay.world import Plant, World

T = TypeVar("T")
_Values = tuple[float | None, ...]
_Key = tuple[str, datetime, float, _Values, _Values]
"""All that a site's forecasts may depend on: its name, when its trace begins, the step, past and trace."""


class LearntSource:
    """Makes the foresight of any number of worlds and learns each site once; a `MakeForesight`.

    Parameters
    ----------
    leads : int
        Steps to look ahead, > 0.
    rehearse : int
        Steps before the start of a world that are gone through one by one, so that the recalibration has
        settled when the replay begins.
    """

    def __init__(self, *, leads: int = 48, rehearse: int = 168) -> None:
        self._learner = Learner(leads=leads)
        self._rehearse = rehearse
        self._surplus: dict[_Key, _LearntSeries[SurplusForecast | None]] = {}
        self._costs: dict[_Key, _LearntSeries[tuple[float, ...]]] = {}

    def __call__(self, world: World) -> "Learnt":
        """Return what is foreseen in a world."""
        surplus, costs = {}, {}
        for site in world.sites:
            key: _Key = (site.site_id, world.start_at, world.step_s, site.past_w, site.surplus_w)
            if key not in self._surplus:
                self._surplus[key] = self._learnt(key, surplus_forecast)
            surplus[site.site_id] = self._surplus[key]
            signal = world.cost_of(site)
            if signal is None:
                continue
            key = (site.site_id, world.start_at, world.step_s, signal.past, signal.per_kwh)
            if key not in self._costs:
                self._costs[key] = self._learnt(key, _means)
            costs[site.site_id] = self._costs[key]
        return Learnt(world, surplus, costs)

    def _learnt(self, key: _Key, tell: Callable[[SiteMemory], T]) -> "_LearntSeries[T]":
        _, start_at, step_s, past, trace = key
        series = _series(step_s, past, start_at)
        begin = partial(self._learner.begin, [Part(series=series)], rehearse=self._rehearse)
        return _LearntSeries(self._learner, begin, trace, tell)


def _means(memory: SiteMemory) -> tuple[float, ...]:
    """Return what is expected of each step to come; empty while too little is known."""
    return () if memory.paths is None else tuple(memory.paths.mean(axis=0).tolist())


def _at(trace: _Values, step: int) -> float | None:
    return trace[step] if step < len(trace) else None


def scored_course(world: World, site: Plant, leads: int) -> tuple[Series, int]:
    """Return what a replay has foretold, past, period and `leads` more, and the step with which it begins."""
    steps = round(world.period_s / world.step_s) + leads
    ahead_w = site.surplus_w[:steps]
    end_at = world.at(len(ahead_w) * world.step_s)
    return _series(world.step_s, (*site.past_w, *ahead_w), end_at), len(site.past_w)


def _series(step_s: float, past: Sequence[float | None], end_at: datetime) -> Series:
    # A plant of sun and wind less its own load: what remains has the course of neither.
    values = np.array(past, dtype=np.float64)
    return Series(kind=Kind.OTHER, slot_s=step_s, end_at=end_at, values=values)


class Learnt:
    """What is foreseen in one world.

    Parameters
    ----------
    world : World
        The world.
    surplus, costs : mapping
        By site id, whoever learns its surplus, and what its import costs.
    """

    def __init__(
        self,
        world: World,
        surplus: "Mapping[str, _LearntSeries[SurplusForecast | None]]",
        costs: "Mapping[str, _LearntSeries[tuple[float, ...]]]",
    ) -> None:
        self._world = world
        self._surplus = surplus
        self._costs = costs

    def forecast(self, site: Plant, step: int) -> SurplusForecast | None:
        """Return the forecast made when the step had been seen; None while too little is known."""
        return self._surplus[site.site_id].told(step)

    def import_cost(self, site: Plant, step: int) -> ImportCost | None:
        """Return what import costs in the step, and then as expected when that had been seen."""
        learnt, signal = self._costs.get(site.site_id), self._world.cost_of(site)
        if learnt is None or signal is None:
            return None
        return told_costs(self._world, step, (_at(signal.per_kwh, step), *learnt.told(step)))


class _LearntSeries(Generic[T]):
    """What is told of one series, made step by step as it is first asked for."""

    def __init__(
        self,
        learner: Learner,
        begin: Callable[[], SiteMemory],
        trace: _Values,
        tell: Callable[[SiteMemory], T],
    ) -> None:
        self._learner = learner
        self._begin = begin
        self._trace = trace
        self._tell = tell
        self._memory: SiteMemory | None = None
        self._told: list[T] = []

    def told(self, step: int) -> T:
        """Return what was told when a step had been seen."""
        while len(self._told) <= step:
            memory = self._memory or self._begin()
            self._memory = self._learner.observe(memory, [_at(self._trace, len(self._told))])
            self._told.append(self._tell(self._memory))
        return self._told[step]
