"""One job's loop: look at its phase and its run, and do the next thing.

Level-triggered: each round starts from the record and the run directory, never from what the round before
did, so that a round after an agent's restart is a round like any other. That is the whole of recovery.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.core.jobgrants import begin
from agent.core.jobtable import LIVE, JobEvent, next_phase
from agent.jobs.book import JobBook, Live
from agent.jobs.fetching import bring
from agent.jobs.holding import heed_hold
from agent.jobs.launch import Launcher
from agent.jobs.leases import is_held
from agent.jobs.outcome import distrusted, judge_run, resume_instead
from agent.jobs.ports import Carrier, Checkpoints
from agent.jobs.runner import Run, Snapshot, run_of
from agent.jobs.sealing import Sealer
from agent.jobs.twins import Twins
from agent.model.jobs import JobPhase
from agent.model.records import JobRecord
from sterna.clock import Clock
from sterna.errors import PermanentError, SternaError, TransientError

log = logging.getLogger(__name__)

SOON_S = 0.05
"""Until the next look at something that takes milliseconds: a start, an exit."""
SEAL_TRIES = 5
LAUNCH_TRIES = 5
RETRY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every minder of a site shares."""

    root: Path
    """``ROOT/JOB/runs/RUN_ID`` are the run directories."""
    book: JobBook
    clock: Clock
    boot_id: str
    launcher: Launcher
    checkpoints: Checkpoints
    twins: Twins
    sealer: Sealer
    carrier: Carrier
    tick_s: float
    fetch_patience_s: float

    def run(self, record: JobRecord) -> Run:
        """Return the handle on a record's run."""
        return run_of(self.root, record)


