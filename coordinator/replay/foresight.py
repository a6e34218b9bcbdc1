"""What the planner of a replay is told of the future: the truth, or what a forecaster makes of the past.

A `Foresight` is asked once for each site and step of the surplus; between two steps nothing new is known.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from coordinator.forecast.forecaster import Forecaster, SiteSurplus
from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.replay.world import Plant, World


class Foresight(Protocol):
    """Forecasts of one world."""

    def forecast(self, site: Plant, step: int) -> SurplusForecast | None:
        """Return what is foreseen for a site when a step begins; None: nothing.

        Parameters
        ----------
        site : Plant
            The site. Honest sources read its surplus up to and including `step`, nothing beyond.
        step : int
            Number of the step that has begun.
        """
        ...


MakeForesight = Callable[[World], Foresight]
"""Makes the foresight of one world: what `--forecast` names."""


class Perfect:
    """The trace itself, in all quantiles.

    Parameters
    ----------
    world : World
        The world that is foreseen.
    horizon_s : float
        How far, in seconds.
    """

    def __init__(self, world: World, horizon_s: float = 172_800.0) -> None:
        self._reach = max(1, round(horizon_s / world.step_s))
        self._world = world
        self._slots = {site.site_id: _slots(world, site) for site in world.sites}

    def forecast(self, site: Plant, step: int) -> SurplusForecast | None:
        """Return the rest of the trace, within the horizon."""
        slots = self._slots[site.site_id][step : step + self._reach]
        return SurplusForecast(
            issued_at=self._world.at(step * self._world.step_s), source="trace", slots=slots
        )


class Forecasted:
    """What a production forecaster says from the measurement of the step.

    Parameters
    ----------
    world : World
        The world that is foreseen.
    forecaster : Forecaster
        The one that the coordinator asks, too.
    """

    def __init__(self, world: World, forecaster: Forecaster) -> None:
        self._world = world
        self._forecaster = forecaster

    def forecast(self, site: Plant, step: int) -> SurplusForecast | None:
        """Ask the forecaster."""
        seen = SiteSurplus(site_id=site.site_id, surplus_w=site.surplus_w[step], published=None)
        return self._forecaster.forecast(self._world.at(step * self._world.step_s), seen)


def _slots(world: World, site: Plant) -> tuple[ForecastSlot, ...]:
    step = timedelta(seconds=world.step_s)
    return tuple(
        ForecastSlot(
            start_at=world.start_at + number * step,
            end_at=world.start_at + (number + 1) * step,
            p10_w=watts,
            p50_w=watts,
            p90_w=watts,
        )
        for number, watts in enumerate(site.surplus_w)
    )
