"""The forecast where nobody gives one: for a while, things stay as they are."""

from datetime import datetime, timedelta
from math import ceil

from coordinator.forecast.forecaster import SiteSurplus
from coordinator.model.forecast import ForecastSlot, SurplusForecast


class PersistenceForecaster:
    """The measured surplus, held for a bounded horizon, with quantiles that widen with lead time.

    Parameters
    ----------
    horizon_s : float
        How far ahead it says anything, in seconds, > 0.
    slot_s : float
        Length of a slot in seconds, > 0; the last may be shorter.
    spread_frac_per_s : float
        How fast p10 and p90 leave the median: fraction of the measured surplus for each second of lead
        at the end of a slot, >= 0. p10 reaches 0 after 1 / spread_frac_per_s.
    """

    def __init__(self, *, horizon_s: float, slot_s: float, spread_frac_per_s: float) -> None:
        self._horizon_s = horizon_s
        self._slot_s = slot_s
        self._spread_frac_per_s = spread_frac_per_s

    def forecast(self, now: datetime, seen: SiteSurplus) -> SurplusForecast | None:
        """Return the measured surplus, held; None when nothing is measured."""
        if seen.surplus_w is None:
            return None
        count = ceil(self._horizon_s / self._slot_s)
        ends_s = [min((i + 1) * self._slot_s, self._horizon_s) for i in range(count)]
        starts_s = [0.0, *ends_s[:-1]]
        slots = tuple(
            self._slot(now, start_s, end_s, seen.surplus_w)
            for start_s, end_s in zip(starts_s, ends_s, strict=True)
        )
        return SurplusForecast(issued_at=now, source="persistence", slots=slots)

    def _slot(self, now: datetime, start_s: float, end_s: float, surplus_w: float) -> ForecastSlot:
        spread_w = surplus_w * self._spread_frac_per_s * end_s
        return ForecastSlot(
            start_at=now + timedelta(seconds=start_s),
            end_at=now + timedelta(seconds=end_s),
            p10_w=max(0.0, surplus_w - spread_w),
            p50_w=surplus_w,
            p90_w=surplus_w + spread_w,
        )
