"""The grid desk: every source of limits reports here, and `envelope` says what holds now.

Owns the fail-safe machine of each operator's link, the merged timeline and the store behind them. Knows no
transport: MQTT, Modbus and OpenADR hand it bytes or values under a source name, and fetch their acks back.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from agent.core.breach import BreachTally
from agent.core.commands import Accepted, LastSeen, LimitRequest, Repeated, Rules, judge, parse_limit
from agent.core.failsafe import FailsafeSettings, Machine
from agent.core.limits import HeldCommand, Timeline, envelope, export_limits, export_source, hold
from agent.core.operator import (
    ConfigBounds,
    Heartbeat,
    parse_heartbeat,
)
from agent.grid import answers
from agent.grid.answers import Answers
from agent.grid.breaches import Breaches
from agent.grid.guards import Guards
from agent.grid.operator_settings import OperatorSettings
from agent.grid.ports import Seal
from agent.model.grid import Ack, Reason, Refusal
from agent.model.limits import Envelope, Limit, LimitKind
from agent.model.readings import SitePower
from agent.store.commands import CommandStore
from sterna.clock import Clock
from sterna.errors import TransientError

log = logging.getLogger(__name__)


class GridDesk:
    """Everything the grid has asked of this site.

    Parameters
    ----------
    clock : Clock
        Both clocks.
    store : CommandStore
        What survives a restart.
    operators : sequence of str
        Sources that owe us heartbeats, e.g. ``("mqtt",)``; empty for a site without an operator.
    settings : FailsafeSettings
        The site's own fail-safe; an operator may change its part within `bounds`.
    rules : Rules
        What commands the site accepts.
    bounds : ConfigBounds
        Within what an operator may set the fail-safe.
    standing_limits_w : mapping of source to watts
        Import limits that always hold, e.g. ``{"hardware": 11000.0, "local": 9000.0}``.
    tolerance_w : float
        Meter error in watts that is no breach.
    clock_synced : callable
        Whether the calendar can be trusted now.
    seals : mapping of source to Seal
        Sources whose JSON messages must be signed; the others' are taken as they come.
    failsafe_exports_w : mapping of source to watts
        Those of `operators` whose silence limits the export too, >= 0.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        store: CommandStore,
        operators: Sequence[str],
        settings: FailsafeSettings,
        rules: Rules,
        bounds: ConfigBounds | None = None,
        standing_limits_w: Mapping[str, float] | None = None,
        tolerance_w: float = 0.0,
        clock_synced: Callable[[], bool] = lambda: True,
        seals: Mapping[str, Seal] | None = None,
        failsafe_exports_w: Mapping[str, float] | None = None,
    ) -> None:
        self._clock = clock
        self._store = store
        self._rules = rules
        self._standing_w = dict(standing_limits_w or {})
        self._clock_synced = clock_synced
        self._seals = dict(seals or {})
        self._failsafe_exports_w = dict(failsafe_exports_w or {})
        self.operators = OperatorSettings(
            site=settings,
            bounds=bounds or ConfigBounds(),
            store=store,
            clock=clock,
            max_skew_s=rules.max_skew_s,
            clock_synced=clock_synced,
            seals=self._seals,
        )
        """What operators have set of the fail-safe."""
        self._guards = Guards(
            links=operators,
            exporting=self._failsafe_exports_w,
            in_force=self.operators.in_force,
            now_boot_s=clock.boottime_s(),
        )
        self._timeline = Timeline()
        self._last_seen: dict[str, LastSeen] = {}
        self._heartbeats: dict[str, Heartbeat] = {}
        self._breaches = Breaches(clock=clock, store=store, tolerance_w=tolerance_w)
        self._answers = Answers()
        self._doubt: tuple[HeldCommand, str, HeldCommand | None] | None = None
        self._urgent: HeldCommand | None = None
        """A stricter limit on its way to the disk: obeyed already, held and answered once it is there."""
        self._lock = asyncio.Lock()
        self.on_limit: Callable[[], None] = lambda: None
        """Told when there is more to obey, or less: whoever obeys need not wait for its next look."""

    @property
    def tally(self) -> BreachTally:
        """How often a limit of the import was broken, since the store was started."""
        return self._breaches.tallies[LimitKind.IMPORT_CAPACITY_LIMIT]

    @property
    def export_tally(self) -> BreachTally:
        """How often one of the export was."""
        return self._breaches.tallies[LimitKind.EXPORT_CAPACITY_LIMIT]

    @property
    def machines(self) -> Mapping[str, Machine]:
        """The fail-safe machine of each operator's link for the import, as last stepped."""
        return self._guards.of(LimitKind.IMPORT_CAPACITY_LIMIT)

    def guard(self, link: str, kind: LimitKind) -> Machine | None:
        """Return the fail-safe machine of a link for one direction; None: it has none."""
        return self._guards.of(kind).get(link)

    def last_sequence(self, source: str) -> int | None:
        """Return the newest sequence accepted from a source; None: none ever."""
        last = self._last_seen.get(source)
        return None if last is None else last.sequence

    def newest(self, source: str) -> HeldCommand | None:
        """Return the newest command of a source that is in force or may still come to be; None: none is."""
        mine = (held for held in self._timeline.held if held.command.source == source)
        return max(mine, key=lambda held: held.command.sequence, default=None)

    def speaking(self, source: str) -> HeldCommand | None:
        """Return a source's newest command in force, be it a limit or a release; None: none is."""
        return self._timeline.speaking(source, self._clock.boottime_s())

    def pending(self, source: str) -> HeldCommand | None:
        """Return a source's newest command that has yet to begin; None: there is none."""
        boot_s = self._clock.boottime_s()
        mine = (h for h in self._timeline.held if h.command.source == source and h.start_boot_s > boot_s)
        return max(mine, key=lambda held: held.command.sequence, default=None)

    async def recover(self) -> None:
        """Read the store; every link starts anew in INIT, with the fail-safe limit beside what was stored."""
        boot_s = self._clock.boottime_s()
        kept = self._clock_synced()
        memory = await self._store.recover(self._clock.now(), boot_s, calendar_kept=kept)
        self._timeline = memory.timeline
        self._last_seen = dict(memory.last_seen)
        self.operators.recover(memory.configs)
        self._breaches.tallies |= memory.tallies
        self._guards.restart(boot_s)
        log.info("grid commands recovered", extra={"commands": len(self._timeline.held)})

    def envelope(self, now: datetime | None = None) -> Envelope:
        """Return what limits the import now; deadlines that have passed count, whether or not `tick` ran.

        Parameters
        ----------
        now : datetime or None
            Calendar that the limits' instants are told on; None: the clock's.
        """
        boot_s = self._clock.boottime_s()
        self._guards.settle(self._timeline, boot_s)
        return envelope(
            self._timeline if self._urgent is None else self._timeline.with_command(self._urgent),
            [(machine, self.operators.in_force(source)) for source, machine in self.machines.items()],
            now=now or self._clock.now(),
            now_boot_s=boot_s,
            standing_limits_w=self._standing_w,
        )

    def exports(self) -> tuple[Limit, ...]:
        """Return what operators say of the export now, the most restrictive first."""
        boot_s = self._clock.boottime_s()
        self._guards.settle(self._timeline, boot_s)
        machines = self._guards.of(LimitKind.EXPORT_CAPACITY_LIMIT)
        return export_limits(
            self._timeline,
            [
                (machines[source], self.operators.in_force(source), limit_w)
                for source, limit_w in self._failsafe_exports_w.items()
            ],
            now=self._clock.now(),
            now_boot_s=boot_s,
        )

    async def limit(self, source: str, payload: bytes) -> None:
        """Take a limit command in JSON: judge it, store it, let it hold; the answer lies among the acks.

        One about the export is of a source of its own, `export_source`.
        """
        request = parse_limit(payload)
        if isinstance(request, Refusal):
            self._reject(source, request)
            return
        exports = request.kind is LimitKind.EXPORT_CAPACITY_LIMIT
        forged = self._forged(source, "limit", payload)
        await self.request(export_source(source) if exports else source, request, forged=forged)

    async def request(
        self, source: str, request: LimitRequest, *, forged: Refusal | None = None
    ) -> Accepted | Repeated | Refusal:
        """Take a limit command as a value; the answer lies among the acks too.

        Parameters
        ----------
        source : str
            Who wrote it.
        request : LimitRequest
            What was written.
        forged : Refusal or None
            Why it is not from that source after all; None: it is.
        """
        async with self._lock:
            await self._settle_doubt()
            now, binding = self._clock.now(), self._binding()[request.kind]
            verdict = judge(
                request,
                source=source,
                rules=self._rules,
                last=self._last_seen.get(source),
                now=now,
                clock_synced=self._clock_synced(),
                binding_w=None if binding is None else binding.limit_w,
                forged=forged,
            )
            if isinstance(verdict, Accepted):
                verdict = await self._accept(verdict)
        if isinstance(verdict, Refusal):
            self._reject(source, verdict)
        elif isinstance(verdict, Repeated):
            self._answers.add(answers.repeated(source, verdict, self._timeline, self._clock.now()))
        return verdict

    def heartbeat(self, source: str, payload: bytes) -> Refusal | None:
        """Take a heartbeat in JSON; it counts for its own source's link and no other."""
        beat = parse_heartbeat(
            payload,
            last=self._heartbeats.get(source),
            now=self._clock.now(),
            max_skew_s=self._rules.max_skew_s,
            clock_synced=self._clock_synced(),
        )
        refusal = beat if isinstance(beat, Refusal) else self._forged(source, "heartbeat", payload)
        if refusal is not None or isinstance(beat, Refusal):
            log.warning("a heartbeat was refused", extra={"source": source, "reason": str(refusal)})
            return refusal
        refusal = self.alive(source)
        if refusal is None:
            self._heartbeats[source] = beat
        return refusal

    def alive(self, source: str) -> Refusal | None:
        """Take a sign of life that was judged elsewhere, e.g. a changed Modbus counter."""
        if not self._guards.hear(source, self._clock.boottime_s()):
            refusal = Refusal(reason=Reason.UNKNOWN_SOURCE, field="source", detail=source)
            log.warning("a heartbeat was refused", extra={"source": source, "reason": str(refusal)})
            return refusal
        return None

    async def tick(self) -> None:
        """Tell what became of commands, and forget those that are over. Call it about once a second."""
        async with self._lock:
            await self._settle_doubt()
            now, boot_s = self._clock.now(), self._clock.boottime_s()
            timeline = self._timeline.settled(now, boot_s) if self._clock_synced() else self._timeline
            self._guards.settle(timeline, boot_s)
            pairs = zip(timeline.held, self._timeline.held, strict=True)
            placed = [held for held, before in pairs if held is not before]
            moved, gone = timeline.advanced(boot_s), timeline.retired(boot_s)
            if not placed and not moved and not gone:
                return
            acks = [answers.progress(held, now) for held in moved if answers.is_told(held)]
            await self._store.advance((*placed, *moved), gone, acks)
            for held in moved:
                timeline = timeline.with_command(held)
            self._timeline = timeline.pruned(boot_s)
        self._answers.ring({ack.source for ack in acks})

    async def observe(self, power: SitePower, least_export_w: float | None = None) -> None:
        """Judge one sample against the limits that bind, and keep the counts; see `Breaches.observe`."""
        await self._breaches.observe(power, least_export_w, self._binding())

    async def pending_acks(self, source: str, most: int = 20) -> list[tuple[int | None, Ack]]:
        """Return acks to deliver, oldest first; number None: not stored, gone once returned."""
        stored = await self._store.pending_acks(source, most)
        return [*stored, *((None, ack) for ack in self._answers.take(source))]

    async def delivered(self, numbers: Iterable[int]) -> None:
        """Forget stored acks that have reached the operator."""
        await self._store.drop_acks(numbers)

    async def wait_for_acks(self, source: str) -> None:
        """Wait until there may be acks for a source."""
        await self._answers.wait(source)

    async def _accept(self, verdict: Accepted) -> Accepted | Refusal:
        command = verdict.command
        now, boot_s, kept = self._clock.now(), self._clock.boottime_s(), self._clock_synced()
        held = self._timeline.joined(hold(command, now, boot_s, calendar_kept=kept))
        after = None if verdict.after is None else hold(verdict.after, now, boot_s, calendar_kept=kept)
        self._obey_at_once(held, boot_s)
        try:
            await self._store.accept(held, verdict.digest, answers.accepted(held), after)
        except TransientError as error:
            self._urgent = None
            log.error("a grid command could not be stored", extra={"command_id": command.command_id})
            return Refusal(
                reason=Reason.STORE_UNAVAILABLE,
                detail=str(error)[:200],
                command_id=command.command_id,
                sequence=command.sequence,
            )
        except asyncio.CancelledError:
            self._doubt = (held, verdict.digest, after)
            raise
        self._hold(held, verdict.digest, after)
        return verdict

    def _obey_at_once(self, held: HeldCommand, boot_s: float) -> None:
        """Have a limit obeyed while the disk is still writing, where that can only take power away."""
        command, binding = held.command, self.envelope().binding
        if command.kind is LimitKind.EXPORT_CAPACITY_LIMIT:
            return  # a plant is slower than the disk
        stricter = binding is None or (command.value_w is not None and command.value_w < binding.limit_w)
        if stricter and not command.is_release and held.in_force(boot_s):
            self._urgent = held
            self.on_limit()

    async def _settle_doubt(self) -> None:
        """See whether a command is on the disk whose caller was cancelled while it was being stored.

        A link that is lost takes its reader with it; the transaction commits all the same.
        """
        if self._doubt is None:
            return
        held, digest, after = self._doubt
        now, boot_s = self._clock.now(), self._clock.boottime_s()
        memory = await self._store.recover(now, boot_s, calendar_kept=self._clock_synced())
        self._doubt = self._urgent = None
        last = memory.last_seen.get(held.command.source)
        if last is not None and last.sequence == held.command.sequence:
            self._hold(held, digest, after)

    def _hold(self, held: HeldCommand, digest: str, after: HeldCommand | None) -> None:
        """Let a command hold that is on the disk."""
        command = held.command
        self._last_seen[command.source] = LastSeen(
            sequence=command.sequence, command_id=command.command_id, digest=digest
        )
        self._urgent = None
        self._breaches.bind(self._binding())  # what bound until now may have ended unseen
        timeline = self._timeline
        self._timeline = (
            timeline.with_command(held) if after is None else timeline.with_reversion(held, after)
        )
        self._guards.told(held, self._clock.boottime_s())
        self._breaches.bind(self._binding())
        self.on_limit()
        log.info(
            "a grid command holds",
            extra={
                "source": command.source,
                "kind": command.kind.value,
                "command_id": command.command_id,
                "limit_w": command.value_w,
                "end_at": None if command.end_at is None else command.end_at.isoformat(),
            },
        )
        self._answers.ring({command.source})

    def _binding(self) -> dict[LimitKind, Limit | None]:
        exports = self.exports()
        return {
            LimitKind.IMPORT_CAPACITY_LIMIT: self.envelope().binding,
            LimitKind.EXPORT_CAPACITY_LIMIT: exports[0] if exports else None,
        }

    def _forged(self, source: str, leaf: str, payload: bytes) -> Refusal | None:
        seal = self._seals.get(source)
        return None if seal is None else seal.check(leaf, payload)

    def _reject(self, source: str, refusal: Refusal) -> None:
        log.warning("a grid command was refused", extra={"source": source, "reason": str(refusal)})
        if refusal.command_id is not None:  # else there is nobody to answer to
            self._answers.add(answers.rejected(source, refusal.command_id, refusal, self._clock.now()))
