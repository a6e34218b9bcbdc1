"""One bus for many units: whoever answers goes first, and a dead one costs the others one short wait."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TypeVar

from agent.core.breaker import FAILURES_TO_OPEN, UnitHealth, heard, patience_s, refused_for_s, unheard
from agent.modbus import ModbusBus, NotConnectedError
from sterna.clock import Clock
from sterna.errors import PeerProtocolError, TransientError

log = logging.getLogger(__name__)

T = TypeVar("T")
PATIENCE_S, RTU_PATIENCE_S = 0.03, 0.15
"""Least time that a request may keep others waiting; an answer over RTU takes that long on the wire."""
# On a bus that is never idle, one turn in so many goes to those that did not answer, or they never would.
FAIR_EVERY = 64


class SharedBus:
    """A bus with its units' health; as a bus for meters, in place of the one that it guards.

    Parameters
    ----------
    bus : ModbusBus
        The connection, owned by nobody else.
    clock : Clock
        For durations.
    probe_max_s : float
        Longest time between two probes of a dead unit.
    """

    def __init__(self, bus: ModbusBus, *, clock: Clock, probe_max_s: float = 5.0) -> None:
        self.peer = bus.peer
        self._bus, self._clock = bus, clock
        self._floor_s = RTU_PATIENCE_S if bus.rtu else PATIENCE_S
        # A late answer over RTU carries no transaction id: the unit is left alone until it cannot come.
        self._quarantine_s = bus.request_timeout_s if bus.rtu else 0.0
        self._probe_max_s = probe_max_s
        self._units: dict[int, UnitHealth] = {}
        self._turns = _Turns()

    async def read_holding(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Read holding registers; raises as `agent.modbus.ModbusBus.read_holding`.

        A TransientError with `retry_after_s` also while the unit is dead and not due for a probe.
        """
        return await self._request(unit, lambda: self._bus.read_holding(unit, address, count))

    async def read_input(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Read input registers; see `read_holding`."""
        return await self._request(unit, lambda: self._bus.read_input(unit, address, count))

    async def write_registers(self, unit: int, address: int, values: Sequence[int]) -> None:
        """Write holding registers; see `agent.modbus.ModbusBus.write_registers`."""
        # Never cut short: half a write leaves the device in a state that nobody knows.
        write = partial(self._bus.write_registers, unit, address, values)
        await self._request(unit, write, hurried=False)

    def allow_writes(self, unit: int, spans: Sequence[range]) -> None:
        """Add to the allow-list; see `agent.modbus.ModbusBus.allow_writes`."""
        self._bus.allow_writes(unit, spans)

    def health(self, unit: int) -> UnitHealth:
        """Tell what is known of a unit."""
        return self._units.get(unit, UnitHealth())

    async def _request(self, unit: int, ask: Callable[[], Awaitable[T]], *, hurried: bool = True) -> T:
        self._refuse_if_closed(unit)
        await self._turns.take(first=self.health(unit).trusted)
        try:
            self._refuse_if_closed(unit)  # another request of the unit may have failed while we waited
            await self._bus.connect()  # its failure says nothing about the unit
            return await self._asked(unit, ask, hurried)
        finally:
            self._turns.pass_on()

    async def _asked(self, unit: int, ask: Callable[[], Awaitable[T]], hurried: bool) -> T:
        before = self.health(unit)
        patience = self._patience_s(before) if hurried else math.inf
        begun_s = self._clock.boottime_s()
        try:
            async with self._turns.patience(patience):
                answer = await ask()
        except NotConnectedError:
            raise  # lost this moment
        except PeerProtocolError:
            self._note(unit, before, heard(before, answer_s=self._clock.boottime_s() - begun_s))
            raise
        except TimeoutError as error:
            self._note(unit, before, self._unheard(before))
            raise TransientError(
                f"{self.peer} unit {unit}: no answer within {patience:.3g} s, and others wait"
            ) from error
        except TransientError:
            self._note(unit, before, self._unheard(before))
            raise
        self._note(unit, before, heard(before, answer_s=self._clock.boottime_s() - begun_s))
        return answer

    def _patience_s(self, health: UnitHealth) -> float:
        return patience_s(
            health,
            bus_slowest_s=None if health.trusted else self._slowest_s(),
            floor_s=self._floor_s,
            timeout_s=max(self._bus.request_timeout_s, self._floor_s),
        )

    def _refuse_if_closed(self, unit: int) -> None:
        wait_s = refused_for_s(self.health(unit), now_s=self._clock.boottime_s())
        if wait_s > 0:
            raise TransientError(
                f"{self.peer} unit {unit}: does not answer; asked again later", retry_after_s=wait_s
            )

    def _unheard(self, before: UnitHealth) -> UnitHealth:
        return unheard(
            before,
            now_s=self._clock.boottime_s(),
            quarantine_s=self._quarantine_s,
            probe_max_s=self._probe_max_s,
        )

    def _slowest_s(self) -> float | None:
        known = [health.slowest_s for health in self._units.values() if health.slowest_s is not None]
        return max(known, default=None)

    def _note(self, unit: int, before: UnitHealth, after: UnitHealth) -> None:
        self._units[unit] = after
        if after.trusted and before.failures >= FAILURES_TO_OPEN:
            log.info("modbus unit answers again", extra={"peer": self.peer, "unit": unit})
        elif after.failures == FAILURES_TO_OPEN:
            log.warning("modbus unit does not answer", extra={"peer": self.peer, "unit": unit})


class _Turns:
    """A lock whose waiters have two ranks, and that hurries its holder when somebody waits."""

    def __init__(self) -> None:
        self._held, self._granted = False, 0
        self._first: deque[asyncio.Future[None]] = deque()
        self._later: deque[asyncio.Future[None]] = deque()
        self._limit: asyncio.Timeout | None = None
        self._until_s = 0.0

    async def take(self, *, first: bool) -> None:
        """Take the lock; it must be given back with `pass_on`."""
        if self._held:
            await self._wait(self._first if first else self._later)
        self._held = True

    def patience(self, patience_s: float) -> "_Patience":
        """Within it, TimeoutError is raised once `patience_s` are over *and* somebody waits for the lock."""
        return _Patience(self, patience_s)

    def hurry(self, limit: asyncio.Timeout | None, until_s: float = 0.0) -> None:
        """Name the limit of who holds the lock, to be set as soon as somebody waits; None: there is none."""
        self._limit, self._until_s = limit, until_s
        self._hurry()

    async def _wait(self, line: deque[asyncio.Future[None]]) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(mine)
        self._hurry()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.pass_on()  # the lock was handed to us as we left
            raise
        finally:
            if mine in line:
                line.remove(mine)

    def _hurry(self) -> None:
        if self._limit is not None and self._limit.when() is None and (self._first or self._later):
            self._limit.reschedule(self._until_s)

    def pass_on(self) -> None:
        """Hand the lock to the next; it stays held, so that nobody slips in between."""
        self._granted += 1
        fair = self._granted % FAIR_EVERY == 0
        for line in (self._later, self._first) if fair else (self._first, self._later):
            while line:
                waiter = line.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    return
        self._held = False


class _Patience:
    """See `_Turns.patience`."""

    __slots__ = ("_limit", "_patience_s", "_turns")

    def __init__(self, turns: _Turns, patience_s: float) -> None:
        self._turns, self._patience_s = turns, patience_s
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._turns.hurry(self._limit, asyncio.get_running_loop().time() + self._patience_s)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.hurry(None)
        await self._limit.__aexit__(kind, error, trace)
