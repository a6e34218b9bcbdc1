"""The fail-safe machines of the operators' links: of each for the import, of some for the export as well.

A heartbeat is heard for both directions; a command ends the fail-safe of its own direction and no other.
"""

import logging
from collections.abc import Callable, Iterable

from agent.core import failsafe
from agent.core.failsafe import CONTROLLED, Event, FailsafeSettings, Machine
from agent.core.limits import HeldCommand, Timeline, link_of
from agent.model.limits import GridState, LimitKind

log = logging.getLogger(__name__)


class Guards:
    """One machine per link and direction.

    Parameters
    ----------
    links : iterable of str
        Links that owe us heartbeats; each has a fail-safe limit of the import.
    exporting : iterable of str
        Those of them that have one of the export too.
    in_force : callable
        The fail-safe settings in force for a link.
    now_boot_s : float
        CLOCK_BOOTTIME now, in seconds.
    """

    def __init__(
        self,
        *,
        links: Iterable[str],
        exporting: Iterable[str],
        in_force: Callable[[str], FailsafeSettings],
        now_boot_s: float,
    ) -> None:
        self._in_force = in_force
        imports = [(link, LimitKind.IMPORT_CAPACITY_LIMIT) for link in links]
        exports = [(link, LimitKind.EXPORT_CAPACITY_LIMIT) for link in exporting]
        self._machines: dict[tuple[str, LimitKind], Machine] = {}
        for link, kind in (*imports, *exports):
            self._machines[link, kind] = failsafe.cold_start(now_boot_s, in_force(link))

    def restart(self, now_boot_s: float) -> None:
        """Have every link start anew, in INIT, with the settings in force."""
        for link, kind in self._machines:
            self._machines[link, kind] = failsafe.cold_start(now_boot_s, self._in_force(link))

    def of(self, kind: LimitKind) -> dict[str, Machine]:
        """Return the machine of each link for one direction, as last stepped."""
        return {link: machine for (link, each), machine in self._machines.items() if each is kind}

    def hear(self, link: str, now_boot_s: float) -> bool:
        """Take a heartbeat; say whether the link owes us any."""
        heard = [key for key in self._machines if key[0] == link]
        for key in heard:
            self._step(key, Event.HEARTBEAT, now_boot_s)
        return bool(heard)

    def told(self, held: HeldCommand, now_boot_s: float) -> None:
        """Take a new command that was accepted and stored; one that begins later says nothing of now."""
        command = held.command
        key = (link_of(command.source), command.kind)
        if key in self._machines and held.in_force(now_boot_s):
            self._step(key, Event.RELEASE if command.is_release else Event.LIMIT, now_boot_s)

    def settle(self, timeline: Timeline, now_boot_s: float) -> None:
        """Let deadlines take effect, and bring each state in line with its part of the timeline."""
        for key in self._machines:
            self._step(key, Event.TICK, now_boot_s)
            link, kind = key
            state = self._machines[key].state
            if state not in CONTROLLED:
                continue
            limited = any(
                link_of(held.command.source) == link for held in timeline.limiting(now_boot_s, kind)
            )
            if limited and state is GridState.UNLIMITED:
                self._step(key, Event.LIMIT_BEGAN, now_boot_s)
            elif not limited and state is GridState.LIMITED:
                self._step(key, Event.LIMIT_ENDED, now_boot_s)

    def _step(self, key: tuple[str, LimitKind], event: Event, now_boot_s: float) -> None:
        link, kind = key
        before = self._machines[key]
        after = failsafe.step(before, event, now_boot_s, self._in_force(link))
        self._machines[key] = after
        if after.state is not before.state:
            log.info(
                "the grid state has changed",
                extra={
                    "source": link,
                    "kind": kind.value,
                    "state": after.state.value,
                    "was": before.state.value,
                },
            )
