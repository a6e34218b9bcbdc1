"""The job records of a site: durable before they are believed, reported when they change.

Owns which record is current and what was reported of it. Decides nothing: the phase comes from the table.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from agent.core.joborders import HOLDABLE
from agent.core.jobtable import JobEvent, next_phase
from agent.jobs.ports import RecordStore
from agent.model.jobs import Checkpoint, JobPhase
from agent.model.orders import JobReport
from agent.model.records import JobRecord
from sterna.clock import Clock
from sterna.errors import CorruptError

ReportSink = Callable[[JobReport], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What is seen of a job between two records; lost with the agent, found again by looking."""

    step: int | None = None
    start_step: int | None = None
    pid: int | None = None
    fetched_bytes: int = 0


class JobBook:
    """Records, what is seen live, and the reports made of both.

    Parameters
    ----------
    store : RecordStore
        Where records survive.
    clock : Clock
        Dates reports.
    on_report : callable
        Gets every changed report; must not block.
    report_interval_s : float
        Shortest time between two reports of a job that differ in its progress alone.
    """

    def __init__(
        self, *, store: RecordStore, clock: Clock, on_report: ReportSink, report_interval_s: float
    ) -> None:
        self._store = store
        self._clock = clock
        self._on_report = on_report
        self._report_interval_s = report_interval_s
        self._records: dict[str, JobRecord] = {}
        self._live: dict[str, Live] = {}
        self._checkpoints: dict[str, tuple[Checkpoint, ...]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._reported: dict[str, tuple[JobReport, float]] = {}
        self._doubtful: set[str] = set()
        self._last_instant: datetime | None = None

    async def load(self) -> None:
        """Read the records of earlier lives."""
        self._records = {record.job_id: record for record in await self._store.load()}

    def records(self) -> tuple[JobRecord, ...]:
        """Return all records, also released ones."""
        return tuple(self._records.values())

    def get(self, job_id: str) -> JobRecord:
        """Return a job's record; a fresh one for a job that was never here."""
        return self._records.get(job_id) or JobRecord(job_id=job_id)

    def locked(self, job_id: str) -> AbstractAsyncContextManager[None]:
        """Hold a job's record still, for a decision and the change that follows from it."""
        return self._locks.setdefault(job_id, asyncio.Lock())

    async def put(self, record: JobRecord, event: JobEvent | None = None) -> JobRecord:
        """Make a record current, under the caller's lock: event through the table, then disk, then memory.

        Raises
        ------
        IllegalTransitionError
            The table has no entry for the event; nothing changed.
        TransientError
            The disk does not take it, or says so; nothing changed here, see `settled`.
        """
        if event is not None:
            record = replace(record, phase=next_phase(record.phase, event))
        self._doubtful.add(record.job_id)  # until the disk has answered; the caller may not wait for that
        await self._store.save(record)
        self._doubtful.discard(record.job_id)
        self._records[record.job_id] = record
        self.report(record.job_id)
        return record

    async def settled(self, job_id: str) -> JobRecord:
        """Return a job's record, the same in memory and on disk, under the caller's lock.

        A save that failed may have reached the disk all the same: whoever answers from memory would promise
        what the next life of this process does not know. So the record in memory is written again; where the
        disk has a higher epoch, what is there counts.

        Raises
        ------
        TransientError
            The disk still does not take it; nobody knows what will be found there.
        """
        if job_id in self._doubtful:
            try:
                await self._store.save(self.get(job_id))
            except CorruptError:
                stored = {record.job_id: record for record in await self._store.load()}
                self._records[job_id] = stored[job_id]
                self.report(job_id)
            self._doubtful.discard(job_id)
        return self.get(job_id)

    async def settle(self) -> None:
        """Settle every job of which it is not known what is on disk, also those that are being saved now.

        Raises
        ------
        TransientError
            The disk still does not take one of them.
        """
        while self._doubtful:
            for job_id in tuple(self._doubtful):
                async with self.locked(job_id):
                    await self.settled(job_id)

    async def change(
        self,
        job_id: str,
        event: JobEvent | None = None,
        *,
        only_in: Collection[JobPhase] | None = None,
        **fields: Any,
    ) -> JobRecord | None:
        """Lock, change and put; None, and nothing changed, when the phase is no longer one of `only_in`."""
        async with self.locked(job_id):
            record = await self.settled(job_id)
            if only_in is not None and record.phase not in only_in:
                return None
            return await self.put(replace(record, **fields), event)

    def live(self, job_id: str) -> Live:
        """Return what was seen last."""
        return self._live.get(job_id, Live())

    def see(self, job_id: str, live: Live) -> None:
        """Note what is seen now; reported, but not too often."""
        if live == self.live(job_id):
            return
        self._live[job_id] = live
        last = self._reported.get(job_id)
        if last is None or self._clock.boottime_s() - last[1] >= self._report_interval_s:
            self.report(job_id)

    def flush(self, job_id: str) -> None:
        """Report progress that was held back, once it has waited long enough."""
        last = self._reported.get(job_id)
        if last is not None and self._clock.boottime_s() - last[1] >= self._report_interval_s:
            self.report(job_id)

    def checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """Return a job's sealed checkpoints as last listed, newest first; none before they were listed."""
        return self._checkpoints.get(job_id, ())

    def list_checkpoints(self, job_id: str, checkpoints: tuple[Checkpoint, ...]) -> None:
        """Note which checkpoints are here."""
        if checkpoints != self._checkpoints.get(job_id):
            self._checkpoints[job_id] = checkpoints
            self.report(job_id)

    def reports(self) -> tuple[JobReport, ...]:
        """Return every job that is not released, or of which a checkpoint is here."""
        return tuple(
            self.describe(record.job_id)
            for record in self._records.values()
            if record.phase is not JobPhase.RELEASED or self.checkpoints(record.job_id)
        )

    def report(self, job_id: str) -> None:
        """Tell what changed since the last report of this job, if anything did."""
        if job_id not in self._records:
            return
        report = self.describe(job_id)
        last = self._reported.get(job_id)
        if last is not None and replace(report, reported_at=last[0].reported_at) == last[0]:
            return
        self._reported[job_id] = (report, self._clock.boottime_s())
        self._on_report(report)

    def describe(self, job_id: str) -> JobReport:
        """Return the whole of what is known of a job."""
        record, live = self.get(job_id), self.live(job_id)
        hold = record.hold if record.phase in HOLDABLE else None
        return JobReport(
            job_id=job_id,
            epoch=record.epoch,
            phase=record.phase,
            migration_id=record.migration_id,
            reported_at=self._instant(),
            step=live.step if live.step is not None else record.step,
            start_step=live.start_step if live.start_step is not None else record.start_step,
            checkpoints=self.checkpoints(job_id),
            message=record.message,
            fetched_bytes=live.fetched_bytes,
            seal_s=record.seal_s,
            goodput_bps=record.goodput_bps,
            transferred_bytes=record.transferred_bytes,
            highest_epoch=record.highest_epoch,
            load_s=record.load_s,
            pid=live.pid,
            held_until=hold.until_at if hold is not None else None,
            slowed_to_w=hold.power_w if hold is not None else None,
            hold_sequence=record.hold_sequence,
            checkpoints_unknown=job_id not in self._checkpoints,
        )

    def _instant(self) -> datetime:
        """Return the calendar's instant, but never one before the last: reports are told apart by it.

        A calendar that is set back would else make the coordinator take what is new for old.
        """
        now = self._clock.now()
        if self._last_instant is not None and now <= self._last_instant:
            now = self._last_instant + timedelta(microseconds=1)
        self._last_instant = now
        return now
