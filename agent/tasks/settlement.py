"""Settling: readings into the ledger, each interval's end into a record, each event into baselines.

All judgement is in `agent.core`. A disk that takes nothing delays the records, it does not lose them, until
`MAX_PENDING` of them wait.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from agent.core.baselines import Baseline, Calendar, NoBaseline, Rule, Span, baseline, ready_at
from agent.core.breach import BreachTally
from agent.core.metering import start_of
from agent.core.settlement import (
    NODES,
    Sample,
    SiteLedger,
    closable,
    close,
    observe,
    opened,
    resumed,
    rewound,
)
from agent.core.settlement_events import WORKLOAD, GridEvent, by_workload, events, loads, settled
from agent.model.limits import Envelope
from agent.model.readings import MeterReading, MeterRole, Quality, SitePower
from agent.model.settlement import SettledBaseline, SettlementRecord
from agent.store.settlement import SettlementStore
from sterna import pace
from sterna.clock import Clock
from sterna.errors import CorruptError, TransientError
from sterna.supervise import Heart

log = logging.getLogger(__name__)

LOOK_S = 1.0
KEEP_S = 60.0
"""What a kill can lose of an open interval, where no counter bridges it."""
RETRY_S = 10.0
MAX_PENDING = 3000
RECENT = timedelta(days=5)


@dataclass(slots=True, kw_only=True)
class Settlement:
    """One site's settlement.

    Parameters
    ----------
    store : SettlementStore
        Where records go.
    clock : Clock
        Both clocks.
    boot_id : str
        Of this boot.
    length_s : float
        Of an interval.
    roles : mapping of meter name to MeterRole
        The site's meters.
    readings : callable
        The newest reading of each meter.
    envelope, tally : callable
        What limits the site, and how it was kept.
    counterfactual_w : callable
        Import with all of the site's jobs at full power; None: unknown.
    max_power_w, max_gap_s : float
        See `agent.core.settlement.observe`.
    rules : sequence of Rule
        Methods by which events are settled.
    calendar : Calendar
        The operator's.
    """

    store: SettlementStore
    clock: Clock
    boot_id: str
    length_s: float
    roles: Mapping[str, MeterRole]
    readings: Callable[[], Iterable[MeterReading]]
    envelope: Callable[[], Envelope]
    tally: Callable[[], BreachTally]
    counterfactual_w: Callable[[], float | None] = lambda: None
    max_power_w: float
    max_gap_s: float
    rules: Sequence[Rule]
    calendar: Calendar
    _ledger: SiteLedger | None = None
    _pending: list[SettlementRecord] = field(default_factory=list)
    _told: BreachTally | None = None
    _opened_s: float = 0.0
    _retry_s: float = float("-inf")
    _kept_s: float = 0.0
    _saving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def pending(self) -> int:
        """Records that wait for the disk."""
        return len(self._pending)

    async def open(self) -> None:
        """Go on where the last run ended."""
        now = self.clock.now()
        self._opened_s = self._kept_s = self.clock.boottime_s()
        try:
            kept = await self.store.recover()
        except (CorruptError, TransientError):
            log.exception("the settlement's ledger is lost; the open interval begins anew")
            kept = None
        if kept is None:
            self._ledger = opened(self.length_s, now)
            return
        ledger, boot_id = kept
        same = boot_id == self.boot_id
        self._ledger = resumed(ledger, length_s=self.length_s, now=now, same_boot=same)

    def take(self, power: SitePower) -> None:
        """Take what the site sees now; never waits. Does nothing before `open`."""
        if self._ledger is None:
            return
        now, now_boot_s = self.clock.now(), self.clock.boottime_s()
        tally = self.tally()
        before = self._told or tally
        self._told = tally
        binding = self.envelope().binding
        broken = max(0, tally.samples - before.samples)
        excess_w = 0.0
        if broken and power.grid_w is not None and tally.bound_w is not None:
            excess_w = max(0.0, power.grid_w - tally.bound_w)
        sample = Sample(
            now=now,
            now_boot_s=now_boot_s,
            readings=(*self.readings(), *self._nodes(power, now, now_boot_s)),
            limit=binding,
            judgement=tally.judgement,
            breach_samples=broken,
            excess_w=excess_w,
            counterfactual_w=self.counterfactual_w(),
        )
        self._ledger = observe(
            rewound(self._ledger, now), sample, max_power_w=self.max_power_w, max_gap_s=self.max_gap_s
        )

    async def run(self, heart: Heart) -> None:
        """Close intervals as they end, for the daemon's life."""
        while True:
            heart.beat()
            try:
                if await self.step():
                    await self.settle()
            except (TransientError, CorruptError) as error:  # a bad disk stops neither metering nor obeying
                self._retry_s = self.clock.boottime_s() + RETRY_S
                log.error(
                    "the settlement cannot be stored now",
                    extra={"fault": str(error), "records": len(self._pending)},
                )
            await pace.rest(LOOK_S)

    async def step(self) -> bool:
        """Close what has ended and store it; return whether records were stored.

        Raises
        ------
        TransientError
            The disk took nothing; the records wait.
        """
        async with self._saving:
            now_s = self.clock.boottime_s()
            self._close(now_s)
            if now_s < self._retry_s or not (self._pending or now_s - self._kept_s >= KEEP_S):
                return False
            return await self._save(now_s)

    async def flush(self) -> None:
        """Store what is open, on the way out."""
        async with self._saving:
            try:
                await self._save(self.clock.boottime_s())
            except TransientError as error:
                log.error("the settlement's open interval could not be stored", extra={"fault": str(error)})

    async def settle(self) -> int:
        """Settle the events that are over, by every method that has what it needs; return how many lines."""
        if self._ledger is None:
            return 0
        now = self.clock.now()
        closed_at = start_of(self._ledger.first, self.length_s)
        from_at = closed_at - RECENT
        recent = await self.store.intervals(from_at, closed_at)
        done = await self.store.settled(from_at, closed_at)
        lines = 0
        for event in events(recent):
            # One that touches an edge may go on beyond it.
            if event.span.end_at >= closed_at or event.span.start_at <= from_at:
                continue
            start_at = event.span.start_at
            if (start_at, WORKLOAD) not in done:
                lines += await self._put(by_workload(event))
            for rule in self.rules:
                # Its last hours must have been closed, too.
                ready = ready_at(rule, event.span, self.calendar) <= min(now, closed_at)
                if ready and (start_at, rule.name) not in done:
                    answer = await self.baseline(rule, event.span)
                    lines += await self._put(settled(event, rule.name, answer))
        return lines

    async def baseline(self, rule: Rule, span: Span) -> Baseline | NoBaseline:
        """Say what a rule makes of a stretch of time on the grid of intervals."""
        from_at = span.start_at - timedelta(days=rule.look_back_days + 2)
        intervals = await self.store.intervals(
            from_at, max(span.end_at + timedelta(days=1), self.clock.now())
        )

        def work() -> Baseline | NoBaseline:
            past = loads(intervals, events(intervals))
            return baseline(rule, past, span, calendar=self.calendar, length_s=self.length_s)

        return await asyncio.to_thread(work)

    async def event_around(self, at: datetime) -> GridEvent | None:
        """Return the event in whose recorded intervals, or right after them, an instant lies."""
        found = events(await self.store.intervals(at - RECENT, at + timedelta(seconds=1)))
        return next((event for event in reversed(found) if event.span.end_at >= at), None)

    async def _put(self, lines: Sequence[SettledBaseline]) -> int:
        await self.store.settle(lines)
        return len(lines)

    async def _save(self, now_s: float) -> bool:
        if self._ledger is None:
            return False
        records, ledger = tuple(self._pending), self._ledger
        await self.store.keep(records, ledger, self.boot_id)
        del self._pending[: len(records)]
        self._kept_s = now_s
        return bool(records)

    def _close(self, now_s: float) -> None:
        if self._ledger is None:
            return
        now = self.clock.now()
        ledger = rewound(self._ledger, now)
        until = closable(ledger, self.roles, now=now, up_s=now_s - self._opened_s)
        self._ledger, records = close(ledger, until=until, roles=self.roles, now=now)
        for record in records:
            if record.faults:
                log.warning(
                    "an interval does not add up",
                    extra={"start_at": record.start_at.isoformat(), "faults": list(record.faults)},
                )
        self._pending += records
        if len(self._pending) > MAX_PENDING:
            log.error("settlement records are lost", extra={"records": len(self._pending) - MAX_PENDING})
            del self._pending[:-MAX_PENDING]

    def _nodes(self, power: SitePower, now: datetime, now_boot_s: float) -> tuple[MeterReading, ...]:
        """Return the nodes' own figure of what they draw, where no meter has it."""
        if MeterRole.COMPUTE in self.roles.values() or power.compute_w is None:
            return ()
        return (
            MeterReading(
                meter=NODES,
                role=MeterRole.COMPUTE,
                measured_at=now,
                measured_boottime_s=now_boot_s,
                quality=Quality.OK,
                active_power_w=power.compute_w,
            ),
        )
