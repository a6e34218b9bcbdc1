"""The forecast that a site publishes, as long as it can be believed."""

from datetime import datetime

from coordinator.forecast.forecaster import SiteSurplus
from coordinator.model.forecast import SurplusForecast


class FeedForecaster:
    """Passes on what the site published unless it is stale, from the future, or over.

    Parameters
    ----------
    max_age_s : float
        Oldest issue that is used, in seconds, > 0.
    max_skew_s : float
        How far in the future an issue may lie, since clocks differ, in seconds.
    """

    def __init__(self, *, max_age_s: float, max_skew_s: float = 5.0) -> None:
        self._max_age_s = max_age_s
        self._max_skew_s = max_skew_s

    def forecast(self, now: datetime, seen: SiteSurplus) -> SurplusForecast | None:
        """Return the published forecast; None when there is none that can be used."""
        published = seen.published
        if published is None or not published.slots or published.slots[-1].end_at <= now:
            return None
        age_s = (now - published.issued_at).total_seconds()
        return published if -self._max_skew_s <= age_s <= self._max_age_s else None
