"""The desk's counts of breaches; they hear of every limit, even one that comes and goes between samples."""

import logging
from collections.abc import Mapping

from agent.core.breach import BreachTally, Flow, bind, export_of, fold, import_of
from agent.model.limits import Limit, LimitKind
from agent.model.readings import SitePower
from agent.store.commands import CommandStore
from sterna.clock import Clock

log = logging.getLogger(__name__)

_BROKEN = {
    LimitKind.IMPORT_CAPACITY_LIMIT: "the site imports more than its limit",
    LimitKind.EXPORT_CAPACITY_LIMIT: "the site exports more than its limit",
}


class Breaches:
    """Counts how often the site was above the limits that bound it, apart for import and export.

    Parameters
    ----------
    clock : Clock
        Both clocks.
    store : CommandStore
        Where the counts outlive the process.
    tolerance_w : float
        Meter error in watts that is no breach.
    """

    def __init__(self, *, clock: Clock, store: CommandStore, tolerance_w: float) -> None:
        self._clock = clock
        self._store = store
        self._tolerance_w = tolerance_w
        self.tallies = {kind: BreachTally() for kind in LimitKind}

    def bind(self, limits: Mapping[LimitKind, Limit | None]) -> None:
        """Note what binds from now on in each direction; None: nothing does."""
        now, now_boot_s = self._clock.now(), self._clock.boottime_s()
        for kind, limit in limits.items():
            self.tallies[kind] = bind(self.tallies[kind], limit, now=now, now_boot_s=now_boot_s)

    async def observe(
        self, power: SitePower, least_export_w: float | None, limits: Mapping[LimitKind, Limit | None]
    ) -> None:
        """Judge one sample against the binding limits, and keep the counts.

        Parameters
        ----------
        power : SitePower
            The sample.
        least_export_w : float or None
            Export with every plant off that can be curtailed, in watts; None: unknown.
        limits : mapping of LimitKind to Limit or None
            What binds now.
        """
        flows = {
            LimitKind.IMPORT_CAPACITY_LIMIT: import_of(power),
            LimitKind.EXPORT_CAPACITY_LIMIT: export_of(power, least_export_w),
        }
        for kind in [kind for kind, flow in flows.items() if self._breaks(kind, flow, limits[kind])]:
            await self._store.keep_tally(kind, self.tallies[kind])

    def _breaks(self, kind: LimitKind, flow: Flow, limit: Limit | None) -> bool:
        before = self.tallies[kind]
        after = self.tallies[kind] = fold(
            before,
            flow,
            limit,
            tolerance_w=self._tolerance_w,
            now=self._clock.now(),
            now_boot_s=self._clock.boottime_s(),
        )
        if after.episodes != before.episodes:
            log.error(_BROKEN[kind], extra={"power_w": flow.power_w, "limit_w": after.bound_w})
        return after.samples != before.samples
