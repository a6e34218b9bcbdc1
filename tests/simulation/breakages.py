"""Rules broken on purpose, one at a time, to show that the simulation finds what it is there to find.

Each replaces one production rule, or one duty of the shells, for as long as its context lasts.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from agent.core import joborders
from agent.core.joborders import Room, Verdict
from agent.model.orders import Order
from agent.model.records import JobRecord
from coordinator.core import grants, orders, progress, round
from coordinator.core.grants import LeaseBook
from coordinator.model import events as ev
from coordinator.model.fleet import FleetState, Job, MigrationState
from coordinator.model.live import Live, report_of
from coordinator.model.orders import Order as HouseOrder
from coordinator.model.orders import Release
from coordinator.tasks import driver
from tests.simulation import carrying
from tests.simulation.agent import Agent
from tests.simulation.training import Shim
from tests.simulation.vault import Vault

Breakage = Callable[[], Iterator[None]]


@contextmanager
def swapped(owner: Any, name: str, value: object) -> Iterator[None]:
    """Have something else in the place of a production rule."""
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def accepts_lower_epochs() -> Any:
    """The agent obeys whoever speaks, under whatever epoch."""
    judge = joborders.judge_order

    def deaf(record: JobRecord, order: Order, room: Room) -> Verdict:
        return judge(replace(record, highest_epoch=0), order, room)

    return swapped(joborders, "judge_order", deaf)


def forgets_epochs_at_restart() -> Any:
    """The agent remembers the epoch under which it ran, and no higher one."""
    opens = Agent.open

    def forgetful(self: Agent) -> None:
        opens(self)
        self.records = {name: replace(one, highest_epoch=one.epoch) for name, one in self.records.items()}
        for record in self.records.values():
            self.disk.write(("records", ""), record.job_id, record, durable=True)

    return swapped(Agent, "open", forgetful)


def commits_before_it_has_arrived() -> Any:
    """The coordinator does not wait for the destination to have verified the checkpoint."""
    rule = progress.next_events

    def hasty(
        state: FleetState, job_id: str, live: Live, now: datetime, **settings: Any
    ) -> tuple[ev.Event, ...]:
        migration = state.migration_of(state.jobs[job_id])
        if migration is not None and migration.state is MigrationState.TRANSFERRING:
            verified = ev.MigrationEvent.VERIFY
            return (ev.MigrationAdvanced(at=now, migration_id=migration.migration_id, event=verified),)
        return rule(state, job_id, live, now, **settings)

    return swapped(round, "next_events", hasty)


def starts_before_the_seal() -> Any:
    """The coordinator takes any checkpoint of a source that it has told to stop for its last one."""
    rule = progress.next_events

    def hasty(
        state: FleetState, job_id: str, live: Live, now: datetime, **settings: Any
    ) -> tuple[ev.Event, ...]:
        migration = state.migration_of(state.jobs[job_id])
        if migration is not None and migration.state is MigrationState.STOPPING:
            report = report_of(live, migration.source_site, job_id)
            if report is not None and report.checkpoints:
                name, newest = migration.migration_id, report.checkpoints[0]
                return (ev.MigrationSealed(at=now, migration_id=name, checkpoint=newest, seal_s=None),)
        return rule(state, job_id, live, now, **settings)

    return swapped(round, "next_events", hasty)


def counts_no_margin() -> Any:
    """The coordinator counts a lease from its first giving, and waits for no renewal, clock or grace."""

    class Hasty(LeaseBook):
        def free_at_s(self, job: Job) -> float | None:
            free_at_s = super().free_at_s(job)
            ttl_s = job.grant.lease_ttl_s if job.grant is not None else None
            return free_at_s if free_at_s is None or ttl_s is None else free_at_s - ttl_s

    return swapped(grants, "LeaseBook", Hasty)


def takes_jobs_from_silent_sites() -> Any:
    """The coordinator moves any job whose site says nothing."""
    rule = progress.next_events

    def hasty(
        state: FleetState, job_id: str, live: Live, now: datetime, **settings: Any
    ) -> tuple[ev.Event, ...]:
        job = state.jobs[job_id]
        site = live.get(job.owner_site or "")
        if job.owner_site is not None and site is not None and not site.connected and not job.migration_id:
            lost = job.owner_site
            return (
                ev.JobRequeued(at=now, job_id=job_id, epoch=job.epoch + 1, message="silent", lost_site=lost),
            )
        return rule(state, job_id, live, now, **settings)

    return swapped(round, "next_events", hasty)


def releases_the_source_at_once() -> Any:
    """The source lets go of its checkpoints when the destination is told to start."""
    rule = orders.orders_for

    def hasty(state: FleetState, job: Job, live: Live, settings: Any) -> tuple[HouseOrder, ...]:
        migration = state.migration_of(job)
        told = rule(state, job, live, settings)
        if migration is None or migration.state is not MigrationState.STARTING:
            return told
        let_go = HouseOrder(
            site_id=migration.source_site,
            migration_id=migration.migration_id,
            job_id=job.job_id,
            epoch=job.epoch,
            action=Release(keep_checkpoints=0),
        )
        return (*told, let_go)

    return swapped(driver, "orders_for", hasty)


def keeps_one_checkpoint() -> Any:
    """A release leaves one checkpoint instead of two."""
    return swapped(orders, "KEPT_CHECKPOINTS", 1)


def verifies_no_chunk() -> Any:
    """The receiver believes what the network brings."""
    return swapped(carrying, "is_genuine", lambda chunk, _wanted: bool(chunk))


def starts_from_what_is_there() -> Any:
    """The agent does not look at a stored checkpoint before it starts from it."""

    def careless(self: Vault, job_id: str, checkpoint_id: str) -> int:
        sealed = self.get(job_id, checkpoint_id)
        return sealed.checkpoint.manifest.step if sealed is not None else 0

    return swapped(Vault, "take_out", careless)


def outlives_its_lease() -> Any:
    """The shim does not look at its lease once the trainer runs."""
    return swapped(Shim, "_left_s", lambda self: float("inf"))


def dates_reports_by_the_calendar() -> Any:
    """Reports are dated by a calendar that may be set back."""
    return swapped(Agent, "instant", lambda self: self.clock.now())


def starts_under_a_grant_again() -> Any:
    """An order to start is accepted as often as it comes."""
    judge = joborders.judge_order

    def eager(record: JobRecord, order: Order, room: Room) -> Verdict:
        return judge(replace(record, epoch=0, pending=None, applied=()), order, room)

    return swapped(joborders, "judge_order", eager)


BREAKAGES: Mapping[str, tuple[Callable[[], Any], frozenset[int]]] = {
    breakage.__name__: (breakage, frozenset(numbers))
    for breakage, numbers in (
        (accepts_lower_epochs, {2}),
        (forgets_epochs_at_restart, {2}),
        (commits_before_it_has_arrived, {5}),
        (starts_before_the_seal, {1, 3, 4}),
        (counts_no_margin, {1, 4}),
        (takes_jobs_from_silent_sites, {1, 4, 7}),
        (releases_the_source_at_once, {3}),
        (keeps_one_checkpoint, {3}),
        (verifies_no_chunk, {5}),
        (starts_from_what_is_there, {5}),
        (outlives_its_lease, {1, 4}),
        (dates_reports_by_the_calendar, {0}),
        (starts_under_a_grant_again, {6}),
    )
}
"""Each with the numbers of the invariants that may find it; 0: that everything heals, that little is lost."""
