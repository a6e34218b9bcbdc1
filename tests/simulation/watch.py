"""Sees everything that happens in the world, and keeps what the invariants are judged by.

It knows more than anybody in the world does: what each disk holds, what runs, what was ever promised.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from agent.core.joborders import Verdict
from agent.core.jobtable import LIVE
from agent.model.jobs import Checkpoint
from agent.model.orders import Order as SiteOrder
from agent.model.records import JobRecord
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState
from coordinator.model.job import JobSpec, OnPartition
from coordinator.model.orders import Order
from tests.simulation.training import SEAL_INTERVAL_S, TICK_S, Manner
from tests.simulation.vault import Sealed, is_intact

if TYPE_CHECKING:
    from tests.simulation.house import House
    from tests.simulation.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process that was started. `genuine`: what it resumes from is what its manifest says."""

    site_id: str
    record: JobRecord
    step: int
    genuine: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One transaction of the coordinator."""

    events: Sequence[ev.Event]
    before: FleetState
    after: FleetState


@dataclass(slots=True)
class News:
    """What happened in one step."""

    launches: list[Launch] = field(default_factory=list)
    accepted: list[tuple[str, SiteOrder, int]] = field(default_factory=list)
    """Site, order, and the highest epoch that its disk had for the job."""
    twice: list[tuple[SiteOrder, Verdict]] = field(default_factory=list)
    recorded: list[tuple[str, JobRecord, int]] = field(default_factory=list)
    deleted: list[tuple[str, Checkpoint, int]] = field(default_factory=list)
    """Site, what went, and how many stayed."""
    arrived: list[tuple[str, Sealed]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    orders: list[tuple[FleetState, Order]] = field(default_factory=list)
    lease_ends: list[tuple[str, str]] = field(default_factory=list)
    fenced: list[str] = field(default_factory=list)
    jobs: set[str] = field(default_factory=set)
    """Jobs of which something runs, or holds a lease, that did not before."""
    vaults: set[str] = field(default_factory=set)
    """Jobs of which a checkpoint has come or gone."""


@dataclass(slots=True)
class Progress:
    """What is known of a job's steps. `floor` is the newest sealed one that must not be lost."""

    floor: int = 0
    since_epoch: int = 0
    executed: int = 0
    unminded: int = 0
    """Steps done while no agent was there to seal them, or too short a time."""
    unminded_from: int | None = None
    excused: bool = False
    """A site burnt, or was given up: the next start may go back to what is left."""
    sealed_once: bool = False


def interval_steps(manner: Manner) -> int:
    """Return the most steps between two sealed checkpoints of a job that is minded."""
    return manner.save_every + int((SEAL_INTERVAL_S + 2 * TICK_S + 1.0) / manner.step_s) + 1


