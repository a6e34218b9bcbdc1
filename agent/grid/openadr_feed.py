"""From the plan to the desk: sends what has changed, in order, and knows what the desk already holds.

The desk judges and stores each command like any other; a plan that did not get through as a whole is sent
again as a whole.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from agent.core.failsafe import PROTECTED, Machine
from agent.core.limits import export_source
from agent.core.openadr.commands import request
from agent.core.openadr.plan import Planned, at_worst, changed
from agent.grid.desk import GridDesk
from agent.model.grid import Refusal
from agent.model.limits import LimitKind
from sterna.clock import Clock

log = logging.getLogger(__name__)

STEP_S = 2.0
"""A calendar that moved this much against the boot clock has the plan sent anew."""
ALMOST_OVER = timedelta(seconds=0.1)
ACKS_AT_ONCE = 50


class PlanFeed:
    """Keeps the desk's commands of one link and direction in line with a plan.

    Parameters
    ----------
    desk : GridDesk
        Takes the commands.
    source : str
        The link under whose name it takes them.
    clock : Clock
        Both clocks.
    kind : LimitKind
        The plan's.
    ramp_s : float
        Seconds that the site may take to come down to a limit.
    clock_synced : callable
        Whether the calendar can be trusted. While it cannot, a schedule means nothing: none is sent where the
        fail-safe guards the link, elsewhere the strictest of its limits holds.
    """

    def __init__(
        self,
        *,
        desk: GridDesk,
        source: str,
        clock: Clock,
        kind: LimitKind = LimitKind.IMPORT_CAPACITY_LIMIT,
        ramp_s: float = 0.0,
        clock_synced: Callable[[], bool] = lambda: True,
    ) -> None:
        self._desk = desk
        self._link, self._kind = source, kind
        self._source = source if kind is LimitKind.IMPORT_CAPACITY_LIMIT else export_source(source)
        self._clock = clock
        self._ramp_s = ramp_s
        self._clock_synced = clock_synced
        self._sent: tuple[Planned, ...] = ()
        self._calendar_on_boot_s: float | None = None

    @property
    def owes_heartbeats(self) -> bool:
        """Whether the desk guards this link and direction with its fail-safe."""
        return self._machine is not None

    @property
    def ever_spoke(self) -> bool:
        """Whether the desk holds, or ever held, a command of this source."""
        return self._desk.last_sequence(self._source) is not None

    def forget(self) -> None:
        """Have the next plan sent as a whole."""
        self._sent = ()

    def alive(self) -> None:
        """Tell the desk that the VTN answers."""
        if self.owes_heartbeats:
            self._desk.alive(self._link)

    async def send(self, planned: Sequence[Planned], now: datetime) -> bool:
        """Have the desk hold a plan; return whether it does."""
        silent = all(piece.limit_w is None for piece in planned)
        if silent and not self.ever_spoke and not self.owes_heartbeats:
            return True  # nobody waits to hear that nothing is limited
        if not self._clock_synced():
            log.warning("a schedule waits for a clock that can be trusted", extra={"source": self._source})
            if self.owes_heartbeats:
                return False
            planned = at_worst(planned, now)
        if self._must_resend(now):
            self._sent = ()
        todo = changed(self._sent, planned, now)
        self._sent = ()  # until all of it has got through
        for piece in todo:
            if piece.end_at is not None and piece.end_at <= self._clock.now() + ALMOST_OVER:
                continue  # it would be over before it is judged, and hold up those that follow
            if piece.limit_w != piece.asked_w:
                log.warning(
                    "the site cannot go as low as it was asked",
                    extra={"source": self._source, "asked_w": piece.asked_w, "limit_w": piece.limit_w},
                )
            sequence = (self._desk.last_sequence(self._source) or 0) + 1
            command = request(piece, sequence=sequence, now=self._clock.now(), ramp_s=self._ramp_s)
            if isinstance(await self._desk.request(self._source, command), Refusal):
                return False  # the desk has logged it
        self._sent = tuple(planned)
        await self._drop_acks()
        return True

    def _must_resend(self, now: datetime) -> bool:
        """Whether the desk may hold something else than was sent, or needs a command to end its fail-safe."""
        calendar_s = now.timestamp() - self._clock.boottime_s()
        before_s, self._calendar_on_boot_s = self._calendar_on_boot_s, calendar_s
        stepped = before_s is not None and abs(calendar_s - before_s) > STEP_S
        machine = self._machine
        return stepped or (machine is not None and machine.state in PROTECTED)

    @property
    def _machine(self) -> Machine | None:
        return self._desk.guard(self._link, self._kind)

    async def _drop_acks(self) -> None:
        """OpenADR has no acknowledgements; what became of commands is told in reports."""
        while acks := await self._desk.pending_acks(self._source, ACKS_AT_ONCE):
            await self._desk.delivered(number for number, _ in acks if number is not None)
