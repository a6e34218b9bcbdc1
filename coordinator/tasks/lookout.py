"""How the fleet looks now, for whoever decides or judges: what is stored, what is live, what is foretold."""

from collections.abc import Callable, Mapping
from datetime import datetime

from coordinator.core.declared import declared_at, with_declared
from coordinator.core.view import ViewSettings, build_view, fresh_sample, site_views
from coordinator.forecast.forecaster import Forecaster, SiteSurplus
from coordinator.model.forecast import SurplusForecast
from coordinator.model.live import Live, LiveSite
from coordinator.model.site import Quality
from coordinator.model.view import FleetView, SiteView
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.live import LiveBook
from sterna.clock import Clock


class Lookout:
    """Makes views of the present.

    Parameters
    ----------
    fleet, live : Fleet, LiveBook
        What is stored and what is live.
    forecaster : Forecaster
        For every site's future.
    settings : ViewSettings
        Defaults and bounds.
    clock : Clock
        For the instant.
    learnt : callable or None
        Returns what was learnt of a site; None: nobody learns.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        live: LiveBook,
        forecaster: Forecaster,
        settings: ViewSettings,
        clock: Clock,
        learnt: Callable[[str], SurplusForecast | None] | None = None,
    ) -> None:
        self._fleet = fleet
        self._live = live
        self._forecaster = forecaster
        self._settings = settings
        self._clock = clock
        self._learnt = learnt

    def view(self) -> FleetView:
        """Return the fleet as it is now."""
        now = self._clock.now()
        return build_view(self._fleet.state, self._live.sites, self._forecasts(now), now, self._settings)

    def sites(self) -> tuple[datetime, Mapping[str, SiteView]]:
        """Return the sites alone, which is much less where there are many jobs, and the instant."""
        now = self._clock.now()
        forecasts = self._forecasts(now)
        return now, site_views(self._fleet.state, self._live.sites, forecasts, now, self._settings)

    def _forecasts(self, now: datetime) -> dict[str, SurplusForecast | None]:
        live = self._live.sites
        return {site_id: self._forecast(site_id, live, now) for site_id in self._fleet.state.sites}

    def _forecast(self, site_id: str, live: Live, now: datetime) -> SurplusForecast | None:
        site = live.get(site_id, LiveSite())
        sample = fresh_sample(site, now, self._settings.stale_s)
        good = sample is not None and sample.quality is Quality.OK
        surplus_w = sample.surplus_w if sample is not None and good else None
        learnt = self._learnt(site_id) if self._learnt is not None else None
        seen = SiteSurplus(site_id=site_id, surplus_w=surplus_w, published=site.forecast, learnt=learnt)
        forecast = self._forecaster.forecast(now, seen)
        return with_declared(forecast, declared_at(site), now)
