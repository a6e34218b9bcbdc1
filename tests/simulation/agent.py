"""The agent's shell in the simulation: the steps of `agent.jobs.keeper` and `minder`, one function call each.

What is decided is decided by the production cores; what is done goes to the simulated machine. Memory is lost
with the process, records are not.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from agent.core import jobgrants, joborders
from agent.core.joborders import Accept, Refuse, Room
from agent.core.jobtable import LIVE, SLOT_HOLDING, JobEvent, next_phase
from agent.jobs import leases
from agent.jobs import outcome as outcomes
from agent.jobs.leases import LeaseClock
from agent.jobs.sealing import RETRY_FRAC
from agent.model.jobs import Checkpoint, JobPhase
from agent.model.orders import Fetch, Offer, Order, Pause, Release, Resume, Start, Stop
from agent.model.records import JobRecord
from agent.uplink.renewals import RenewalTimes
from sterna.errors import CorruptError, PermanentError, TransientError
from tests.simulation import wire
from tests.simulation.carrying import Fetching
from tests.simulation.machine import Machine
from tests.simulation.network import Session
from tests.simulation.training import SEAL_INTERVAL_S, TICK_S, Control, Shim, read_snapshot

KEPT = 2


class Link:
    """The agent's end of its sessions."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self.session: Session | None = None
        self.renewals = RenewalTimes()

    def later(self) -> None:
        self._agent.later(self._agent.world.between(0.5, 3.0), self.connect)

    def connect(self) -> None:
        if self.session is None:
            self._agent.machine.network.connect(self._agent)

    def welcome(self, session: Session) -> None:
        self.session = session
        self.renewals = RenewalTimes()
        self._agent.world.tell(self._agent.site_id, "session {}", session.number)
        self._agent.flush()

    def broken(self, session: Session) -> None:
        if self.session is session:
            self.session = None
            self.later()

    def lost(self) -> None:
        """Die with the process; the coordinator hears of it some time."""
        if self.session is not None:
            self._agent.machine.network.break_session(self.session)