class Watch:
    """The observer.

    Parameters
    ----------
    specs : dict of job to JobSpec
        What the jobs ask for.
    """

    def __init__(self, specs: dict[str, JobSpec]) -> None:
        self.specs = specs
        self.machines: dict[str, Machine] = {}
        self.house: House | None = None
        self.news: News | None = None
        self.running: dict[str, list[tuple[str, int]]] = {job_id: [] for job_id in specs}
        self.progress = {job_id: Progress() for job_id in specs}
        self.highest: dict[tuple[str, str], int] = {}
        self.granted: dict[tuple[str, int], tuple[str, int | None]] = {}
        """By job and epoch: the site, and the step of the checkpoint that the grant names."""
        self.taken: dict[tuple[str, int], str] = {}
        """By job and epoch: the site that took the grant."""
        self.launch_count: dict[tuple[str, str, int], int] = {}
        self.cancelled: set[str] = set()
        self.was_restored = False
        self.counts: dict[str, int] = {}

    @property
    def now(self) -> News:
        if self.news is None:
            self.news = News()
        return self.news

    def span(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def may_be_left(self, job_id: str) -> bool:
        """Tell whether the job asked to be started elsewhere when its site falls silent."""
        return self.specs[job_id].on_partition is OnPartition.STOP

    # -- processes --------------------------------------------------------------------------------

    def launched(self, machine: "Machine", record: JobRecord, step: int) -> None:
        held = machine.vault.get(record.job_id, record.resume_id) if record.resume_id is not None else None
        genuine = record.resume_id is None or (held is not None and is_intact(held))
        key = (machine.site_id, record.job_id, record.epoch)
        self.launch_count[key] = self.launch_count.get(key, 0) + 1
        self.now.launches.append(Launch(site_id=machine.site_id, record=record, step=step, genuine=genuine))

    def process_began(self, site_id: str, job_id: str, epoch: int, step: int) -> None:
        self.running[job_id].append((site_id, epoch))
        self.now.jobs.add(job_id)
        if self.machines[site_id].agent is None:
            self.progress[job_id].unminded_from = step
        self.count("process started")

    def process_ended(self, site_id: str, job_id: str, step: int) -> None:
        self.running[job_id] = [one for one in self.running[job_id] if one[0] != site_id]
        progress = self.progress[job_id]
        progress.executed = max(progress.executed, step)
        if progress.unminded_from is not None:
            progress.unminded += max(0, step - progress.unminded_from)
            progress.unminded_from = None

    def regranted(self, site_id: str, job_id: str, epoch: int) -> None:
        self.running[job_id] = [
            (site, epoch if site == site_id else former) for site, former in self.running[job_id]
        ]
        self.now.jobs.add(job_id)

    def lease_ran_out(self, site_id: str, job_id: str) -> None:
        self.now.lease_ends.append((site_id, job_id))
        self.count("lease ran out")

    # -- agents -----------------------------------------------------------------------------------

    def minded(self, machine: "Machine", *, minded: bool) -> None:
        """Note that an agent has died, or is back and will have sealed after an interval."""
        for shim in machine.shims.values():
            if not shim.training:
                continue
            progress = self.progress[shim.job_id]
            if not minded and progress.unminded_from is None:
                progress.unminded_from = shim.step()
            elif minded and progress.unminded_from is not None:
                progress.unminded += shim.step() - progress.unminded_from
                progress.unminded += interval_steps(shim.manner)
                progress.unminded_from = None

    def accepted(self, site_id: str, order: SiteOrder) -> None:
        self.now.accepted.append((site_id, order, self.highest.get((site_id, order.job_id), 0)))

    def judged_twice(self, order: SiteOrder, _record: JobRecord, verdict: Verdict) -> None:
        self.now.twice.append((order, verdict))

    def recorded(self, machine: "Machine", record: JobRecord) -> None:
        key = (machine.site_id, record.job_id)
        known = self.highest.get(key, 0)
        self.now.recorded.append((machine.site_id, record, known))
        self.highest[key] = max(known, record.highest_epoch)
        if record.phase in LIVE:
            self.now.jobs.add(record.job_id)

    # -- checkpoints ------------------------------------------------------------------------------

    def checkpoints_changed(self, site_id: str, job_id: str) -> None:
        self.now.vaults.add(job_id)
        progress = self.progress[job_id]
        for one in self.machines[site_id].vault.listed(job_id):
            progress.sealed_once = True
            if one.manifest.epoch >= progress.since_epoch and one.manifest.step > progress.floor:
                progress.floor = one.manifest.step
                progress.unminded = 0

    def deleted(self, site_id: str, gone: list[Checkpoint]) -> None:
        for checkpoint in gone:
            left = len(self.machines[site_id].vault.held(checkpoint.manifest.job_id))
            self.now.deleted.append((site_id, checkpoint, left))

    def arrived(self, site_id: str, sealed: Sealed) -> None:
        self.now.arrived.append((site_id, sealed))
        self.count("checkpoint fetched")

    # -- machines ---------------------------------------------------------------------------------

    def machine_off(self, site_id: str) -> None:
        self.count("power cut")
        for job_id in self.specs:
            self.now.vaults.add(job_id)

    def machine_burnt(self, site_id: str) -> None:
        self.count("site burnt")
        self.excuse()

    def fenced(self, site_id: str) -> None:
        self.now.fenced.append(site_id)
        self.excuse()

    def excuse(self) -> None:
        """Let the next start of every job go back to what is left."""
        for progress in self.progress.values():
            progress.excused = True

    # -- the coordinator --------------------------------------------------------------------------

    def restored(self) -> None:
        self.was_restored = True
        self.count("store restored")

    def ordered(self, state: FleetState, order: Order) -> None:
        self.now.orders.append((state, order))

    def decided(self, events: Sequence[ev.Event], before: FleetState, after: FleetState) -> None:
        self.now.decisions.append(Decision(events=events, before=before, after=after))
        for event in events:
            self.count(type(event).__name__)
            if isinstance(event, ev.MigrationAdvanced):
                self.count(event.event.value)
            self._note(event, after)

    def _note(self, event: ev.Event, after: FleetState) -> None:
        if isinstance(event, ev.JobRequeued) and event.lost_site is not None:
            self.progress[event.job_id].excused = True
        if not isinstance(
            event, ev.JobGranted | ev.MigrationCommitted | ev.MigrationFailed | ev.JobStartFailed
        ):
            return
        job_id = (
            event.job_id
            if isinstance(event, ev.JobGranted | ev.JobStartFailed)
            else after.migrations[event.migration_id].job_id
        )
        grant = after.jobs[job_id].grant
        site_id = grant.site_id if grant is not None and grant.epoch == event.epoch else None
        if site_id is None and isinstance(event, ev.JobGranted):
            site_id = event.site_id
        if site_id is None:
            return
        named = grant.checkpoint_id if grant is not None else None
        steps = {one.checkpoint_id: one.step for held in after.jobs[job_id].copies.values() for one in held}
        self.granted[job_id, event.epoch] = (site_id, steps.get(named) if named is not None else None)
        progress = self.progress[job_id]
        if isinstance(event, ev.JobGranted) and progress.excused:
            step = steps.get(event.checkpoint_id or "", 0)
            self.progress[job_id] = replace(
                progress, floor=step, executed=step, since_epoch=event.epoch, excused=False, unminded=0,
                unminded_from=None,
            )  # fmt: skip
