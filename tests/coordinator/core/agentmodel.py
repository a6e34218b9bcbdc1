"""A small model of the agent's half of DESIGN 7, for the simulation of the coordinator's half.

It follows the contract, not the code of the agent: what it persists survives `crash`, what runs survives too
(the shim), and what was only said is lost.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from coordinator.model.job import ALIVE_PHASES, Checkpoint, JobPhase, JobReport
from coordinator.model.orders import Fetch, Order, Prepare, Release, Start, Stop

EPOCH_0 = datetime(2030, 1, 1, tzinfo=UTC)
P = JobPhase


@dataclass
class Record:
    """What an agent has on disk about one job, and its process."""

    phase: P = P.RELEASED
    epoch: int = 0
    highest: int = 0
    migration_id: str = ""
    step: int | None = None
    start_step: int | None = None
    checkpoints: list[Checkpoint] = field(default_factory=list)
    wanted: Fetch | None = None
    lease_ttl_s: float | None = None
    lease_end_s: float | None = None
    resume: tuple[str | None, float | None] | None = None
    started_from: str | None = None


class AgentModel:
    """One site: takes orders, makes reports, steps its jobs. `runs` lists (epoch, first step) ever begun."""

    def __init__(self, site_id: str) -> None:
        self.site_id = site_id
        self.jobs: dict[str, Record] = {}
        self.starts: list[tuple[str, int, str | None, frozenset[str]]] = []
        self.deleted: list[str] = []

    def record(self, job_id: str) -> Record:
        return self.jobs.setdefault(job_id, Record())

    def report(self, job_id: str) -> JobReport:
        record = self.record(job_id)
        return JobReport(
            job_id=job_id,
            epoch=record.epoch,
            phase=record.phase,
            migration_id=record.migration_id,
            step=record.step if record.phase in ALIVE_PHASES else None,
            start_step=record.start_step,
            checkpoints=tuple(reversed(record.checkpoints)),
        )

    def hello(self) -> list[JobReport]:
        return [self.report(job_id) for job_id, one in self.jobs.items() if one.phase is not P.RELEASED]

    def running(self, job_id: str) -> int | None:
        record = self.jobs.get(job_id)
        return record.epoch if record is not None and record.phase in ALIVE_PHASES else None

    def order(self, order: Order, now_s: float) -> str | None:
        """Obey; return why it is refused, or None."""
        record = self.record(order.job_id)
        if order.epoch < record.highest:
            return "stale epoch"
        record.highest = order.epoch
        match order.action:
            case Prepare():
                if record.phase in (P.RELEASED, P.SEALED):
                    record.phase, record.migration_id = P.RESERVED, order.migration_id
                elif record.phase in ALIVE_PHASES:
                    return "it runs here"
            case Fetch():
                held = any(one.checkpoint_id == order.action.checkpoint_id for one in record.checkpoints)
                if record.phase is P.RESERVED or (record.phase is P.HELD and not held):
                    record.phase, record.wanted = P.FETCHING, order.action
                    record.migration_id = order.migration_id
                elif record.phase not in (P.FETCHING, P.HELD):
                    return "no reservation"
            case Start():
                return self._start(record, order, now_s)
            case Stop():
                self._stop(record, order.action.cancel)
            case Release():
                if record.phase in ALIVE_PHASES:
                    return "it runs here"
                record.phase, record.wanted, record.migration_id = P.RELEASED, None, ""
                keep = order.action.keep_checkpoints
                self.deleted += [one.checkpoint_id for one in record.checkpoints[:-keep]]
                record.checkpoints = record.checkpoints[-keep:]
        return None

    def _stop(self, record: Record, cancel: bool) -> None:
        if record.phase in (P.STARTING, P.RUNNING, P.PAUSED, P.STOPPING):
            record.phase = P.FAILED if cancel else P.STOPPING

    def _start(self, record: Record, order: Order, now_s: float) -> str | None:
        assert isinstance(order.action, Start)
        if record.epoch >= order.epoch:
            return None  # done already
        if record.phase is P.COMPLETED:
            return "already completed"
        ttl_s = order.action.lease_ttl_s
        if record.phase in (P.STARTING, P.RUNNING, P.PAUSED):
            record.epoch = order.epoch
            self._lease(record, ttl_s, now_s)
            return None
        if record.phase is P.STOPPING:
            record.resume = (order.action.checkpoint_id, ttl_s)
            return None
        held = {one.checkpoint_id: one for one in record.checkpoints}
        wanted = order.action.checkpoint_id
        if wanted is not None and wanted not in held:
            return "no such checkpoint here"
        self._begin(order.job_id, record, order.epoch, (wanted, ttl_s), now_s)
        return None

    def _begin(
        self, job_id: str, record: Record, epoch: int, resume: tuple[str | None, float | None], now_s: float
    ) -> None:
        wanted, ttl_s = resume
        own = max(record.checkpoints, key=lambda one: one.step, default=None)
        named = next((one for one in record.checkpoints if one.checkpoint_id == wanted), None)
        best = own if named is None or (own is not None and own.step > named.step) else named
        record.phase, record.epoch = P.STARTING, epoch
        record.step = record.start_step = best.step if best is not None else 0
        record.started_from = best.checkpoint_id if best is not None else None
        self._lease(record, ttl_s, now_s)
        self.starts.append(
            (job_id, epoch, record.started_from, frozenset(one.checkpoint_id for one in record.checkpoints))
        )

    def _lease(self, record: Record, ttl_s: float | None, now_s: float) -> None:
        record.lease_ttl_s = ttl_s
        record.lease_end_s = None if ttl_s is None else now_s + ttl_s

    def renewed(self, job_id: str, epoch: int, asked_at_s: float) -> None:
        record = self.record(job_id)
        if record.epoch == epoch and record.lease_ttl_s is not None and record.phase in ALIVE_PHASES:
            record.lease_end_s = max(record.lease_end_s or 0.0, asked_at_s + record.lease_ttl_s)

    def enforce_leases(self, now_s: float) -> None:
        """The shim: a lease that ran out stops the job with a checkpoint, coordinator or not."""
        for job_id, record in self.jobs.items():
            if (
                record.phase in ALIVE_PHASES
                and record.lease_end_s is not None
                and now_s >= record.lease_end_s
            ):
                record.resume = None
                self._seal(job_id, record)

    def work(self, job_id: str, now_s: float) -> None:
        """Do the next thing that takes the site's own time."""
        record = self.record(job_id)
        if record.phase is P.STARTING:
            record.phase = P.RUNNING
        elif record.phase is P.RUNNING:
            record.step = (record.step or 0) + 1
        elif record.phase is P.STOPPING:
            resume = record.resume
            self._seal(job_id, record)
            if resume is not None:
                record.resume = None
                self._begin(job_id, record, record.highest, resume, now_s)

    def complete(self, job_id: str) -> None:
        if self.record(job_id).phase is P.RUNNING:
            self.record(job_id).phase = P.COMPLETED

    def seal_now(self, job_id: str) -> None:
        """A periodic checkpoint."""
        if self.record(job_id).phase is P.RUNNING:
            self._add(job_id, self.record(job_id))

    def _seal(self, job_id: str, record: Record) -> None:
        self._add(job_id, record)
        record.phase = P.SEALED

    def _add(self, job_id: str, record: Record) -> None:
        step = record.step or 0
        name = f"{job_id}-{step}-{record.epoch}-{self.site_id}"
        if all(one.checkpoint_id != name for one in record.checkpoints):
            record.checkpoints.append(
                Checkpoint(
                    checkpoint_id=name,
                    step=step,
                    epoch=record.epoch,
                    size_bytes=1000,
                    sealed_at=EPOCH_0 + timedelta(seconds=step),
                )
            )

    def fetch_from(self, job_id: str, holder: "AgentModel") -> None:
        """Finish the transfer, if the holder has the checkpoint."""
        record = self.record(job_id)
        if record.phase is not P.FETCHING or record.wanted is None:
            return
        for one in holder.record(job_id).checkpoints:
            if one.checkpoint_id == record.wanted.checkpoint_id:
                if one not in record.checkpoints:
                    record.checkpoints.append(replace(one))
                record.phase = P.HELD

    def fail_fetch(self, job_id: str) -> bool:
        record = self.record(job_id)
        if record.phase is P.FETCHING:
            record.phase = P.RESERVED
            return True
        return False

    def lose_reservation(self, job_id: str) -> None:
        record = self.record(job_id)
        if record.phase is P.RESERVED:
            record.phase, record.migration_id = P.RELEASED, ""
