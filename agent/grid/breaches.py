"""The desk's count of breaches. It hears of every limit, also of one that comes and goes between samples."""

import logging

from agent.core.breach import BreachTally, bind, fold
from agent.grid.ports import GridStore
from agent.model.limits import Limit
from agent.model.readings import SitePower
from sterna.clock import Clock

log = logging.getLogger(__name__)


class Breaches:
    """Counts how often the site was above the limit that bound it.

    Parameters
    ----------
    clock : Clock
        Both clocks.
    store : GridStore
        Where the count outlives the process.
    tolerance_w : float
        Meter error in watts that is no breach.
    """

    def __init__(self, *, clock: Clock, store: GridStore, tolerance_w: float) -> None:
        self._clock = clock
        self._store = store
        self._tolerance_w = tolerance_w
        self.tally = BreachTally()

    def bind(self, limit: Limit | None) -> None:
        """Note what binds from now on; None: nothing does."""
        self.tally = bind(self.tally, limit, now=self._clock.now(), now_boot_s=self._clock.boottime_s())

    async def observe(self, power: SitePower, limit: Limit | None) -> BreachTally:
        """Judge one sample against the binding limit, and keep the count."""
        before = self.tally
        self.tally = fold(
            before,
            power,
            limit,
            tolerance_w=self._tolerance_w,
            now=self._clock.now(),
            now_boot_s=self._clock.boottime_s(),
        )
        if self.tally.episodes != before.episodes:
            log.error("the site imports more than its limit", extra={"grid_w": power.grid_w})
        if self.tally.samples != before.samples:
            await self._store.keep_tally(self.tally)
        return self.tally
