"""Foresight of a replay from our own learnt forecasts: the very ones that the coordinator makes.

Reads of a site what was seen up to and including the step that has begun, never what comes. A forecast
depends on nothing that a policy does, so replays of one site over the same days share them.
"""

from datetime import datetime

import numpy as np

from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Learner, Part, SiteMemory, surplus_forecast
from coordinator.forecast.series import Series
from coordinator.model.forecast import SurplusForecast
from coordinator.replay.world import Plant, World

_Key = tuple[str, datetime, float, tuple[float, ...], tuple[float, ...]]
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
        self._known: dict[_Key, _LearntSite] = {}

    def __call__(self, world: World) -> "Learnt":
        """Return what is foreseen in a world."""
        return Learnt({site.site_id: self._site(world, site) for site in world.sites})

    def _site(self, world: World, site: Plant) -> "_LearntSite":
        key = (site.site_id, world.start_at, world.step_s, site.past_w, site.surplus_w)
        if key not in self._known:
            past = Series(
                # A plant of sun and wind less its own load: what remains has the course of neither.
                kind=Kind.OTHER,
                slot_s=world.step_s,
                end_at=world.start_at,
                values=np.array(site.past_w, dtype=np.float64),
            )
            self._known[key] = _LearntSite(self._learner, past, self._rehearse)
        return self._known[key]


class Learnt:
    """What is foreseen in one world.

    Parameters
    ----------
    sites : mapping
        By site id, whoever learns it.
    """

    def __init__(self, sites: "dict[str, _LearntSite]") -> None:
        self._sites = sites

    def forecast(self, site: Plant, step: int) -> SurplusForecast | None:
        """Return the forecast made when the step had been seen; None while too little is known."""
        return self._sites[site.site_id].forecast(site.surplus_w, step)


class _LearntSite:
    """One site's forecasts, made step by step as they are first asked for."""

    def __init__(self, learner: Learner, past: Series, rehearse: int) -> None:
        self._learner = learner
        self._past = past
        self._rehearse = rehearse
        self._memory: SiteMemory | None = None
        self._issued: list[SurplusForecast | None] = []

    def forecast(self, surplus_w: tuple[float, ...], step: int) -> SurplusForecast | None:
        if self._memory is None:
            self._memory = self._learner.begin([Part(series=self._past)], rehearse=self._rehearse)
        while len(self._issued) <= step:
            self._memory = self._learner.observe(self._memory, [surplus_w[len(self._issued)]])
            self._issued.append(surplus_forecast(self._memory))
        return self._issued[step]
