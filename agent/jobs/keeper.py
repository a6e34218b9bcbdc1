"""Keeps all jobs of a site: answers orders, minds processes, tells what changed.

An order is judged by `agent.core.joborders`, recorded, and only then answered and done. Jobs outlive this
process: cancelling `run` leaves them alone, and the next keeper adopts them.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from agent.core import joborders
from agent.core.jobgrants import apply_order
from agent.core.joborders import Accept, Refuse
from agent.core.jobtable import LIVE, SLOT_HOLDING
from agent.jobs.answers import answer, fault_of
from agent.jobs.book import JobBook, ReportSink
from agent.jobs.launch import Launcher
from agent.jobs.leases import LeaseClock, is_held
from agent.jobs.listing import list_all, list_in_the_end, room_for
from agent.jobs.minder import Minder, Tools, new_run_id, seen_live
from agent.jobs.offering import Offers
from agent.jobs.ports import Carrier, Checkpoints, RecordStore
from agent.jobs.sealing import Sealer
from agent.jobs.suspending import halt, suspend, tell_shim
from agent.jobs.twins import Twins
from agent.model.jobs import JobPhase, JobSpec
from agent.model.orders import (
    Fetch,
    JobReport,
    Offer,
    Order,
    OrderAck,
    OrderResult,
    Pause,
    Prepare,
    Release,
    Start,
    Stop,
)
from agent.model.records import JobRecord
from sterna import pace
from sterna.clock import Clock
from sterna.errors import PermanentError, SternaError, TransientError

log = logging.getLogger(__name__)


class Keeper:
    """All jobs of a site.

    Parameters
    ----------
    root : Path
        Run directories; same file system as the checkpoint store where possible, so that reflinks work.
    records : RecordStore
        Durable records.
    checkpoints : Checkpoints
        Sealed checkpoints.
    twins : Twins
        Copies of those that arrive, for the start.
    carrier : Carrier
        Fetches and offers.
    clock : Clock
        The machine's clocks; leases run on its CLOCK_BOOTTIME.
    boot_id : str
        This boot; see `agent.shim.files.boot_id`.
    launcher : Launcher
        Starts shims.
    on_report : callable
        Gets every changed `JobReport`; must not block.
    slots : int
        Jobs that may be here at once.
    checkpoint_interval_s : float
        Shortest time between two seals of a running job.
    keep_checkpoints : int
        Sealed checkpoints kept of a running job, at least 2.
    tick_s : float
        Period at which a running job is looked at.
    fetch_patience_s : float
        Seconds without a new byte after which a fetch is given up.
    report_interval_s : float
        Shortest time between reports that differ in progress alone.
    """

    def __init__(
        self,
        *,
        root: Path,
        records: RecordStore,
        checkpoints: Checkpoints,
        twins: Twins,
        carrier: Carrier,
        clock: Clock,
        boot_id: str,
        launcher: Launcher,
        on_report: ReportSink,
        slots: int,
        checkpoint_interval_s: float = 600.0,
        keep_checkpoints: int = 2,
        tick_s: float = 0.25,
        fetch_patience_s: float = 300.0,
        report_interval_s: float = 1.0,
    ) -> None:
        self._root = root
        self._clock = clock
        self._boot_id = boot_id
        self._checkpoints = checkpoints
        self._offers = Offers(carrier)
        self._slots = slots
        self._book = JobBook(
            store=records, clock=clock, on_report=on_report, report_interval_s=report_interval_s
        )
        checkpoints.watch(self._book.list_checkpoints)
        self._tools = Tools(
            root=root,
            book=self._book,
            clock=clock,
            boot_id=boot_id,
            launcher=launcher,
            checkpoints=checkpoints,
            twins=twins,
            sealer=Sealer(
                checkpoints=checkpoints, clock=clock, interval_s=checkpoint_interval_s, keep=keep_checkpoints
            ),
            carrier=carrier,
            tick_s=tick_s,
            fetch_patience_s=fetch_patience_s,
        )
        self._minders: dict[str, Minder] = {}
        self._group: asyncio.TaskGroup | None = None
        self._orders = asyncio.Lock()
        self._leases = LeaseClock()

    async def open(self) -> None:
        """Read the records and list the checkpoints; to be awaited before anything else.

        A store that cannot be read keeps nobody from starting; see `storage_fault`.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        await self._book.load()
        for record in self._book.records():
            if record.phase in LIVE:
                look = self._tools.run(record).look
                self._book.see(record.job_id, seen_live(await asyncio.to_thread(look)))
            if record.phase is JobPhase.RELEASED:  # the agent may have died between record and removal
                await asyncio.to_thread(self._remove_runs, record.job_id)
        await list_all(self._book, self._checkpoints)

    async def run(self, beat: Callable[[], None] = lambda: None, beat_s: float = 1.0) -> None:
        """Mind the jobs until cancelled; they go on after that.

        Parameters
        ----------
        beat : callable
            Called at least every `beat_s` seconds while the loop lives.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._spawn(list_in_the_end(self._book, self._checkpoints))
                for record in self._book.records():
                    if record.phase is not JobPhase.RELEASED:
                        self._minder(record.job_id)
                while True:
                    beat()
                    await pace.rest(beat_s)
            finally:
                self._group = None
                self._minders.clear()
                self._offers.clear()

    async def handle(self, order: Order, *, received_boot_s: float | None = None) -> OrderAck:
        """Judge an order, record it, have it done.

        Parameters
        ----------
        order : Order
            From the coordinator.
        received_boot_s : float or None
            CLOCK_BOOTTIME of its receipt, from which a lease counts, however long it waited; None: now.

        Returns
        -------
        OrderAck
            Durable: what it promises survives a power cut. Refused when the store does not take it now.
        """
        fault = fault_of(order, self._tools.launcher.obstacle)
        if not fault and isinstance(order.action, Prepare):  # nothing has stopped for it yet
            fault = await self._tools.launcher.image_obstacle(order.action.spec, self._spawn)
        if fault:
            return answer(order, OrderResult.REFUSED, fault)
        try:
            async with self._orders, self._book.locked(order.job_id):
                record = await self._book.settled(order.job_id)
                room = await room_for(
                    record, self._book, self._checkpoints, lambda: self._slots - self.slots_held
                )
                verdict = joborders.judge_order(record, order, room)
                if isinstance(verdict, Refuse):
                    log.warning("order refused", extra={"job_id": order.job_id, "reason": verdict.reason})
                    return answer(order, OrderResult.REFUSED, verdict.reason)
                if isinstance(verdict, Accept):
                    record = apply_order(
                        record,
                        order,
                        verdict,
                        held=self._book.checkpoints(order.job_id),
                        run_id=new_run_id(),
                        now_s=self._clock.boottime_s() if received_boot_s is None else received_boot_s,
                        now=self._clock.now(),
                        boot_id=self._boot_id,
                    )
                    record = await self._book.put(record, verdict.event)
        except TransientError as error:
            return answer(order, OrderResult.REFUSED, f"cannot be recorded now: {error}")
        if not isinstance(verdict, Accept):
            if isinstance(order.action, Release) and record.phase is JobPhase.RELEASED:
                # Recorded before, perhaps by a save that said it had failed: then nobody has let go yet.
                await self._let_go(order.job_id, None)
            is_done = isinstance(verdict, joborders.Done)
            return answer(order, OrderResult.DONE if is_done else OrderResult.ACCEPTED)
        kind = type(order.action).__name__
        log.info("order accepted", extra={"job_id": order.job_id, "kind": kind, "epoch": order.epoch})
        await self._act(order, record)
        return answer(order, OrderResult.ACCEPTED)

    async def pause(self, job_id: str) -> bool:
        """Suspend a running job (SIGSTOP of its group); see `agent.jobs.suspending.suspend`."""
        return await suspend(self._tools, job_id, paused=True)

    async def resume(self, job_id: str) -> bool:
        """Let a suspended job go on; see `agent.jobs.suspending.suspend`."""
        return await suspend(self._tools, job_id, paused=False)

    async def halt(self, job_id: str, reason: str) -> bool:
        """Have a job save and stop, unordered; see `agent.jobs.suspending.halt`."""
        return await halt(self._tools, job_id, reason)

    async def extend_lease(
        self, job_id: str, epoch: int, ttl_s: float | None, counted_from_boot_s: float
    ) -> bool:
        """Extend the lease of a live job, durably, then tell its shim.

        Parameters
        ----------
        job_id, epoch
            Which grant.
        ttl_s : float or None
            Seconds from `counted_from_boot_s`; None: without end from now on.
        counted_from_boot_s : float
            CLOCK_BOOTTIME at which the renewal was sent.

        Returns
        -------
        bool
            False, and nothing changed, when the grant is not the current one, has ended, or would be shorter.
        """
        now_s = self._clock.boottime_s()
        async with self._book.locked(job_id):
            record = self._book.get(job_id)
            lease = record.lease
            if record.phase not in LIVE or record.epoch != epoch or lease is None:
                return False
            if not is_held(lease, now_s, self._boot_id):
                return False
            expires_s = None if ttl_s is None else counted_from_boot_s + ttl_s
            if expires_s is not None and (lease.expires_s is None or expires_s <= lease.expires_s):
                return False
            record = await self._book.put(
                replace(record, lease=replace(lease, ttl_s=ttl_s, expires_s=expires_s))
            )
        await tell_shim(self._tools, record)
        return True

    def leases_due(self) -> list[tuple[str, int]]:
        """Return (job_id, epoch) of the leases to renew now; each is named again only after a while."""
        return self._leases.due(self._book.records(), self._clock.boottime_s(), self._boot_id)

    def reports(self) -> tuple[JobReport, ...]:
        """Return every job that is not released, or of which a checkpoint is here."""
        return self._book.reports()

    async def settled_reports(self) -> tuple[JobReport, ...]:
        """Return the same, as Hello wants them: nothing that the next life of this process would not say."""
        async with self._orders:  # whichever is being recorded
            await self._book.settle()
        return self._book.reports()

    def running_power(self) -> dict[str, float]:
        """Return the declared watts of every job that draws them now; suspended ones do not."""
        return {
            record.job_id: record.spec.power_w
            for record in self._book.records()
            if record.phase in (JobPhase.STARTING, JobPhase.RUNNING, JobPhase.STOPPING) and record.spec
        }

    def live(self) -> dict[str, tuple[JobPhase, JobSpec]]:
        """Return phase and spec of every job that has a process here, suspended ones included."""
        return {
            record.job_id: (record.phase, record.spec)
            for record in self._book.records()
            if record.phase in LIVE and record.spec
        }

    def held(self) -> frozenset[str]:
        """Return the suspended jobs that the plan holds back: they are not the ladder's to resume."""
        return frozenset(
            one.job_id
            for one in self._book.records()
            if one.hold is not None and one.hold.power_w is None and one.phase is JobPhase.PAUSED
        )

    def slowed(self) -> dict[str, float]:
        """Return the watts that each job may draw which the plan slows."""
        return {
            one.job_id: one.hold.power_w
            for one in self._book.records()
            if one.hold is not None and one.hold.power_w is not None
        }

    def paused(self) -> tuple[str, ...]:
        """Return the jobs that are suspended, by the power ladder or the plan."""
        return tuple(item.job_id for item in self._book.records() if item.phase is JobPhase.PAUSED)

    def epoch_of(self, job_id: str) -> int:
        """Return the epoch under which a job runs or last ran here; 0 when it never did."""
        return self._book.get(job_id).epoch

    def sealed_at(self, job_id: str) -> datetime | None:
        """Return when a job's newest checkpoint here was sealed; None: it has none."""
        return max((held.manifest.sealed_at for held in self._book.checkpoints(job_id)), default=None)

    @property
    def slots_held(self) -> int:
        """Slots that jobs and reservations take."""
        return sum(record.phase in SLOT_HOLDING for record in self._book.records())

    @property
    def slots(self) -> int:
        """Slots that the site gives: none while its checkpoints cannot be read."""
        return 0 if self.storage_fault else self._slots

    @property
    def storage_fault(self) -> str:
        """Why the checkpoint store cannot be read now, in words; empty when it can."""
        return self._checkpoints.fault

    async def _act(self, order: Order, record: JobRecord) -> None:
        """Do at once what must not wait for the job's next round, and have that begin."""
        if isinstance(order.action, Offer):
            self._offers.serve(order.job_id, order.action, self._spawn)
            return
        if isinstance(order.action, Release):
            await self._let_go(order.job_id, order.action.keep_checkpoints)
        elif isinstance(order.action, (Stop, Start, Pause)) and record.phase in LIVE:
            await tell_shim(self._tools, record)
        minder = self._minder(order.job_id)
        if minder is not None:
            if isinstance(order.action, Fetch):  # one that is under way goes by an order that has changed
                await minder.drop_fetch()
            minder.wake()

    async def _let_go(self, job_id: str, keep: int | None) -> None:
        """Drop what a released job leaves, also all checkpoints but `keep`; what fails, at the next start."""
        self._offers.drop(job_id)
        minder = self._minders.get(job_id)
        if minder is not None:
            await minder.drop_fetch()
        try:
            await self._checkpoints.drop_staging(job_id)
            if keep is not None:
                await self._checkpoints.keep_newest(job_id, keep)
            self._book.list_checkpoints(job_id, await self._checkpoints.checkpoints(job_id))
        except SternaError as error:
            log.warning("released job not cleared", extra={"job_id": job_id, "error": str(error)})
        await asyncio.to_thread(self._remove_runs, job_id)

    def _remove_runs(self, job_id: str) -> None:
        shutil.rmtree(self._root / job_id, ignore_errors=True)

    def _minder(self, job_id: str) -> Minder | None:
        """Return the job's minder, started when it is not; None while `run` does not run."""
        if self._group is None:
            return None
        minder = self._minders.get(job_id)
        if minder is None:
            minder = self._minders[job_id] = Minder(job_id, self._tools, self._spawn)
            self._spawn(minder.mind())
        return minder

    def _spawn(self, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        if self._group is None:
            work.close()
            raise PermanentError("the keeper does not run")
        return self._group.create_task(work)
