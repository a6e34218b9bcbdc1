"""What a replayed policy is told of the demo's day: the forecasts that the coordinator would have learnt.

From the same past, and from what was metered up to the moment of each forecast; never from what came.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter

from coordinator.cli.demo import world as w
from coordinator.cli.demo.energy import surplus_at
from coordinator.core.ledger import PowerSample
from coordinator.forecast.forecaster import FirstOf, SiteSurplus
from coordinator.forecast.learnt import Learner, LearntForecaster
from coordinator.forecast.persistence import PersistenceForecaster
from coordinator.forecast.pupil import Pupil
from coordinator.forecast.series import Series
from coordinator.model.forecast import SurplusForecast
from coordinator.model.import_cost import ImportCost
from coordinator.replay.world import Plant, World

_MAX_SLOTS = 3.0  # as the daemon's own


class Hindsight:
    """A `Foresight` of the day as it was metered.

    Parameters
    ----------
    world : World
        The demo's.
    pasts : mapping of str to Series
        Each site's surplus before the day, the node's idle draw taken off as from the samples.
    rolls : mapping of str to sequence of PowerSample
        What was metered at each site, in order.
    day : World
        The day that is replayed.
    """

    def __init__(
        self,
        world: w.World,
        pasts: Mapping[str, Series],
        rolls: Mapping[str, Sequence[PowerSample]],
        day: World,
    ) -> None:
        self._day = day
        self._rolls = rolls
        held_s = world.persistence_s
        self._chain = FirstOf(
            (
                LearntForecaster(max_age_s=_MAX_SLOTS * world.slot_s),
                PersistenceForecaster(horizon_s=held_s, slot_s=held_s / 12, spread_frac_per_s=1 / held_s),
            )
        )
        learner = Learner(leads=w.AHEAD_SLOTS)
        self._learnt = {site_id: _learnt(learner, pasts[site_id], roll) for site_id, roll in rolls.items()}

    def forecast(self, site: Plant, step: int) -> SurplusForecast | None:
        """Return the forecast that held when a step began."""
        now = self._day.at(step * self._day.step_s)
        known, roll = self._learnt[site.site_id], self._rolls[site.site_id]
        index = bisect_right(known, now, key=itemgetter(0))
        seen = SiteSurplus(
            site_id=site.site_id,
            surplus_w=surplus_at(roll, now),
            published=None,
            learnt=known[index - 1][1] if index else None,
        )
        return self._chain.forecast(now, seen)

    def import_cost(self, site: Plant, step: int) -> ImportCost | None:
        """Return that nobody tells any."""
        return None


def _learnt(
    learner: Learner, past: Series, roll: Sequence[PowerSample]
) -> list[tuple[datetime, SurplusForecast | None]]:
    """Return what was learnt of a site, and from when on it was known."""
    pupil = Pupil.begin(learner, past)
    while pupil.rehearses:
        pupil.learnt(*pupil.lesson(past.end_at).learn())
    issued = [(past.end_at, pupil.forecast)]
    for sample in roll:
        while pupil.is_due(sample.at):
            pupil.learnt(*pupil.lesson(sample.at).learn())
            issued.append((sample.at, pupil.forecast))
        if sample.surplus_w is not None:
            pupil.take(sample.at, sample.surplus_w)
    return issued
