"""The fail-safe machines of the operators' links: of each for the import, of some for the export as well.

A heartbeat is heard for both directions; a command ends the fail-safe of its own direction and no other.
"""

import logging
import math
from collections.abc import Callable, Iterable

from agent.core import failsafe
from agent.core.failsafe import Event, FailsafeSettings, Machine
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
        self._settled: Timeline | None = None
        """With which no state changes before `_settled_until_s`; None: look again."""
        self._settled_until_s = -math.inf
        self._machines: dict[tuple[str, LimitKind], Machine] = {}
        for link, kind in (*imports, *exports):
            self._machines[link, kind] = failsafe.cold_start(now_boot_s, in_force(link))

    def restart(self, now_boot_s: float) -> None:
        """Have every link start anew, in INIT, with the settings in force."""
        self._settled = None
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
        if timeline is self._settled and now_boot_s < self._settled_until_s:
            return
        limited = {
            kind: {link_of(held.command.source) for held in timeline.limiting(now_boot_s, kind)}
            for kind in LimitKind
        }
        for key in self._machines:
            link, kind = key
            self._step(key, Event.TICK, now_boot_s)
            state = self._machines[key].state
            if state is GridState.UNLIMITED and link in limited[kind]:
                self._step(key, Event.LIMIT_BEGAN, now_boot_s)
            elif state is GridState.LIMITED and link not in limited[kind]:
                self._step(key, Event.LIMIT_ENDED, now_boot_s)
        due_s = map(failsafe.due_s, self._machines.values())
        self._settled = timeline
        self._settled_until_s = min([timeline.steady_until_s(now_boot_s), *due_s])

    def _step(self, key: tuple[str, LimitKind], event: Event, now_boot_s: float) -> None:
        self._settled = None
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
