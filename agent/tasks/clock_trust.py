"""Whether the calendar may be believed now: looked at every few seconds, told to whoever waits for it."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from sterna.supervise import Heart

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class ClockTrust:
    """The newest word on the calendar; until `look` was called for the first time it is not believed.

    Parameters
    ----------
    ask : callable
        Says whether the calendar is kept; None: nobody can tell, which counts as no. It may block.
    always : bool
        It is believed whatever is said of it: there is nothing to look at.
    synced : bool
        Whether it was kept at the last look.
    listeners : list
        Called on the event loop when it comes to be kept.
    """

    ask: Callable[[], bool | None]
    always: bool = False
    synced: bool = False
    listeners: list[Callable[[], None]] = field(default_factory=list)
    _told: bool | None = None

    def __call__(self) -> bool:
        """Say whether the calendar may be believed."""
        return self.synced

    def look(self) -> None:
        """Ask, and log what has changed."""
        if self.always:
            self.synced = True
            return
        said = self.ask()
        self.synced = said is True
        if self.synced is self._told:
            return
        if self.synced:
            log.info("the clock is synchronised")
        else:
            reason = "nobody can tell" if said is None else "not synchronised"
            log.warning(
                "the clock is not synchronised; until it is, only commands for less power are taken",
                extra={"reason": reason},
            )
        self._told = self.synced


async def run_clock_trust(trust: ClockTrust, *, period_s: float, heart: Heart) -> None:
    """Look at the clock for the daemon's life."""
    while True:
        heart.beat()
        before = trust.synced
        await asyncio.to_thread(trust.look)
        if trust.synced and not before:
            for listener in trust.listeners:
                listener()
        await asyncio.sleep(period_s)
