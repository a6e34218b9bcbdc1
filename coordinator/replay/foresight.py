"""What the planner of a replay is told of the future: the truth, or what a forecaster makes of the past.

A `Foresight` is asked once for each site and step of the surplus; between two steps nothing new is known.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby
from typing import Protocol

from coordinator.forecast.forecaster import Forecaster, SiteSurplus
from coordinator.forecast.series import SECONDS_PER_DAY
from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.import_cost import CostSlot, ImportCost
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

    def import_cost(self, site: Plant, step: int) -> ImportCost | None:
        """Return what import is foreseen to cost at a site, by the world's objective; None: nothing.

        Of `site` and `step` as above.
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
        self._ends = {name: [slot.end_at for slot in slots] for name, slots in self._slots.items()}

    def forecast(self, site: Plant, step: int) -> SurplusForecast | None:
        """Return the rest of the trace, within the horizon; equal steps are one slot."""
        now = self._world.at(step * self._world.step_s)
        last_at = self._world.at((step + self._reach) * self._world.step_s)
        ends = self._ends[site.site_id]
        slots = list(self._slots[site.site_id][bisect_right(ends, now) : bisect_left(ends, last_at) + 1])
        if slots:
            slots[-1] = replace(slots[-1], end_at=min(last_at, slots[-1].end_at))
            slots[0] = replace(slots[0], start_at=now)
        return SurplusForecast(issued_at=now, source="trace", slots=tuple(slots))

    def import_cost(self, site: Plant, step: int) -> ImportCost | None:
        """Return the trace, within the horizon."""
        signal = self._world.cost_of(site)
        return told_costs(self._world, step, signal.per_kwh[step : step + self._reach]) if signal else None


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

    def import_cost(self, site: Plant, step: int) -> ImportCost | None:
        """Take what import costs in the step to go on for a day."""
        signal = self._world.cost_of(site)
        steps = round(SECONDS_PER_DAY / self._world.step_s)
        return told_costs(self._world, step, signal.per_kwh[step : step + 1] * steps) if signal else None


def told_costs(world: World, step: int, per_kwh: Iterable[float | None]) -> ImportCost:
    """Return what import costs in the steps from one on; None: unknown."""
    return ImportCost(
        unit=world.cost_unit,
        slots=tuple(
            CostSlot(
                start_at=world.at(at * world.step_s), end_at=world.at((at + 1) * world.step_s), per_kwh=cost
            )
            for at, cost in enumerate(per_kwh, start=step)
            if cost is not None
        ),
    )


def _slots(world: World, site: Plant) -> tuple[ForecastSlot, ...]:
    slots = []
    first = 0
    for watts, run in groupby(site.surplus_w):
        end = first + sum(1 for _ in run)
        slots.append(
            ForecastSlot(
                start_at=world.at(first * world.step_s),
                end_at=world.at(end * world.step_s),
                p10_w=watts,
                p50_w=watts,
                p90_w=watts,
            )
        )
        first = end
    return tuple(slots)
