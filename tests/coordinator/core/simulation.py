"""Coordinator core and agent models joined by a network that loses, repeats, reorders and delays.

One `Simulation` is one seed; `step` does one random thing and then checks DESIGN 7's invariants.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from coordinator.core.endings import GrantSettings, fence, grant, holders_of, may_start_at
from coordinator.core.feasibility import Tolerance
from coordinator.core.fleet import apply, fold
from coordinator.core.grants import LeaseBook, LeaseMargins, renewable
from coordinator.core.orders import OrderSettings, orders_for
from coordinator.core.prestage import PrestageSettings
from coordinator.core.progress import (
    MigrationTimeouts,
    expiry_events,
    next_events,
    refusal_events,
    released_events,
    timeout_events,
)
from coordinator.core.reports import events_for_report
from coordinator.core.view import ViewSettings
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, JobState
from coordinator.model.job import JobReport, JobSpec, OnPartition
from coordinator.model.live import LiveSite
from coordinator.model.orders import Order, Release, Start, Stop
from coordinator.model.site import Capabilities
from tests.coordinator.core.agentmodel import EPOCH_0, AgentModel

SITES = ("north", "south", "west")
JOBS = ("j1", "j2")
SETTINGS = GrantSettings(lease_ttl_s=20.0)
# Whatever the destination does not hold already is sent ahead.
PRESTAGE = PrestageSettings(view=ViewSettings(), tolerance=Tolerance(), least_transfer_s=0.0, least_bytes=0)
TIMEOUTS = MigrationTimeouts(planned_s=300, prepared_s=300, stopping_s=400, transferring_s=600)

NextEvents = Callable[..., tuple[ev.Event, ...]]


class Violation(AssertionError):  # noqa: N818 - a finding, not an error of ours
    """An invariant of DESIGN 7 does not hold."""


class Simulation:
    """`next_step` and `margins` may be replaced by broken ones, to show that the checks find them."""

    def __init__(
        self,
        seed: int,
        *,
        next_step: NextEvents = next_events,
        book: Callable[[], LeaseBook] = lambda: LeaseBook(LeaseMargins(skew_s=1, kill_grace_s=1)),
    ) -> None:
        self.random = random.Random(seed)
        self.next_step, self.make_book = next_step, book
        self.now_s = 1000.0
        self.history: list[ev.Event] = []
        self.state = FleetState()
        self.live: dict[str, LiveSite] = {}
        self.since: dict[str, tuple[object, float]] = {}
        self.book = book()
        self.agents = {site: AgentModel(site) for site in SITES}
        self.dead: set[str] = set()
        self.down: list[tuple[str, object]] = []
        self.up: list[tuple[str, object]] = []
        self.partitioned: set[str] = set()
        self.cancelled: set[str] = set()
        self.known_at_grant: dict[tuple[str, int], int] = {}
        self.serial = 0
        self.restart_count = 0
        for site in SITES:
            capabilities = Capabilities(slots=2, checkpoint_address=f"{site}:1")
            self.tell(ev.SiteSeen(at=self.now, site_id=site, capabilities=capabilities))
        for job, policy in zip(JOBS, (OnPartition.KEEP_RUNNING, OnPartition.STOP), strict=True):
            spec = JobSpec(name=job, argv=("train",), on_partition=policy, stop_grace_s=2.0)
            self.tell(ev.JobSubmitted(at=self.now, job_id=job, spec=spec))
        for site in SITES:
            self.connect(site)

    @property
    def now(self) -> datetime:
        return EPOCH_0 + timedelta(seconds=self.now_s)

    def tell(self, *events: ev.Event) -> None:
        for event in events:
            self.note_grant(event)
            self.state = apply(self.state, event)
            self.history.append(event)

    # -- sessions ---------------------------------------------------------------------------------

    def connect(self, site: str) -> None:
        if site in self.dead:
            return
        self.partitioned.discard(site)
        known = self.live.get(site, LiveSite())
        reports = {one.job_id: self.stamped(one) for one in self.agents[site].hello()}
        self.live[site] = replace(known, connected=True, session=known.session + 1, reports=reports)
        for report in reports.values():
            self.judge(site, report)

    def disconnect(self, site: str) -> None:
        self.partitioned.add(site)
        if site in self.live:
            self.live[site] = replace(self.live[site], connected=False)

    def stamped(self, report: JobReport) -> JobReport:
        self.serial += 1
        return replace(report, reported_at=EPOCH_0 + timedelta(seconds=self.serial))

    # -- the coordinator's shell ------------------------------------------------------------------

    def receive(self, site: str, report: JobReport) -> None:
        if not self.live.get(site, LiveSite()).connected:
            return
        known = self.live[site].reports.get(report.job_id)
        assert report.reported_at is not None
        if known is not None and known.reported_at is not None and report.reported_at <= known.reported_at:
            return
        reports = {**self.live[site].reports, report.job_id: report}
        self.live[site] = replace(self.live[site], reports=reports)
        self.judge(site, report)

    def judge(self, site: str, report: JobReport) -> None:
        self.tell(*events_for_report(self.state, site, report, self.now, SETTINGS))
        job = self.state.jobs.get(report.job_id)
        grant = job.grant if job is not None else None
        if grant is not None and (grant.site_id, grant.epoch) == (site, report.epoch):
            self.book.heard(report.job_id, site, report.epoch, self.now_s)

    def drive(self) -> None:
        for site, one in self.live.items():
            for report in one.reports.values():
                self.judge(site, report)
        for job_id in JOBS:
            self.tell(
                *self.next_step(self.state, job_id, self.live, self.now, prestage=PRESTAGE, settings=SETTINGS)
            )
            job = self.state.jobs[job_id]
            migration = self.state.migration_of(job)
            if migration is not None:
                state, since = self.since.get(migration.migration_id, (None, 0.0))
                if state is not migration.state:
                    since = self.now_s
                    self.since[migration.migration_id] = (migration.state, since)
                self.tell(
                    *timeout_events(
                        self.state,
                        migration,
                        self.now_s - since,
                        timeouts=TIMEOUTS,
                        now=self.now,
                        settings=SETTINGS,
                    )
                )
            job = self.state.jobs[job_id]
            free_at_s = self.book.free_at_s(job)
            silent = job.owner_site is not None and not self.live.get(job.owner_site, LiveSite()).connected
            if job.grant is not None and silent and free_at_s is not None and self.now_s > free_at_s:
                self.tell(*expiry_events(self.state, job, self.now))
            for order in orders_for(self.state, self.state.jobs[job_id], self.live, OrderSettings()):
                if self.live.get(order.site_id, LiveSite()).connected:
                    if isinstance(order.action, Start):
                        self.book.given(job_id, order.site_id, order.epoch, self.now_s)
                    self.check_order(order)
                    self.down.append((order.site_id, order))

    def restart_coordinator(self) -> None:
        """Everything that is not an event is gone."""
        self.restart_count += 1
        self.state = fold(self.history)
        self.live, self.since = {}, {}
        self.book = self.make_book()
        self.book.recover(self.state.jobs.values(), self.now_s)

    # -- random things ----------------------------------------------------------------------------

    def step(self) -> None:
        r = self.random
        things: list[tuple[int, Callable[[], None]]] = [
            (30, self.deliver_down),
            (30, self.deliver_up),
            (25, self.drive),
            (30, self.work),
            (10, self.report_all),
            (12, self.start_or_move),
            (4, self.renew),
            (3, self.partition),
            (6, self.heal),
            (1, self.restart_coordinator),
            (2, self.restart_agent),
            (3, self.lose),
            (5, self.repeat),
            (2, self.periodic),
            (1, self.jump),
            (1, self.fail),
            (1, self.kill_and_fence),
            (1, self.end),
        ]
        weights, actions = zip(*things, strict=True)
        r.choices(actions, weights)[0]()
        self.now_s += r.choice((0.0, 0.1, 1.0))
        for agent in self.agents.values():
            agent.enforce_leases(self.now_s)
        self.check()

    def pop(self, queue: list[tuple[str, object]]) -> tuple[str, object] | None:
        if not queue:
            return None
        in_order = self.random.random() < 0.7
        return queue.pop(0 if in_order else self.random.randrange(len(queue)))

    def deliver_down(self) -> None:
        message = self.pop(self.down)
        if message is None or message[0] in self.dead:
            return
        site, what = message
        agent = self.agents[site]
        if isinstance(what, Order):
            refusal = agent.order(what, self.now_s)
            self.up.append((site, (what, refusal)))
            self.up.append((site, self.stamped(agent.report(what.job_id))))
        elif isinstance(what, tuple):
            agent.renewed(*what)

    def deliver_up(self) -> None:
        message = self.pop(self.up)
        if message is None:
            return
        site, what = message
        if isinstance(what, JobReport):
            self.receive(site, what)
        elif isinstance(what, tuple) and self.live.get(site, LiveSite()).connected:
            order, refusal = what
            if refusal is not None:
                self.tell(*refusal_events(self.state, order, refusal, self.now, SETTINGS))
            elif isinstance(order.action, Release):
                self.tell(*released_events(self.state, order, self.now))

    def work(self) -> None:
        site, job_id = self.random.choice(SITES), self.random.choice(JOBS)
        if site in self.dead:
            return
        agent = self.agents[site]
        agent.work(job_id, self.now_s)
        holder = agent.record(job_id).wanted
        if holder is not None and holder.holder_site not in self.dead:
            agent.fetch_from(job_id, self.agents[holder.holder_site])
        self.up.append((site, self.stamped(agent.report(job_id))))

    def report_all(self) -> None:
        for site in SITES:
            for job_id in JOBS:
                if job_id in self.agents[site].jobs and site not in self.dead:
                    self.up.append((site, self.stamped(self.agents[site].report(job_id))))

    def start_or_move(self) -> None:
        job = self.state.jobs[self.random.choice(JOBS)]
        site = self.random.choice(SITES)
        if job.state is JobState.QUEUED and may_start_at(self.state, job, site):
            self.tell(*grant(self.state, job.job_id, site, self.now, SETTINGS))
        elif job.state is JobState.RUNNING and job.migration_id is None and site != job.owner_site:
            self.serial += 1
            self.tell(
                ev.MigrationPlanned(
                    at=self.now,
                    migration_id=f"m{self.serial}",
                    job_id=job.job_id,
                    destination_site=site,
                    reason="test",
                    predicted_s=None,
                    reserved_bps=None,
                )
            )

    def renew(self) -> None:
        for site in SITES:
            for job_id, record in self.agents[site].jobs.items():
                epoch = self.agents[site].running(job_id)
                connected = self.live.get(site, LiveSite()).connected
                if epoch is None or record.lease_ttl_s is None or not connected:
                    continue
                if renewable(self.state.jobs[job_id], site, epoch):
                    self.book.given(job_id, site, epoch, self.now_s)
                    self.book.heard(job_id, site, epoch, self.now_s)
                    self.down.append((site, (job_id, epoch, self.now_s)))

    def partition(self) -> None:
        self.disconnect(self.random.choice(SITES))

    def heal(self) -> None:
        site = self.random.choice(SITES)
        if not self.live.get(site, LiveSite()).connected:
            self.connect(site)

    def restart_agent(self) -> None:
        """The agent dies and returns; its jobs do not notice. What it had received but not read is gone."""
        site = self.random.choice(SITES)
        self.down = [message for message in self.down if message[0] != site]
        self.disconnect(site)

    def lose(self) -> None:
        for queue in (self.up, self.down):
            if queue:
                queue.pop(self.random.randrange(len(queue)))

    def repeat(self) -> None:
        for queue in (self.up, self.down):
            if queue:
                queue.append(self.random.choice(queue))

    def periodic(self) -> None:
        self.agents[self.random.choice(SITES)].seal_now(self.random.choice(JOBS))

    def jump(self) -> None:
        self.now_s += self.random.choice((5.0, 25.0, 70.0))

    def fail(self) -> None:
        site, job_id = self.random.choice(SITES), self.random.choice(JOBS)
        if self.agents[site].fail_fetch(job_id):
            report = replace(self.agents[site].report(job_id), message="disk full")
            self.up.append((site, self.stamped(report)))
        else:
            self.agents[site].lose_reservation(job_id)

    def kill_and_fence(self) -> None:
        """A site burns down and the operator says so; one at most, so that checkpoints can survive."""
        if self.dead or self.random.random() < 0.8:
            return
        site = self.random.choice(SITES)
        self.dead.add(site)
        self.disconnect(site)
        for record in self.agents[site].jobs.values():
            record.phase = type(record.phase).FAILED
        self.tell(*fence(self.state, site, self.now, SETTINGS))

    def end(self) -> None:
        job_id = self.random.choice(JOBS)
        if self.random.random() < 0.7:
            return
        if self.random.random() < 0.5:
            self.agents[self.random.choice(SITES)].complete(job_id)
        elif not self.state.jobs[job_id].ended:
            self.cancelled.add(job_id)
            self.tell(ev.CancelRequested(at=self.now, job_id=job_id))

    # -- invariants -------------------------------------------------------------------------------

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            raise Violation(what)

    def check_order(self, order: Order) -> None:
        if isinstance(order.action, Stop) and order.action.cancel:
            job = self.state.jobs[order.job_id]
            self.require(job.cancelling or job.ended, "7: a stop for good that nobody asked for")

    def check_starts(self, site: str) -> None:
        agent = self.agents[site]
        for job_id, epoch, started_from, held in agent.starts:
            self.require(started_from is None or started_from in held, f"5: {job_id} unverified")
            newest = self.newest_step(job_id, epoch)
            begun = agent.record(job_id).start_step or 0
            self.require(begun >= newest, f"3: {job_id} at {site} begins at {begun}, {newest} is sealed")
        agent.starts.clear()

    def newest_step(self, job_id: str, epoch: int) -> int:
        """Return the steps that must not be lost by a start.

        Sealed at a living site; for a job that may be restarted when its site falls silent, what the living
        sites were known to have when the start was granted.
        """
        if self.state.jobs[job_id].spec.on_partition is OnPartition.STOP:
            return self.known_at_grant[job_id, epoch]
        living = [self.agents[site] for site in SITES if site not in self.dead]
        return max((one.step for agent in living for one in agent.record(job_id).checkpoints), default=0)

    def note_grant(self, event: ev.Event) -> None:
        if isinstance(event, ev.JobGranted):
            job = self.state.jobs[event.job_id]
            held = [one for site in holders_of(self.state, job) for one in job.copies[site]]
        elif isinstance(event, ev.MigrationCommitted | ev.MigrationFailed):
            migration = self.state.migrations[event.migration_id]
            job = self.state.jobs[migration.job_id]
            held = list(job.copies.get(migration.source_site, ()))
        else:
            return
        self.known_at_grant[job.job_id, event.epoch] = max((one.step for one in held), default=0)

    def check(self) -> None:
        for site in SITES:
            self.check_starts(site)
        for job_id in JOBS:
            job = self.state.jobs[job_id]
            alive = [site for site in SITES if site not in self.dead and self.agents[site].running(job_id)]
            self.require(len(alive) <= 1, f"1: {job_id} runs at {alive}")
            for site in alive:
                epoch = self.agents[site].running(job_id)
                self.require(epoch is not None and epoch <= job.epoch, f"2: {job_id} above its epoch")
                self.require(job.owner_site == site, f"1: {job_id} at {site}, owner {job.owner_site}")
            sealed = [c for site in SITES for c in self.agents[site].record(job_id).checkpoints]
            living = [
                c for site in SITES if site not in self.dead
                for c in self.agents[site].record(job_id).checkpoints
            ]  # fmt: skip
            self.require(not sealed or bool(living) or bool(self.dead), f"3: {job_id} lost its checkpoints")

    def settle(self, rounds: int = 200) -> None:
        """Let everything heal: a perfect network, everybody connected, nothing new begins."""
        self.up.clear()
        self.down.clear()
        for site in SITES:
            self.disconnect(site)
            self.connect(site)
        for _ in range(rounds):
            self.now_s += 4.0  # all rounds together outlast every timeout
            self.drive()
            while self.down:
                self.deliver_down()
            for site in SITES:
                if site not in self.dead:
                    for job_id in JOBS:
                        agent = self.agents[site]
                        agent.work(job_id, self.now_s)
                        wanted = agent.record(job_id).wanted
                        if wanted is not None and wanted.holder_site not in self.dead:
                            agent.fetch_from(job_id, self.agents[wanted.holder_site])
            self.report_all()
            self.renew()
            while self.up:
                self.deliver_up()
            for job_id in JOBS:
                job = self.state.jobs[job_id]
                if job.state is JobState.QUEUED:
                    site = self.random.choice(SITES)
                    self.tell(*grant(self.state, job_id, site, self.now, SETTINGS))
            self.check()

    def check_settled(self) -> None:
        for job_id in JOBS:
            job = self.state.jobs[job_id]
            alive = [site for site in SITES if self.agents[site].running(job_id)]
            self.require(job.migration_id is None, f"{job_id}: the move did not end: {job}")
            if job.ended:
                self.require(not alive, f"{job_id} has ended and runs at {alive}")
            elif job.state is JobState.QUEUED:
                lost = job.sealed_once and not any(
                    may_start_at(self.state, job, site) for site in SITES if site not in self.dead
                )
                self.require(lost, f"{job_id}: waits for nothing")
            else:
                self.require(job.state is JobState.RUNNING, f"{job_id}: {job.state}")
                self.require(alive == [job.owner_site], f"{job_id}: at {alive}, owner {job.owner_site}")
                epoch = self.agents[alive[0]].running(job_id)
                self.require(job.grant is not None and epoch == job.grant.epoch, f"{job_id}: epoch")
