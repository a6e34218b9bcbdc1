"""Behind model 704: what an operator's RTU says of the site's export goes to the desk, and is read there."""

import asyncio
import logging

from agent.core import exportlimit
from agent.core.exportlimit import CONTROLS, MODE, WATTS, Control, Standing
from agent.core.mbap import Fault
from agent.grid.desk import GridDesk
from agent.model.grid import Reason, Refusal
from agent.model.sunspec.codec import Value
from sterna.clock import Clock

log = logging.getLogger(__name__)


class ExportRegisters:
    """The export limits of one operator's RTU.

    Parameters
    ----------
    desk : GridDesk
        Takes them.
    source : str
        Of the RTU; each control is a source of its own beside it.
    rated_w : float
        WMax, > 0.
    clock : Clock
        Both clocks.
    """

    def __init__(self, *, desk: GridDesk, source: str, rated_w: float, clock: Clock) -> None:
        self._desk = desk
        self._sources = {control: f"{source}-{control.name}" for control in CONTROLS}
        self._rated_w = rated_w
        self._clock = clock
        self._lock = asyncio.Lock()
        """What a write adds to is what its client has read: no other comes between."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Return under which names it hands commands to the desk."""
        return tuple(self._sources.values())

    def read(self, staged: dict[str, int]) -> dict[str, Value]:
        """Tell model 704, with what a client has staged where it has staged it."""
        raw: dict[str, int] = {}
        for control in CONTROLS:
            raw |= self._holds(control)
        return exportlimit.values(raw | staged)

    async def write(self, staged: dict[str, int], points: dict[str, int]) -> Fault | None:
        """Take a write, all of it or nothing; None once what it says is staged or stored."""
        if points.get(MODE, WATTS) != WATTS:
            return Fault.ILLEGAL_VALUE
        async with self._lock:
            for control in CONTROLS:  # a write reaches one at most: what lies between cannot be written
                if written := {name: raw for name, raw in points.items() if name in control.points}:
                    return await self._set(control, staged, written)
        return None

    async def _set(self, control: Control, staged: dict[str, int], written: dict[str, int]) -> Fault | None:
        source = self._sources[control]
        request = exportlimit.command(
            control,
            written,
            self._holds(control) | staged,
            last=self._desk.last_sequence(source),
            now=self._clock.now(),
            rated_w=self._rated_w,
        )
        if request is None:
            staged |= written
            return None
        if isinstance(request, Refusal):
            log.warning("an export limit was refused", extra={"source": source, "reason": str(request)})
            return Fault.ILLEGAL_VALUE
        verdict = await self._desk.request(source, request)
        if isinstance(verdict, Refusal):
            full = verdict.reason is Reason.STORE_UNAVAILABLE
            return Fault.DEVICE_FAILURE if full else Fault.ILLEGAL_VALUE
        staged.pop(control.value, None)
        staged |= {name: raw for name, raw in written.items() if name in control.lasting}
        return None

    def _holds(self, control: Control) -> dict[str, int]:
        source = self._sources[control]
        return exportlimit.registers(
            control,
            Standing(limit=self._desk.speaking(source), after=self._desk.pending(source)),
            now_boot_s=self._clock.boottime_s(),
            rated_w=self._rated_w,
        )
