"""What a replayed policy is told of the demo's day: the forecasts that the coordinator would have learnt.

From the same past, and from what was metered up to the moment of each forecast; never from what came.
"""

from bisect import bisect_right
from datetime import timedelta
from operator import itemgetter

from coordinator.cli.demo import world as w
from coordinator.forecast.forecaster import FirstOf, SiteSurplus
from coordinator.forecast.learnt import Learner, LearntForecaster
from coordinator.forecast.persistence import PersistenceForecaster
from coordinator.forecast.pupil import Pupil
from coordinator.forecast.series import Series
from coordinator.model.forecast import SurplusForecast
from coordinator.replay.scenario import Scenario, SiteTrace

_MAX_SLOTS = 3.0  # as the daemon's own


class Hindsight:
    """A `Foresight` of the replay engine.

    Parameters
    ----------
    world : World
        The demo's.
    pasts : mapping of str to Series
        Each site's surplus before the day, the node's idle draw taken off as from the traces.
    scenario : Scenario
        The day as it was metered.
    """

    def __init__(self, world: w.World, pasts: dict[str, Series], scenario: Scenario) -> None:
        held_s = world.persistence_s
        self._chain = FirstOf(
            (
                LearntForecaster(max_age_s=_MAX_SLOTS * world.slot_s),
                PersistenceForecaster(horizon_s=held_s, slot_s=held_s / 12, spread_frac_per_s=1 / held_s),
            )
        )
        learner = Learner(leads=w.AHEAD_SLOTS)
        self._learnt = {
            site.site_id: _learnt(learner, pasts[site.site_id], site, scenario) for site in scenario.sites
        }

    def __call__(self, site: SiteTrace, scenario: Scenario, now_s: float) -> SurplusForecast | None:
        """Return the forecast that held at an instant."""
        known = self._learnt[site.site_id]
        index = bisect_right(known, now_s, key=itemgetter(0))
        point = bisect_right(site.points, now_s, key=itemgetter(0))
        seen = SiteSurplus(
            site_id=site.site_id,
            surplus_w=site.points[point - 1][1] if point else None,
            published=None,
            learnt=known[index - 1][1] if index else None,
        )
        return self._chain.forecast(scenario.start_at + timedelta(seconds=now_s), seen)


def _learnt(
    learner: Learner, past: Series, site: SiteTrace, scenario: Scenario
) -> list[tuple[float, SurplusForecast | None]]:
    """Return what was learnt of a site, and from when on it was known, in seconds from the start."""
    pupil = Pupil.begin(learner, past)
    while pupil.rehearses:
        pupil.learnt(*pupil.lesson(past.end_at).learn())
    issued: list[tuple[float, SurplusForecast | None]] = [(0.0, pupil.forecast)]
    for at_s, surplus_w in site.points:
        now = scenario.start_at + timedelta(seconds=at_s)
        while pupil.is_due(now):
            pupil.learnt(*pupil.lesson(now).learn())
            issued.append((max(0.0, at_s), pupil.forecast))
        if surplus_w is not None:
            pupil.take(now, surplus_w)
    return issued
