"""What waits to go up, coalesced: the newest report per job, the newest of what the site is and can do.

It outlives sessions, so that what happened while the link was down is told when it is back. Telemetry is not
here: it has its own store.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.model.forecast import PlantForecast
from agent.model.limits import Limit
from agent.model.orders import JobReport, MoveRequest, OrderAck
from agent.model.telemetry import GridStatus, SiteCapabilities

# Far more than a site has orders in flight; the oldest answer goes first, and its order comes again.
_ACKS_MAX = 1000
# The range is metered, so it is another one at every poll; what it says has not changed by that.
_RANGE_STEP = 0.02
# The instants of limits are reckoned from the boot clock at every look, on a calendar that may be slewed.
_SAME_INSTANT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """Ask for a running job's lease to be extended."""

    job_id: str
    epoch: int


Item = OrderAck | Renewal | MoveRequest | JobReport | SiteCapabilities | GridStatus | PlantForecast


class Outbox:
    """Items in order of urgency: answers, renewals, move requests, jobs, capabilities, grid, forecast.

    Parameters
    ----------
    refresh_s : float
        Seconds after which an unchanged grid status or forecast is told again.
    """

    def __init__(self, *, refresh_s: float = 30.0) -> None:
        self.wake = asyncio.Event()
        self._refresh_s = refresh_s
        self._acks: dict[str, OrderAck] = {}
        self._renewals: dict[str, Renewal] = {}
        self._moves: dict[str, MoveRequest] = {}
        self._jobs: dict[str, JobReport] = {}
        self._site: SiteCapabilities | None = None
        self._site_told: SiteCapabilities | None = None
        self._grid: GridStatus | None = None
        self._forecast: PlantForecast | None = None
        self._grid_told: tuple[GridStatus, float] | None = None
        self._forecast_told: tuple[PlantForecast, float] | None = None

    def put(self, item: Item) -> None:
        """Add an item; it replaces an older one of the same job or kind."""
        match item:
            case OrderAck():
                self._acks[item.order_id] = item
                if len(self._acks) > _ACKS_MAX:
                    del self._acks[next(iter(self._acks))]
            case Renewal():
                self._renewals[item.job_id] = item
            case MoveRequest():
                self._moves[item.job_id] = item
            case JobReport():
                self._jobs[item.job_id] = item
            case SiteCapabilities():
                if self._site_told is None or _same_site(item, self._site_told):
                    return  # the next Hello has it, or the last one had
                self._site = self._site_told = item
            case GridStatus():
                self._grid = item
                if self._grid_told is not None and _same(item, self._grid_told[0]):
                    return  # nothing new to say: it goes with the next refresh
            case PlantForecast():
                self._forecast = item
        self.wake.set()

    def put_back(self, item: Item) -> None:
        """Return an item that was taken but not written, unless a newer one has come.

        A renewal is not returned: it is counted from its sending, and the agent asks again by itself.
        """
        match item:
            case OrderAck():
                self._acks.setdefault(item.order_id, item)
            case MoveRequest():
                self._moves.setdefault(item.job_id, item)
            case JobReport():
                self._jobs.setdefault(item.job_id, item)

    def begin_session(self, site: SiteCapabilities) -> None:
        """Tell grid status and forecast anew: this peer knows only `site`, what Hello said."""
        self._site, self._site_told = None, site
        self._grid_told = self._forecast_told = None

    def take(self, now_s: float) -> Item | None:
        """Take the most urgent item.

        Parameters
        ----------
        now_s : float
            CLOCK_BOOTTIME.

        Returns
        -------
        item or None
            None when nothing is to be told now.
        """
        for queue in (self._acks, self._renewals, self._moves, self._jobs):
            if queue:
                item: Item = queue.pop(next(iter(queue)))
                return item
        if self._site is not None:
            site, self._site = self._site, None
            return site
        if self._grid is not None and self._is_due(self._grid, self._grid_told, now_s):
            self._grid_told = (self._grid, now_s)
            return self._grid
        if self._forecast is not None and self._is_due(self._forecast, self._forecast_told, now_s):
            self._forecast_told = (self._forecast, now_s)
            return self._forecast
        return None

    def _is_due(
        self,
        item: GridStatus | PlantForecast,
        told: tuple[GridStatus | PlantForecast, float] | None,
        now_s: float,
    ) -> bool:
        return told is None or now_s - told[1] >= self._refresh_s or not _same(item, told[0])


def _same(item: GridStatus | PlantForecast, told: GridStatus | PlantForecast) -> bool:
    """Whether two say the same; a status of another instant, or of nearly the same range, is no news."""
    if isinstance(item, GridStatus) and isinstance(told, GridStatus):
        rest = replace(
            item,
            measured_at=told.measured_at,
            envelope=replace(item.envelope, limits=told.envelope.limits, coming=told.envelope.coming),
            exports=told.exports,
            achievable_min_w=told.achievable_min_w,
            achievable_max_w=told.achievable_max_w,
        )
        return (
            rest == told
            and _same_limits(item.envelope.limits, told.envelope.limits)
            and _same_limits(item.envelope.coming, told.envelope.coming)
            and _same_limits(item.exports, told.exports)
            and _near(item.achievable_min_w, told.achievable_min_w)
            and _near(item.achievable_max_w, told.achievable_max_w)
        )
    return item == told


def _same_site(item: SiteCapabilities, told: SiteCapabilities) -> bool:
    """Whether two say the same, but for the free space, which is never the same."""
    return replace(item, storage_free_bytes=told.storage_free_bytes) == told


def _same_limits(limits: Sequence[Limit], told: Sequence[Limit]) -> bool:
    return len(limits) == len(told) and all(map(_same_limit, limits, told))


def _same_limit(limit: Limit, told: Limit) -> bool:
    return (
        replace(limit, start_at=told.start_at, end_at=told.end_at) == told
        and _same_instant(limit.start_at, told.start_at)
        and _same_instant(limit.end_at, told.end_at)
    )


def _same_instant(at: datetime | None, told_at: datetime | None) -> bool:
    if at is None or told_at is None:
        return at is told_at
    return abs(at - told_at) < _SAME_INSTANT


def _near(power_w: float | None, told_w: float | None) -> bool:
    if power_w is None or told_w is None:
        return power_w is told_w
    return math.isclose(power_w, told_w, rel_tol=_RANGE_STEP)
