"""Telling a device what was decided for it: sets, renews within its own timer, and lets go on the way out."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.core.setpoints import ExportLimit, Rule, SetState, decide, sight_of, wish_of, within_limits
from agent.devices.bus_setpoints import SetPoint
from agent.model.limits import Limit
from agent.tasks.sense import Senses
from sterna import pace
from sterna.clock import Clock
from sterna.errors import PeerProtocolError, SternaError, TransientError
from sterna.supervise import Heart

log = logging.getLogger(__name__)

LET_GO_S = 3.0
"""Time to tell a device on the way out; one that does not answer returns by its own timer."""
REFUSED_RETRY_S = 5.0
"""A device that has said no is not asked at once again."""


@dataclass(slots=True, kw_only=True)
class Steward:
    """Has one control of one device do what its rule says.

    Parameters
    ----------
    name : str
        For the log, e.g. ``inverter generation-limit``.
    device : str
        Name of the device's meter.
    rule : Rule
        As configured.
    point : SetPoint
        What is written to.
    senses : Senses
        What is metered.
    clock : Clock
        For durations.
    lasting : bool
        The device does not return by itself: what an earlier run left behind is ended at the start.
    exports : callable
        What operators say now of the site's export.
    """

    name: str
    device: str
    rule: Rule
    point: SetPoint
    senses: Senses
    clock: Clock
    lasting: bool = False
    exports: Callable[[], tuple[Limit, ...]] = tuple
    _state: SetState = field(default_factory=SetState)
    _owed: bool = False
    """The device is still to be let go."""
    _sure: bool = False
    """The last write was read back."""
    _retry_s: float = 0.0
    _fault: str = ""

    def __post_init__(self) -> None:
        self._owed = self.lasting

    async def step(self) -> None:
        """Decide, and write where it differs from what is in force or is to be renewed."""
        now_s = self.clock.boottime_s()
        sight = sight_of(self.senses.readings, self.senses.meters, self.device)
        rule = within_limits(self.rule, [limit.limit_w for limit in self.exports()])
        self._state = decide(rule, self._state, sight, now_s=now_s)
        unseen = sight.grid_w is None or sight.device_w is None
        if unseen and self._state.power_w is None and isinstance(rule, ExportLimit):
            # Until something is metered, or the grace ends, nothing is lifted that an earlier run has left.
            return
        if now_s < self._retry_s:
            return
        try:
            await self._write(now_s)
        except (SternaError, ValueError) as error:
            patient = not isinstance(error, TransientError)
            self._retry_s = now_s + (REFUSED_RETRY_S if patient else 0.0)
            self._tell(str(error))
        else:
            self._tell("")

    async def let_go(self) -> None:
        """End what is in force, within a few seconds; else the device's own timer does."""
        if self.point.wish is None and not self._owed:
            return
        if isinstance(self.rule, ExportLimit) and self.exports() and not self.lasting:
            # What an operator limits is not lifted by a restart of ours.
            log.info("a set-point is left to the device's timer", extra={"set_point": self.name})
            return
        try:
            async with asyncio.timeout(LET_GO_S):
                await self.point.release()
        except (TransientError, PeerProtocolError, TimeoutError) as error:
            log.warning("a set-point was left behind", extra={"set_point": self.name, "fault": str(error)})
        else:
            log.info("a set-point was ended", extra={"set_point": self.name})

    async def _write(self, now_s: float) -> None:
        wish = wish_of(self.rule, self._state)
        if wish is not None:
            if not self._sure or wish != self.point.wish or now_s >= self.point.due_s:
                begins, self._owed, self._sure = self.point.wish is None, False, False
                await self.point.apply(wish)
                self._sure = True
                if begins:
                    log.info("a set-point begins", extra={"set_point": self.name, "values": dict(wish)})
        elif self.point.wish is not None or self._owed:
            self._owed = True
            await self.point.release()
            self._owed = False
            log.info("a set-point was ended", extra={"set_point": self.name})

    def _tell(self, fault: str) -> None:
        if fault and fault != self._fault:
            log.warning("a set-point does not hold", extra={"set_point": self.name, "fault": fault})
        self._fault = fault


async def run_steward(steward: Steward, *, period_s: float, heart: Heart) -> None:
    """Keep a set-point for the daemon's life, `period_s` seconds between two looks."""
    while True:
        await steward.step()
        heart.beat()
        await pace.rest(period_s)