class Agent:
    """One life of the agent's process.

    Parameters
    ----------
    machine : Machine
        On which it runs.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine, self.world, self.site_id = machine, machine.world, machine.site_id
        self.clock, self.disk, self.vault = machine.clock, machine.disk, machine.vault
        self.alive = True
        self.records: dict[str, JobRecord] = {}
        self.fetches: dict[str, Fetching] = {}
        self.offers: dict[str, Offer] = {}
        self.link = Link(self)
        self._lease_clock = LeaseClock()
        self._seal_due_s: dict[str, float] = {}
        self._seen: dict[str, tuple[int | None, int | None]] = {}
        self._mourned_s: dict[str, float] = {}
        self._reported: dict[str, wire.JobReport] = {}
        self._last_instant: datetime | None = None
        self._doubtful: set[str] = set()
        self.hellos = 0

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do something unless the process has died by then."""
        self.world.after(delay_s, lambda: act() if self.alive else None)

    def open(self) -> None:
        """Read what earlier lives left."""
        self.records = dict(self.disk.folder(("records", "")))
        for record in self.records.values():
            if record.phase is JobPhase.RELEASED:
                self._remove_runs(record.job_id)
        self.link.later()
        self.later(self.world.between(0.05, 1.0), self.tick)

    def tick(self) -> None:
        """Mind every job, renew leases, report; then again."""
        self.later(TICK_S, self.tick)
        for job_id in list(self.records):
            self.mind(job_id)
        for job_id, epoch in self._lease_clock.due(
            self.records.values(), self.clock.boottime_s(), self.clock.boot_id
        ):
            self._renew(job_id, epoch)
        self.flush()

    # -- orders -----------------------------------------------------------------------------------

    def take_order(self, order: Order) -> None:
        """Queue an order; its lease counts from now."""
        received_s, hellos = self.clock.boottime_s(), self.hellos
        self.later(self.world.between(0.0, 0.2), lambda: self._answer(order, received_s, hellos))

    def _answer(self, order: Order, received_s: float, hellos: int) -> None:
        if hellos != self.hellos:  # forgotten: `Inbox.forget_orders`
            return
        accepted, reason = self.handle(order, received_s)
        session, site_id, order_id = self.link.session, self.site_id, order.order_id
        if session is not None:
            self.machine.network.up(session, lambda house: house.on_ack(site_id, order_id, accepted, reason))
        self.flush()

    def handle(self, order: Order, received_s: float) -> tuple[bool, str]:
        """Judge an order, record it, do it: `Keeper.handle`."""
        job_id = order.job_id
        try:
            record = self.settled(job_id)
        except TransientError as error:
            return False, f"cannot be recorded now: {error}"
        room = self._room(job_id)
        verdict = joborders.judge_order(record, order, room)
        kind = type(order.action).__name__
        if isinstance(verdict, Refuse):
            self.world.tell(self.site_id, "refuses {} of {} under {}: {}", kind, job_id, order.epoch,
                            verdict.reason)  # fmt: skip
            return False, verdict.reason
        if not isinstance(verdict, Accept):
            if isinstance(order.action, Release) and record.phase is JobPhase.RELEASED:
                self._let_go(job_id)
            return True, ""
        self.world.tell(self.site_id, "accepts {} of {} under {}", kind, job_id, order.epoch)
        after = jobgrants.apply_order(
            record,
            order,
            verdict,
            held=self.vault.listed(job_id),
            run_id=self.machine.new_run_id(),
            now_s=received_s,
            now=self.clock.now(),
            boot_id=self.clock.boot_id,
        )
        self.machine.watch.accepted(self.site_id, order)
        try:
            after = self.put(after, verdict.event)
        except (TransientError, CorruptError) as error:
            return False, f"cannot be recorded now: {error}"
        self.machine.watch.judged_twice(order, after, joborders.judge_order(after, order, self._room(job_id)))
        self._act(order, after)
        return True, ""

    def _act(self, order: Order, record: JobRecord) -> None:
        job_id = order.job_id
        match order.action:
            case Offer():
                self.offers[job_id] = order.action
            case Release(keep_checkpoints=keep):
                self._let_go(job_id)
                self.machine.watch.deleted(self.site_id, self.vault.keep_newest(job_id, keep))
            case Stop() | Start() | Pause() if record.phase in LIVE:
                self._instruct(record)
            case Resume():  # no limit bounds these sites: the power ladder lets it go on
                self.pause(job_id, paused=False)
            case Fetch():
                self.fetches.pop(job_id, None)
        self.later(0.01, lambda: self.mind(job_id))

    def _let_go(self, job_id: str) -> None:
        """Drop what a released job leaves, but its checkpoints (`Keeper._let_go`)."""
        self.offers.pop(job_id, None)
        self.fetches.pop(job_id, None)
        self.disk.remove_all(("staging", job_id))
        self._remove_runs(job_id)

    def _room(self, job_id: str) -> Room:
        held = sum(record.phase in SLOT_HOLDING for record in self.records.values())
        ids = frozenset(one.checkpoint_id for one in self.vault.listed(job_id))
        return Room(slots_free=self.machine.kind.slots - held, free_bytes=10**12, checkpoint_ids=ids)

    def put(self, record: JobRecord, event: JobEvent | None = None) -> JobRecord:
        """Make a record current: through the table, then the disk, then memory (`JobBook.put`)."""
        if event is not None:
            record = replace(record, phase=next_phase(record.phase, event))
        stored: JobRecord | None = self.disk.read(("records", ""), record.job_id)
        if stored is not None and stored.highest_epoch > record.highest_epoch:  # as the table's guard has it
            raise CorruptError(f"job {record.job_id}: epoch {record.highest_epoch} is below the stored one")
        self._doubtful.add(record.job_id)
        self.machine.commit(lambda: self.disk.write(("records", ""), record.job_id, record, durable=True))
        self._doubtful.discard(record.job_id)
        self.records[record.job_id] = record
        self.machine.watch.recorded(self.machine, record)
        return record

    def settled(self, job_id: str) -> JobRecord:
        """Return a record that is the same in memory and on disk (`JobBook.settled`)."""
        if job_id in self._doubtful:
            try:
                self.put(self.records.get(job_id) or JobRecord(job_id=job_id))
            except CorruptError:
                self.records[job_id] = self.disk.read(("records", ""), job_id)
                self._doubtful.discard(job_id)
                self.report(job_id)
        return self.records.get(job_id) or JobRecord(job_id=job_id)

    def change(
        self, job_id: str, event: JobEvent | None, *, only_in: JobPhase | None = None, **fields: object
    ) -> JobRecord | None:
        """Change a record as long as it is in that phase, or in the one that it was (`JobBook.change`).

        None: it is not; the next round looks again.
        """
        phase = self.records[job_id].phase if only_in is None else only_in
        try:
            record = self.settled(job_id)
            if record.phase is not phase:
                return None
            return self.put(replace(record, **fields), event)  # type: ignore[arg-type]
        except TransientError:
            return None

    # -- leases -----------------------------------------------------------------------------------

    def _renew(self, job_id: str, epoch: int) -> None:
        session, site_id = self.link.session, self.site_id
        if session is None:
            return
        self.link.renewals.sent(job_id, epoch, self.clock.boottime_s())
        self.machine.network.up(
            session, lambda house: house.on_renewal(site_id, job_id, epoch), orderly="renewals"
        )

    def take_lease(self, job_id: str, epoch: int, ttl_s: float | None) -> None:
        counted_from_s = self.link.renewals.answered(job_id, epoch)
        if counted_from_s is not None:
            self.later(0.02, lambda: self._extend(job_id, epoch, ttl_s, counted_from_s))

    def _extend(self, job_id: str, epoch: int, ttl_s: float | None, counted_from_s: float) -> None:
        """Extend a lease: `Keeper.extend_lease`."""
        record = self.records.get(job_id)
        if record is None or record.lease is None or record.phase not in LIVE or record.epoch != epoch:
            return
        if not leases.is_held(record.lease, self.clock.boottime_s(), self.clock.boot_id):
            return
        expires_s = None if ttl_s is None else counted_from_s + ttl_s
        if expires_s is not None and (record.lease.expires_s is None or expires_s <= record.lease.expires_s):
            return
        changed = self.change(job_id, None, lease=replace(record.lease, ttl_s=ttl_s, expires_s=expires_s))
        if changed is not None:
            self._instruct(changed)

    # -- minding one job --------------------------------------------------------------------------

    def mind(self, job_id: str) -> None:
        """Do what a job's phase asks for: a round of its `Minder`."""
        for _ in range(4):
            before = self.records.get(job_id)
            if before is None:
                return
            self._round(before)
            if self.records[job_id].phase is before.phase:
                break
        self.report(job_id)

    def _round(self, record: JobRecord) -> None:
        match record.phase:
            case JobPhase.RESERVED:
                self._reserved(record)
            case JobPhase.FETCHING:
                if record.job_id not in self.fetches and record.fetch is not None:
                    self.fetches[record.job_id] = Fetching(self, record.job_id, record.fetch)
            case phase if phase in LIVE:
                self._live(record)

    def _reserved(self, record: JobRecord) -> None:
        if record.reserved_until_s is None:
            return
        if record.boot_id == self.clock.boot_id and record.reserved_until_s > self.clock.boottime_s():
            return
        self.change(record.job_id, JobEvent.RESERVATION_EXPIRED, message="the reservation ran out",
                    reserved_bytes=0, reserved_until_s=None)  # fmt: skip

    def fetched(self, job_id: str, goodput_bps: float) -> None:
        self.fetches.pop(job_id, None)
        self.change(job_id, JobEvent.FETCHED, only_in=JobPhase.FETCHING, message="", goodput_bps=goodput_bps)
        self.report(job_id)
        self.flush()

    def fetch_failed(self, job_id: str, why: str, patience_s: float) -> None:
        self.fetches.pop(job_id, None)
        self.change(
            job_id,
            JobEvent.FETCH_FAILED,
            only_in=JobPhase.FETCHING,
            message=f"fetch failed: {why}",
            fetch=None,
            boot_id=self.clock.boot_id,
            reserved_until_s=self.clock.boottime_s() + patience_s,
        )
        self.report(job_id)
        self.flush()

    def lost(self, job_id: str, checkpoint_id: str) -> None:
        """Find a checkpoint corrupt that another site fetches from here."""
        self.machine.watch.progress[job_id].excused = True  # what has rotted cannot be gone on from
        self.vault.quarantine(job_id, checkpoint_id)
        self.report(job_id)

    def _live(self, record: JobRecord) -> None:
        shim = self.machine.shims.get(record.run_id)
        seen = shim.snapshot() if shim is not None else read_snapshot(self.machine, record.run_id, None)
        self._seen[record.job_id] = (seen.progress.step, seen.progress.start_step)
        if not seen.alive:
            if seen.exit is None and seen.identity is None and record.phase is JobPhase.STARTING:
                self._launch(record)
            else:
                self._finish(record)
            return
        self._instruct(record)
        if seen.identity is None:
            return
        if record.phase is JobPhase.STARTING:
            self.change(record.job_id, JobEvent.STARTED)
        elif record.phase is not JobPhase.STOPPING:
            if record.load_s is None and seen.progress.first_step_s is not None:
                self.change(record.job_id, None, load_s=1.0, start_step=seen.progress.start_step)
            self._heed_hold(self.records[record.job_id])
            self._seal_if_due(self.records[record.job_id])

    def _heed_hold(self, record: JobRecord) -> None:
        """Pause what the plan holds back, and let it go on when that has expired: `Minder._heed_hold`."""
        if record.hold is None:
            return
        if jobgrants.is_held_back(record, self.clock.boottime_s(), self.clock.boot_id):
            if record.phase is JobPhase.RUNNING:
                self.change(record.job_id, JobEvent.PAUSE)
        elif self.change(record.job_id, None, hold=None) is not None:
            self.world.tell(self.site_id, "a pause of {} has expired", record.job_id)
            self.pause(record.job_id, paused=False)

    def _instruct(self, record: JobRecord) -> None:
        """Have the shim know what the record says."""
        shim = self.machine.shims.get(record.run_id)
        if shim is None or not shim.alive or record.lease is None:
            return
        control = Control(epoch=record.epoch, lease=record.lease, paused=record.phase is JobPhase.PAUSED)
        if self.disk.read(shim.folder, "control") != control:
            self.disk.write(shim.folder, "control", control, durable=False)
            self.machine.watch.regranted(self.site_id, record.job_id, record.epoch)
            self.world.after(0.02, shim.look)
        if record.phase is JobPhase.STOPPING and "stop" not in self.disk.folder(shim.folder):
            self.disk.write(shim.folder, "stop", self.clock.now(), durable=True)
            self.world.after(0.02, shim.look)

    def _launch(self, record: JobRecord) -> None:
        """Start the process under a grant that holds, from a checkpoint that is verified."""
        job_id = record.job_id
        if (
            record.lease is None
            or record.spec is None
            or not leases.is_held(record.lease, self.clock.boottime_s(), self.clock.boot_id)
        ):
            self.change(job_id, JobEvent.STOPPED, message="the grant ended before the process was started")
            return
        for shim in self.machine.running(job_id):
            shim.end_child()
        try:
            step = self.vault.take_out(job_id, record.resume_id) if record.resume_id is not None else 0
        except PermanentError as error:
            self.machine.watch.progress[job_id].excused = True  # what has rotted cannot be gone on from
            self.change(job_id, JobEvent.FAILED, message=f"not started: {error}")
            return
        self.machine.watch.launched(self.machine, record, step)
        shim = Shim(self.machine, job_id, record.run_id, record.spec, step)
        self.machine.shims[record.run_id] = shim
        self.disk.write(shim.folder, "start_step", step, durable=False)
        control = Control(epoch=record.epoch, lease=record.lease, paused=False)
        self.disk.write(shim.folder, "control", control, durable=False)
        self.world.tell(self.site_id, "starts {} under {} from step {}", job_id, record.epoch, step)
        self.world.after(self.world.between(0.01, 0.3), shim.begin)

    def _finish(self, record: JobRecord) -> None:
        """Nothing runs any more, or only leftovers: end those, seal, judge, record (`Minder._finish`)."""
        job_id = record.job_id
        shim = self.machine.shims.get(record.run_id)
        if shim is not None and shim.training:  # an orphan: it has its grace, then it is killed
            since_s = self._mourned_s.setdefault(record.run_id, self.world.now_s)
            grace_s = record.spec.stop_grace_s if record.spec is not None else 0.0
            if self.world.now_s - since_s < grace_s:
                self.later(0.5, lambda: self.mind(job_id))
                return
            shim.end_child()
        seen = read_snapshot(self.machine, record.run_id, shim)
        after_stop = False
        if not record.stop_cancel:
            try:
                after_stop = self._seal(record, ended=True)
            except (PermanentError, TransientError) as error:
                self.world.tell(self.site_id, "last checkpoint of {} not sealed: {}", job_id, error)
        listed = self.vault.listed(job_id)
        now_s, boot_id = self.clock.boottime_s(), self.clock.boot_id
        holds = record.lease is not None and leases.is_held(record.lease, now_s, boot_id)
        verdict = outcomes.judge_run(record, seen, listed, sealed_after_stop=after_stop, may_restart=holds)
        ordered_s = record.stop_ordered_s if record.boot_id == boot_id else None
        record = replace(
            record,
            step=seen.progress.step if seen.progress.step is not None else record.step,
            message=verdict.message,
            seal_s=now_s - ordered_s if ordered_s is not None else record.seal_s,
        )
        self._conclude(record, verdict.event, listed)

    def _conclude(self, record: JobRecord, event: JobEvent, listed: tuple[Checkpoint, ...]) -> None:
        """Record what became of a run, and of a grant that was waiting for its end."""
        newest = listed[0].checkpoint_id if listed else None
        if event is JobEvent.RUN_LOST:
            run_id = self.machine.new_run_id()
            record = replace(
                record, restarts=record.restarts + 1, resume_id=newest, run_id=run_id, start_step=None
            )
        pending, record = record.pending, replace(record, pending=None)
        try:
            if pending is None or event is not JobEvent.STOPPED:
                self.put(record, event)
                return
            granted = jobgrants.begin(
                replace(record, phase=next_phase(record.phase, event)),
                pending,
                held=listed,
                run_id=self.machine.new_run_id(),
            )
            self.put(granted, JobEvent.START)
        except (TransientError, CorruptError):
            self.later(0.5, lambda: self.mind(record.job_id))

    def _seal_if_due(self, record: JobRecord) -> None:
        if self.clock.boottime_s() < self._seal_due_s.get(record.job_id, 0.0):
            return
        try:
            self._seal(record, ended=False)
        except (PermanentError, TransientError) as error:
            self.world.tell(self.site_id, "checkpoint of {} not sealed: {}", record.job_id, error)

    def _seal(self, record: JobRecord, *, ended: bool) -> bool:
        """Seal what is newer than the newest sealed; return whether it was saved after a request to stop."""
        files = self.disk.folder(("run", record.run_id))
        saved, newest = files.get("saved"), next(iter(self.vault.listed(record.job_id)), None)
        if saved is None:
            return False
        if newest is not None and (newest.manifest.epoch, newest.manifest.step) >= (record.epoch, saved.step):
            return False
        now_s = self.clock.boottime_s()
        self._seal_due_s[record.job_id] = now_s + SEAL_INTERVAL_S * RETRY_FRAC
        self.vault.seal(record.job_id, record.epoch, saved.step)
        self._seal_due_s[record.job_id] = now_s + SEAL_INTERVAL_S
        self.machine.watch.deleted(self.site_id, self.vault.keep_newest(record.job_id, KEPT))
        stop_at = files.get("stop")
        return not ended or (stop_at is not None and saved.written_at >= stop_at)

    def pause(self, job_id: str, *, paused: bool) -> None:
        """Suspend or resume a job, as the power ladder does."""
        record = self.records.get(job_id)
        before = JobPhase.RUNNING if paused else JobPhase.PAUSED
        if record is not None and record.phase is before and (paused or record.hold is None):
            changed = self.change(job_id, JobEvent.PAUSE if paused else JobEvent.RESUME)
            if changed is not None:
                self._instruct(changed)
                self.report(job_id)

    def _remove_runs(self, job_id: str) -> None:
        for run_id in [run_id for run_id, shim in self.machine.shims.items() if shim.job_id == job_id]:
            if not self.machine.shims[run_id].alive and not self.machine.shims[run_id].training:
                del self.machine.shims[run_id]

    # -- reports ----------------------------------------------------------------------------------

    def instant(self) -> datetime:
        """Return the instant of a report: the calendar, but never backwards (`JobBook`)."""
        now = self.clock.now()
        if self._last_instant is not None and now <= self._last_instant:
            now = self._last_instant + timedelta(microseconds=1)
        self._last_instant = now
        return now

    def describe(self, job_id: str) -> wire.JobReport:
        record = self.records[job_id]
        step, start_step = self._seen.get(job_id, (None, None)) if record.phase in LIVE else (None, None)
        return wire.report(
            record,
            self.vault.listed(job_id),
            step=step if step is not None else record.step,
            start_step=start_step if start_step is not None else record.start_step,
            reported_at=self.instant(),
        )

    def hello(self) -> list[wire.JobReport]:
        """Tell every job, the same in memory and on disk: `Keeper.settled_reports`."""
        self.hellos += 1
        for job_id in tuple(self._doubtful):
            self.settled(job_id)
        return [
            self.describe(one.job_id)
            for one in self.records.values()
            if one.phase is not JobPhase.RELEASED or self.vault.listed(one.job_id)
        ]

    def report(self, job_id: str) -> None:
        """Tell what has changed since the last report of a job, if there is anybody to tell."""
        session, site_id = self.link.session, self.site_id
        if session is None:
            self._reported.pop(job_id, None)
            return
        report = self.describe(job_id)
        last = self._reported.get(job_id)
        if last is not None and replace(report, reported_at=last.reported_at) == last:
            return
        self._reported[job_id] = report
        self.machine.network.up(session, lambda house: house.on_report(site_id, report))

    def flush(self) -> None:
        for job_id in self.records:
            self.report(job_id)