class Minder:
    """Minds one job.

    Parameters
    ----------
    job_id : str
        Whose.
    tools : Tools
        What it works with.
    spawn : callable
        Starts a coroutine in the keeper's task group.
    """

    def __init__(self, job_id: str, tools: Tools, spawn: Callable[..., "asyncio.Task[None]"]) -> None:
        self._job_id = job_id
        self._tools = tools
        self._book = tools.book
        self._spawn = spawn
        self._wake = asyncio.Event()
        self._fetching: asyncio.Task[None] | None = None
        self._looking_ahead: asyncio.Task[None] | None = None
        self._launched = ("", 0)

    def wake(self) -> None:
        """Have the next round begin now."""
        self._wake.set()

    async def mind(self) -> None:
        """Round after round, for as long as the keeper runs."""
        while True:
            try:
                pause_s = await self._round(self._book.get(self._job_id))
            except TransientError as error:
                log.warning(
                    "job round failed, will be tried again",
                    extra={"job_id": self._job_id, "error": str(error)},
                )
                pause_s = error.retry_after_s or RETRY_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            self._wake.clear()

    async def drop_fetch(self) -> None:
        """End a fetch under way; on return nothing writes to staging any more."""
        task, self._fetching = self._fetching, None
        await _ended(task)

    async def _round(self, record: JobRecord) -> float | None:
        """Do what the phase asks for; return seconds to the next round, None: until woken."""
        match record.phase:
            case JobPhase.RESERVED:
                return await self._reserved(record)
            case JobPhase.FETCHING:
                if self._fetching is None or self._fetching.done():
                    self._fetching = self._spawn(self._fetch(record))
                return None
            case JobPhase.STARTING | JobPhase.RUNNING | JobPhase.PAUSED | JobPhase.STOPPING:
                return await self._live(record)
            case _:
                return None

    async def _reserved(self, record: JobRecord) -> float | None:
        if record.reserved_until_s is None:
            return None
        left_s = record.reserved_until_s - self._tools.clock.boottime_s()
        if record.boot_id == self._tools.boot_id and left_s > 0:
            return left_s
        await self._book.change(
            self._job_id,
            JobEvent.RESERVATION_EXPIRED,
            only_in={JobPhase.RESERVED},
            message="the reservation ran out",
            reserved_bytes=0,
            reserved_until_s=None,
        )
        return None

    async def _fetch(self, record: JobRecord) -> None:
        """Bring the checkpoint here; what failed leaves a reservation that may run out."""
        tools = self._tools
        arrived = await bring(
            record,
            book=self._book,
            carrier=tools.carrier,
            checkpoints=tools.checkpoints,
            twins=tools.twins,
            clock=tools.clock,
            boot_id=tools.boot_id,
            patience_s=tools.fetch_patience_s,
        )
        if not arrived:
            self.wake()

    async def _live(self, record: JobRecord) -> float | None:
        """Mind a process that is there, or is to be."""
        run = self._tools.run(record)
        seen = await asyncio.to_thread(run.look)
        if not seen.alive:
            never_ran = seen.exit is None and seen.identity is None
            if never_ran and record.phase is JobPhase.STARTING:
                return await self._launch(record, run)
            return await self._finish(record, run, seen)
        await asyncio.to_thread(run.instruct, record)
        self._see(seen)
        if seen.identity is None:
            return SOON_S
        if record.phase is JobPhase.STARTING:
            await self._book.change(self._job_id, JobEvent.STARTED, only_in={JobPhase.STARTING})
            return 0.0
        if record.phase is JobPhase.STOPPING:
            if seen.result is not None and self._looking_ahead is None and not record.stop_cancel:
                self._looking_ahead = self._spawn(self._tools.sealer.look_ahead(record, run, seen.progress))
            return SOON_S
        if record.hold is not None:
            await heed_hold(self._book, self._job_id, self._tools.clock.boottime_s(), self._tools.boot_id)
        await self._measure_load(record, seen)
        await self._seal_if_due(record, run, seen)
        return self._tools.tick_s

    def _see(self, seen: Snapshot) -> None:
        self._book.see(self._job_id, seen_live(seen))
        self._book.flush(self._job_id)

    async def _measure_load(self, record: JobRecord, seen: Snapshot) -> None:
        """Keep the time from the process's start to its first new step, once."""
        first_s = seen.progress.first_step_s
        if record.load_s is None and first_s is not None and seen.identity is not None:
            load_s = max(0.0, first_s - seen.identity.child_started_s)
            await self._book.change(
                self._job_id, only_in=LIVE, load_s=load_s, start_step=seen.progress.start_step
            )

    async def _seal_if_due(self, record: JobRecord, run: Run, seen: Snapshot) -> None:
        """Seal a running job's newest checkpoint when there is one and the interval is over."""
        if not self._tools.sealer.is_due(self._job_id):
            return
        try:
            if await self._seal(record, run, seen, ended=False):
                await self._prune()
        except SternaError as error:  # the next checkpoint is another chance; training goes on
            log.warning("checkpoint not sealed", extra={"job_id": self._job_id, "error": str(error)})

    async def _seal(self, record: JobRecord, run: Run, seen: Snapshot, *, ended: bool) -> bool:
        """Seal what is newer than the newest sealed; return whether it was saved after a request to stop."""
        known = await self._tools.checkpoints.checkpoints(self._job_id)
        candidate = await asyncio.to_thread(
            self._tools.sealer.candidate, record, run, seen.progress, known[0] if known else None, ended=ended
        )
        if candidate is None:
            return False
        alone = ended and not await asyncio.to_thread(run.has_processes)
        await self._tools.sealer.seal(record, candidate, left_in=run.checkpoint_dir if alone else None)
        stop_s = run.stop_requested_s()
        # Files get their times from a clock that ticks every few milliseconds: in the same tick nobody knows.
        return not ended or (stop_s is not None and candidate.written_s > stop_s)

    async def _launch(self, record: JobRecord, run: Run) -> float | None:
        """Start the process, under a grant that holds, from a checkpoint that is verified."""
        if record.lease is None or not is_held(
            record.lease, self._tools.clock.boottime_s(), self._tools.boot_id
        ):
            await self._book.change(
                self._job_id,
                JobEvent.STOPPED,
                only_in={JobPhase.STARTING},
                message="the grant ended before the process was started; a new one is needed",
            )
            return None
        try:
            await asyncio.to_thread(run.kill_leftovers, 0.0)
            resume = None
            if record.resume_id is not None:
                resume = await self._tools.twins.materialize(record.resume_id, run.resume_dir)
            self._count_launch(record)
            await self._tools.launcher.launch(run, record, resume)
        except PermanentError as error:
            log.error("job not started", extra={"job_id": self._job_id, "error": str(error)})
            await self._list_checkpoints()
            older_id = resume_instead(record, self._book.checkpoints(self._job_id))
            if older_id is not None:
                await self._book.change(self._job_id, only_in={JobPhase.STARTING}, resume_id=older_id)
                return 0.0
            await self._book.change(
                self._job_id, JobEvent.FAILED, only_in=LIVE, message=f"not started: {error}"
            )
            return None
        log.info(
            "job process started",
            extra={"job_id": self._job_id, "epoch": record.epoch, "resume_id": record.resume_id},
        )
        return SOON_S

    def _count_launch(self, record: JobRecord) -> None:
        """Give up on a shim that starts, says nothing and is gone, again and again."""
        run_id, tries = self._launched
        self._launched = (record.run_id, tries + 1 if run_id == record.run_id else 1)
        if self._launched[1] > LAUNCH_TRIES:
            raise PermanentError("its shim does not come up; see shim.log")

    async def _finish(self, record: JobRecord, run: Run, seen: Snapshot) -> float | None:
        """Nothing runs any more, or only leftovers: end those, seal, judge, record."""
        if seen.exit is None:
            grace_s = record.spec.stop_grace_s if record.spec is not None else 0.0
            killed = await asyncio.to_thread(run.kill_leftovers, grace_s)
            log.warning("the shim of a job was lost", extra={"job_id": self._job_id, "killed": killed})
            seen = await asyncio.to_thread(run.look)
        task, self._looking_ahead = self._looking_ahead, None
        await _ended(task)
        after_stop, trouble = await self._seal_last(record, run, seen)
        await self._list_checkpoints()
        self._see(seen)
        async with self._book.locked(self._job_id):
            record = self._book.get(self._job_id)
            if record.phase not in LIVE:
                return None
            record = await self._conclude(record, seen, after_stop=after_stop, trouble=trouble)
        if record.phase is JobPhase.STARTING:
            return 0.0
        if not distrusted(seen, self._tools.boot_id):  # else it stays for a look, until the run itself goes
            await asyncio.to_thread(run.remove_bulk)
        await self._prune()
        await asyncio.to_thread(self._tidy, run)
        return None

    async def _seal_last(self, record: JobRecord, run: Run, seen: Snapshot) -> tuple[bool, str]:
        """Seal the last checkpoint; return whether it was saved after the stop, and what went wrong."""
        if record.stop_cancel:
            return False, ""
        if doubt := distrusted(seen, self._tools.boot_id):
            return False, f"last checkpoint not sealed: {doubt}"
        for attempt in range(SEAL_TRIES):
            try:
                return await self._seal(record, run, seen, ended=True), ""
            except TransientError as error:
                if attempt == SEAL_TRIES - 1:
                    return False, f"last checkpoint not sealed: {error}"
                await asyncio.sleep(error.retry_after_s or RETRY_S / SEAL_TRIES)
            except PermanentError as error:
                return False, f"last checkpoint not sealed: {error}"
        raise AssertionError("unreachable")

    async def _conclude(
        self, record: JobRecord, seen: Snapshot, *, after_stop: bool, trouble: str
    ) -> JobRecord:
        """Record what became of the run, and of a grant that was waiting for its end."""
        now_s = self._tools.clock.boottime_s()
        listed = self._book.checkpoints(self._job_id)
        holds = record.lease is not None and is_held(record.lease, now_s, self._tools.boot_id)
        verdict = judge_run(record, seen, listed, sealed_after_stop=after_stop, may_restart=holds)
        ordered_s = record.stop_ordered_s if record.boot_id == self._tools.boot_id else None
        log.info(
            "job run ended",
            extra={"job_id": self._job_id, "event": verdict.event.name, "detail": verdict.message},
        )
        record = replace(
            record,
            step=seen.progress.step if seen.progress.step is not None else record.step,
            message="; ".join(part for part in (verdict.message, trouble) if part),
            seal_s=now_s - ordered_s if ordered_s is not None else record.seal_s,
        )
        newest = listed[0].checkpoint_id if listed else None
        if verdict.event is JobEvent.RUN_LOST:
            record = replace(
                record,
                restarts=record.restarts + 1,
                resume_id=newest,
                run_id=new_run_id(),
                start_step=None,
            )
        pending, record = record.pending, replace(record, pending=None)
        if pending is None or verdict.event is not JobEvent.STOPPED:
            return await self._book.put(record, verdict.event)
        # The stop is over, and the grant to go on has been waiting for it: both in one record, or neither.
        granted = begin(
            replace(record, phase=next_phase(record.phase, verdict.event)),
            pending,
            held=listed,
            run_id=new_run_id(),
        )
        return await self._book.put(granted, JobEvent.START)

    def _tidy(self, run: Run) -> None:
        """Keep the last two runs' logs."""
        runs = sorted(run.directory.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in runs[:-2]:
            if old != run.directory and not Run(old).is_alive():
                Run(old).remove()

    async def _prune(self) -> None:
        await self._tools.sealer.prune(self._job_id)
        await self._list_checkpoints()

    async def _list_checkpoints(self) -> None:
        self._book.list_checkpoints(self._job_id, await self._tools.checkpoints.checkpoints(self._job_id))


async def _ended(task: "asyncio.Task[None] | None") -> None:
    """End a task that somebody else has started."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


def new_run_id() -> str:
    """Return a name that no run has had."""
    return secrets.token_hex(8)


def seen_live(seen: Snapshot) -> Live:
    """Return what one look at a run is worth to a report."""
    return Live(
        step=seen.progress.step,
        start_step=seen.progress.start_step,
        pid=seen.identity.child_pid if seen.identity is not None and seen.alive else None,
    )
