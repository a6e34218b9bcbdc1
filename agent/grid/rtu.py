"""Behind the registers: what an operator's RTU reads comes from the site, what it writes goes to the desk.

Knows no socket. Each connection brings its `Session`; a write is answered when what it says is stored.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent.core import exportlimit, loadlimit
from agent.core.loadlimit import COMMAND_POINTS, NO_SOURCE, OTHER_SOURCE, SETTING_POINTS, SOURCES, Judged
from agent.core.mbap import Fault
from agent.core.rtu_registers import BASE, COUNT, Nameplate, RegisterMap, SiteState, touches
from agent.grid.desk import GridDesk
from agent.grid.rtu_export import ExportRegisters
from agent.grid.wire import SiteSnapshot
from agent.model.grid import Reason, Refusal
from agent.model.readings import MeterReading
from agent.model.sunspec.codec import Value
from agent.model.sunspec.der_controls import DER_CONTROLS
from agent.model.sunspec.load_limit import LOAD_LIMIT
from sterna.clock import Clock
from sterna.errors import TransientError

log = logging.getLogger(__name__)

ACKS_AT_ONCE = 50
_BEATS = 0x7FFFFFFF  # stays clear of the value that means "not implemented"
_OUR_FAULTS = frozenset({Reason.STORE_UNAVAILABLE})
_HEARTBEATS = ("CtlHb", "ControllerHb")


@dataclass(slots=True, kw_only=True)
class Session:
    """One connection: what its client may do, and what it has written but not yet committed."""

    may_write: bool
    staged: dict[str, int] = field(default_factory=dict)
    staged_export: dict[str, int] = field(default_factory=dict)


class OperatorRegisters:
    """The registers of the site, as one operator's RTU sees and writes them.

    Parameters
    ----------
    desk : GridDesk
        Takes limits, settings and signs of life.
    source : str
        Under which it takes them.
    nameplate : Nameplate
        What the site is.
    snapshot : callable
        What the site does now.
    readings : callable
        The newest reading of each meter.
    clock : Clock
        Both clocks.
    """

    def __init__(
        self,
        *,
        desk: GridDesk,
        source: str,
        nameplate: Nameplate,
        snapshot: Callable[[], SiteSnapshot],
        readings: Callable[[], Iterable[MeterReading]],
        clock: Clock,
    ) -> None:
        self._desk = desk
        self._source = source
        self._map = RegisterMap(nameplate)
        self._export = (
            None
            if nameplate.limited_export_w is None
            else ExportRegisters(desk=desk, source=source, rated_w=nameplate.limited_export_w, clock=clock)
        )
        self._snapshot = snapshot
        self._readings = readings
        self._clock = clock
        self._beats = dict.fromkeys(_HEARTBEATS, 0)
        self._judged: Judged | None = None

    def read(self, session: Session, address: int, count: int) -> tuple[int, ...] | Fault:
        """Read registers as they are now; a client sees what it has staged where it has staged it."""
        first = address - BASE
        if first < 0 or first + count > COUNT:
            return Fault.ILLEGAL_ADDRESS
        export = None
        if self._export is not None and touches(DER_CONTROLS, first, count):
            export = self._export.read(session.staged_export)
        limit = self._limit() | session.staged if touches(LOAD_LIMIT, first, count) else {}
        return tuple(self._map.image(self._site(), limit, first, count, export=export))

    async def write(self, session: Session, address: int, values: tuple[int, ...]) -> Fault | None:
        """Take a write, all of it or nothing; None once what it says is stored."""
        points = self._map.written(address, values) if session.may_write else None
        if points is None:
            return Fault.ILLEGAL_ADDRESS
        for name in _HEARTBEATS:
            if name in points:
                self._hear(name, points[name])
        if any(name in points for name in SETTING_POINTS):
            return await self._configure(points)
        if self._export is not None and not points.keys().isdisjoint(exportlimit.POINTS):
            return await self._export.write(session.staged_export, points)
        session.staged |= {name: raw for name, raw in points.items() if name in COMMAND_POINTS}
        if "CmdSeq" not in points:
            return None
        return await self._commit(session, points["CmdSeq"])

    async def forget_acks(self) -> None:
        """Drop acks for ever: here they are read from the registers, nobody fetches them."""
        others = () if self._export is None else self._export.sources
        async with asyncio.TaskGroup() as group:
            for source in (self._source, *others):
                group.create_task(self._forget_acks(source), name=f"{source} acks")

    async def _forget_acks(self, source: str) -> None:
        while True:
            await self._desk.wait_for_acks(source)
            try:
                while acks := await self._desk.pending_acks(source, ACKS_AT_ONCE):
                    await self._desk.delivered(number for number, _ in acks if number is not None)
            except TransientError as error:  # a full disk stops neither metering nor obeying
                log.error("acks could not be dropped", extra={"fault": str(error)})

    def _hear(self, name: str, raw: int) -> None:
        """Only a counter that moves is a sign of life: a stuck program repeats what it wrote."""
        if self._beats[name] != raw:
            self._beats[name] = raw
            self._desk.alive(self._source)

    async def _configure(self, points: dict[str, int]) -> Fault | None:
        config = loadlimit.settings(points, self._desk.operators.of(self._source))
        if isinstance(config, Refusal):
            return Fault.ILLEGAL_VALUE
        try:
            refusal = await self._desk.operators.set(self._source, config)
        except TransientError as error:
            log.error("operator settings could not be stored", extra={"fault": str(error)})
            return Fault.DEVICE_FAILURE
        return None if refusal is None else Fault.ILLEGAL_VALUE

    async def _commit(self, session: Session, cmd_seq: int) -> Fault | None:
        staged, session.staged = session.staged, {}
        last = self._desk.last_sequence(self._source)
        request = loadlimit.command(staged, cmd_seq=cmd_seq, last=last, now=self._clock.now())
        verdict = request if isinstance(request, Refusal) else await self._desk.request(self._source, request)
        if not isinstance(verdict, Refusal):
            self._judged = None
            return None
        if verdict is request:
            log.warning("a grid command was refused", extra={"source": self._source, "reason": str(verdict)})
        self._judged = Judged(cmd_seq=cmd_seq, reason=verdict.reason)
        return Fault.DEVICE_FAILURE if verdict.reason in _OUR_FAULTS else Fault.ILLEGAL_VALUE

    def _site(self) -> SiteState:
        snapshot = self._snapshot()
        return SiteState(
            power=snapshot.power,
            readings=tuple(self._readings()),
            achievable_min_w=snapshot.achievable_min_w,
            achievable_max_w=snapshot.achievable_max_w,
            beat=int(self._clock.boottime_s()) % _BEATS,
            controller_beat=self._beats["ControllerHb"],
        )

    def _limit(self) -> dict[str, Value]:
        desk, source = self._desk, self._source
        envelope = desk.envelope()
        machine, binding = desk.machines.get(source), envelope.binding
        # Its own link's state; who limits the site, whatever the link, is told by Src.
        state = envelope.state if machine is None else machine.state
        newest, last = desk.newest(source), desk.last_sequence(source)
        remaining_s = None if newest is None else newest.remaining_s(self._clock.boottime_s())
        settings = desk.operators.in_force(source)
        return {
            **loadlimit.command_points(newest, last),
            **loadlimit.answer_points(newest, last, self._judged),
            "State": loadlimit.STATES[state],
            "Src": NO_SOURCE if binding is None else SOURCES.get(binding.source, OTHER_SOURCE),
            "CtlHb": self._beats["CtlHb"],
            "ImpLimRvrtRem": None if remaining_s is None else round(remaining_s),
            "FsImpLimW": round(settings.failsafe_import_w),
            "FsDurMin": round(settings.failsafe_min_s),
        }
