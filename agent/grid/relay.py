"""A relay as a source of limits: looks at its contacts, tells the desk what they ask for."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.core import relay
from agent.core.commands import LimitRequest
from agent.core.failsafe import PROTECTED
from agent.core.relay import Asked, Contact, Watch
from agent.grid.desk import GridDesk
from agent.grid.relay_inputs import ContactInput
from agent.model.grid import Refusal
from agent.model.limits import LimitKind
from sterna.clock import Clock
from sterna.errors import TransientError

log = logging.getLogger(__name__)

ASK_AGAIN_S = 5.0
ACKS_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class WiredContact:
    """A contact and where it is read; `complement` is its other half, closed whenever it is open."""

    contact: Contact
    input: ContactInput
    complement: ContactInput | None = None

    def closed(self) -> bool | None:
        """Read it; None: its halves contradict each other."""
        closed = self.input.closed()
        return closed if self.complement is None else relay.paired(closed, self.complement.closed())


@dataclass(slots=True, kw_only=True)
class RelayWatch:
    """Keeps the desk's commands of the source in line with the contacts.

    Parameters
    ----------
    desk : GridDesk
        Takes the limits; it must guard the source with its fail-safe.
    source : str
        Under which it takes them.
    contacts : sequence of WiredContact
        At least one.
    clock : Clock
        Both clocks.
    debounce_s : float
        How long a contact must read the same before it counts.
    poll_period_s : float
        How often it is read.
    ramp_s : float
        Seconds that the site may take to come down.
    on_beat : callable
        Called after each look.
    """

    desk: GridDesk
    source: str
    contacts: Sequence[WiredContact]
    clock: Clock
    debounce_s: float = 0.5
    poll_period_s: float = 0.2
    ramp_s: float = 0.0
    on_beat: Callable[[], None] = lambda: None
    _watches: list[Watch] = field(init=False)
    _faults: list[str] = field(init=False)
    _sent: Asked | None = None
    _again_s: float = 0.0

    def __post_init__(self) -> None:
        self._watches = [Watch() for _ in self.contacts]
        self._faults = ["" for _ in self.contacts]

    async def run(self) -> None:
        """Look at the contacts for ever."""
        while True:
            await self.step()
            self.on_beat()
            await asyncio.sleep(self.poll_period_s)

    async def step(self) -> None:
        """Look once, and tell the desk what has changed."""
        readings, now_s = await asyncio.to_thread(self._read), self.clock.boottime_s()
        self._watches = [
            relay.observe(watch, reading, now_s, debounce_s=self.debounce_s)
            for watch, reading in zip(self._watches, readings, strict=True)
        ]
        pairs = zip((wired.contact for wired in self.contacts), self._watches, strict=True)
        asked = relay.asked(pairs)
        if asked.known:
            self.desk.alive(self.source)
        machine = self.desk.machines.get(self.source)
        protected = machine is not None and machine.state in PROTECTED
        if now_s >= self._again_s and relay.must_send(asked, self._sent, protected=protected):
            await self._send(asked, now_s)

    def _read(self) -> list[bool | None]:
        return [self._read_one(place, wired) for place, wired in enumerate(self.contacts)]

    def _read_one(self, place: int, wired: WiredContact) -> bool | None:
        fault, closed = "", None
        try:
            closed = wired.closed()
        except TransientError as error:
            fault = str(error)
        else:
            fault = "its halves contradict each other" if closed is None else ""
        if fault and fault != self._faults[place]:
            log.error("a contact cannot be read", extra={"contact": wired.contact.name, "fault": fault})
        self._faults[place] = fault
        return closed

    async def _send(self, asked: Asked, now_s: float) -> None:
        sequence = (self.desk.last_sequence(self.source) or 0) + 1
        verdict = await self.desk.request(self.source, self._request(asked, sequence))
        if isinstance(verdict, Refusal):
            self._again_s = now_s + ASK_AGAIN_S  # the desk has logged it
            return
        self._sent = asked
        await self._drop_acks()

    def _request(self, asked: Asked, sequence: int) -> LimitRequest:
        content = f"{sequence}|{asked.limit_w}"
        return LimitRequest(
            command_id=f"relay-{sequence}",
            sequence=sequence,
            kind=LimitKind.IMPORT_CAPACITY_LIMIT,
            issued_at=self.clock.now(),
            value_w=asked.limit_w,
            start_at=None,
            duration_s=None,
            ramp_s=self.ramp_s,
            reason=f"relay {' '.join(asked.by)}".strip(),
            expires_at=None,
            site=None,
            digest=hashlib.sha256(content.encode()).hexdigest(),
            issued_here=True,
        )

    async def _drop_acks(self) -> None:
        """Nobody fetches what became of a contact's limit."""
        try:
            while acks := await self.desk.pending_acks(self.source, ACKS_AT_ONCE):
                await self.desk.delivered(number for number, _ in acks if number is not None)
        except TransientError as error:  # a full disk stops neither metering nor obeying
            log.error("acks could not be dropped", extra={"fault": str(error)})
