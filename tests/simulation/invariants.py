"""The seven invariants of DESIGN 7, and what else is promised, as functions that raise `Violation`.

Each is looked at after every step, on what that step has brought.
"""

from collections.abc import Callable, Iterable, Mapping

from agent.core.joborders import Accept
from agent.core.jobtable import LIVE, JobEvent
from agent.jobs.outcome import RESTARTS
from agent.model.records import JobRecord
from coordinator.core.endings import holders_of
from coordinator.core.view import slots_held
from coordinator.model import events as ev
from coordinator.model.fleet import JobState, Migration, MigrationState
from coordinator.model.orders import Order, Release, Stop
from tests.simulation.machine import Machine
from tests.simulation.vault import is_intact
from tests.simulation.watch import Launch, News, Watch, interval_steps
from tests.simulation.world import Violation

KEPT = 2
CARRIED = frozenset(
    {
        MigrationState.SEALED,
        MigrationState.TRANSFERRING,
        MigrationState.VERIFIED,
        MigrationState.COMMITTED,
        MigrationState.STARTING,
    }
)
ONCE = frozenset({JobEvent.START, JobEvent.REGRANT, JobEvent.STOP, JobEvent.RELEASE})
GRANTS = (ev.JobGranted, ev.MigrationCommitted, ev.MigrationFailed, ev.JobStartFailed, ev.JobWithdrawn)


def require(number: int, holds: bool, what: str, *values: object) -> None:
    if not holds:
        raise Violation(number, what.format(*values))


def may_run(machine: Machine, record: JobRecord | None) -> bool:
    """Tell whether a site's own record gives it the right to run a job now."""
    if record is None or record.lease is None or record.phase not in LIVE or not machine.powered:
        return False
    lease, clock = record.lease, machine.clock
    return lease.boot_id == clock.boot_id and (
        lease.expires_s is None or clock.boottime_s() < lease.expires_s
    )


def record_of(machine: Machine, job_id: str) -> JobRecord | None:
    record: JobRecord | None = machine.disk.read(("records", ""), job_id)
    return record


def one_owner(watch: Watch, news: News) -> None:
    """1. At most one site holds an unexpired lease; a running process implies the current epoch."""
    for job_id in news.jobs:
        running = watch.running[job_id]
        require(1, len(running) <= 1, "{} runs twice: {}", job_id, running)
        entitled = {
            site_id for site_id, one in watch.machines.items() if may_run(one, record_of(one, job_id))
        } | {site_id for site_id, _ in running}
        require(1, len(entitled) <= 1, "{} may run at {}", job_id, sorted(entitled))
        for site_id, epoch in running:
            _is_current(watch, job_id, site_id, epoch)


def _is_current(watch: Watch, job_id: str, site_id: str, epoch: int) -> None:
    granted = watch.granted.get((job_id, epoch))
    require(1, granted is not None, "{} runs at {} under {}, never granted", job_id, site_id, epoch)
    house = watch.house
    if house is None or watch.was_restored:
        return  # its memory is behind, and catches up with the reports
    job = house.fleet.state.jobs[job_id]
    owner = job.grant.site_id if job.grant is not None else None
    require(1, owner == site_id, "{} runs at {} under {}, but belongs to {}", job_id, site_id, epoch, owner)
    require(1, epoch <= job.epoch, "{} runs under {}, the highest is {}", job_id, epoch, job.epoch)


def epochs_rise(watch: Watch, news: News) -> None:
    """2. The epoch strictly increases; agents persist the highest they saw and refuse lower."""
    for site_id, order, highest in news.accepted:
        require(2, order.epoch >= highest, "{} accepted an order of {} under {}, has seen {}", site_id,
                order.job_id, order.epoch, highest)  # fmt: skip
    for site_id, record, highest in news.recorded:
        require(2, record.highest_epoch >= highest, "{} forgot that it has seen epoch {} of {}", site_id,
                highest, record.job_id)  # fmt: skip
        if record.phase in LIVE:
            taken = watch.taken.setdefault((record.job_id, record.epoch), site_id)
            require(2, taken == site_id, "epoch {} of {} was taken by {} and {}", record.epoch,
                    record.job_id, taken, site_id)  # fmt: skip
    for decision in news.decisions:
        for job_id, before in decision.before.jobs.items():
            after = decision.after.jobs[job_id]
            given = any(isinstance(event, GRANTS) for event in decision.events)
            changed = after.grant is not before.grant and after.grant is not None
            rises = after.epoch > before.epoch or not (changed and given)
            require(2, rises, "{} is granted without a higher epoch than {}", job_id, before.epoch)


def a_checkpoint_survives(watch: Watch, news: News) -> None:
    """3. One verified checkpoint always survives; two are kept; none is deleted before CONFIRMED."""
    for site_id, checkpoint, left in news.deleted:
        job_id, step = checkpoint.manifest.job_id, checkpoint.manifest.step
        require(3, left >= KEPT, "{} keeps {} checkpoints of {}", site_id, left, job_id)
        if watch.house is None or watch.was_restored:
            continue
        for move in watch.house.fleet.state.migrations.values():
            carried = (
                move.checkpoint is not None and move.checkpoint.checkpoint_id == checkpoint.checkpoint_id
            )
            needed = carried and move.source_site == site_id and move.state in CARRIED
            require(3, not needed, "{} deleted step {} of {}, {} is not confirmed", site_id, step, job_id,
                    move.migration_id)  # fmt: skip
    for job_id in news.vaults:
        if watch.progress[job_id].sealed_once:
            there = any(
                is_intact(held)
                for machine in watch.machines.values()
                if not machine.burnt
                for held in machine.vault.held(job_id)
            )
            burnt = any(machine.burnt for machine in watch.machines.values())
            require(3, there or burnt, "no checkpoint of {} is left", job_id)
    for state, order in news.orders:
        _keeps_what_is_carried(state.migrations.values(), order)


def _keeps_what_is_carried(moves: Iterable[Migration], order: Order) -> None:
    """Require that nobody lets go of a job whose move is not confirmed."""
    if not isinstance(order.action, Release):
        return
    for move in moves:
        needed = move.job_id == order.job_id and move.source_site == order.site_id and move.state in CARRIED
        what = "{} is to release {} before {} is confirmed"
        require(3, not needed, what, order.site_id, order.job_id, move.migration_id)


def starts_after_the_end(watch: Watch, news: News) -> None:
    """4. A site starts only once the former one has sealed, its lease is over, or it is fenced."""
    for launch in news.launches:
        job_id = launch.record.job_id
        for site_id, machine in watch.machines.items():
            if site_id == launch.site_id:
                continue
            record = record_of(machine, job_id)
            alive = may_run(machine, record) or bool(machine.running(job_id))
            require(4, not alive, "{} starts {}, which has not ended at {}", launch.site_id, job_id, site_id)


def verified_only(watch: Watch, news: News) -> None:
    """5. Nothing starts from an unverified checkpoint, and none passes for verified that is not."""
    for launch in news.launches:
        require(5, launch.genuine, "{} starts {} from a checkpoint that is not what it says", launch.site_id,
                launch.record.job_id)  # fmt: skip
    for site_id, sealed in news.arrived:
        require(5, is_intact(sealed), "{} took a corrupt checkpoint of {} for good", site_id,
                sealed.checkpoint.manifest.job_id)  # fmt: skip
    for decision in news.decisions:
        for event in decision.events:
            if isinstance(event, ev.MigrationCommitted):
                move = decision.after.migrations[event.migration_id]
                assert move.checkpoint is not None
                machine = watch.machines[move.destination_site]
                there = machine.vault.get(move.job_id, move.checkpoint.checkpoint_id) is not None
                require(5, there or machine.burnt, "{} was committed to {}, without its checkpoint",
                        move.job_id, move.destination_site)  # fmt: skip


def repeated_orders_change_nothing(watch: Watch, news: News) -> None:
    """6. Every command is idempotent by (migration, phase, epoch)."""
    for order, verdict in news.twice:
        again = isinstance(verdict, Accept) and verdict.event in ONCE
        require(6, not again, "{} of {} under {} is accepted twice", type(order.action).__name__,
                order.job_id, order.epoch)  # fmt: skip
    for launch in news.launches:
        key = (launch.site_id, launch.record.job_id, launch.record.epoch)
        count = watch.launch_count[key]
        require(6, count <= 1 + launch.record.restarts <= 1 + RESTARTS, "{} began {} times under one grant",
                key, count)  # fmt: skip


def silence_ends_nothing(watch: Watch, news: News) -> None:
    """7. Silence never makes the coordinator kill a job; only the lease at the source does."""
    for site_id, job_id in news.lease_ends:
        require(7, watch.may_be_left(job_id), "{} at {} had no lease that could end", job_id, site_id)
    for decision in news.decisions:
        fenced = any(isinstance(event, ev.SiteFenced) for event in decision.events)
        for event in decision.events:
            if isinstance(event, ev.JobRequeued) and event.lost_site is not None and not fenced:
                require(7, watch.may_be_left(event.job_id), "{} was taken from silent {}", event.job_id,
                        event.lost_site)  # fmt: skip
    for state, order in news.orders:
        if not isinstance(order.action, Stop):
            continue
        job = state.jobs[order.job_id]
        if order.action.cancel:
            require(7, job.cancelling or job.ended, "{} is to be stopped for good, unasked", order.job_id)
        elif job.owner_site == order.site_id:
            move = state.migration_of(job)
            asked = job.state is JobState.WITHDRAWING or (
                move is not None and move.state is MigrationState.STOPPING
            )
            require(7, asked, "{} is to be stopped at {}, unasked", order.job_id, order.site_id)


INVARIANTS: Mapping[int, Callable[[Watch, News], None]] = {
    1: one_owner,
    2: epochs_rise,
    3: a_checkpoint_survives,
    4: starts_after_the_end,
    5: verified_only,
    6: repeated_orders_change_nothing,
    7: silence_ends_nothing,
}


def little_is_lost(watch: Watch, news: News) -> None:
    """Require that a start goes back by one checkpoint interval at most, never before a sealed one."""
    for launch in news.launches:
        progress = watch.progress[launch.record.job_id]
        if progress.excused:
            continue
        _not_before_the_sealed(watch, launch)
        lost = progress.executed - launch.step
        manner = watch.machines[launch.site_id].manners[launch.record.job_id]
        allowed = interval_steps(manner) + progress.unminded
        require(0, lost <= allowed, "{} goes back {} steps, at most {} are between two checkpoints",
                launch.record.job_id, lost, allowed)  # fmt: skip
        progress.executed, progress.unminded = launch.step, 0


def _not_before_the_sealed(watch: Watch, launch: Launch) -> None:
    job_id = launch.record.job_id
    if watch.may_be_left(job_id):
        granted = watch.granted.get((job_id, launch.record.epoch))
        floor = granted[1] if granted is not None and granted[1] is not None else 0
    else:
        floor = watch.progress[job_id].floor
    require(3, launch.step >= floor, "{} starts at {} from step {}, but {} is sealed", job_id,
            launch.site_id, launch.step, floor)  # fmt: skip


def check(watch: Watch) -> None:
    """Look at everything that the last step has brought."""
    news = watch.news
    if news is None:
        return
    watch.news = None
    for invariant in INVARIANTS.values():
        invariant(watch, news)
    little_is_lost(watch, news)


def unsettled(watch: Watch) -> str:
    """Say which job neither has ended nor runs where it should; empty when all is well."""
    house = watch.house
    if house is None or not house.alive:
        return "the coordinator is not there"
    for job_id, job in house.fleet.state.jobs.items():
        running = watch.running[job_id]
        if job.migration_id is not None:
            return f"{job_id}: its move does not end: {house.fleet.state.migration_of(job)}"
        if job.ended:
            if running:
                return f"{job_id}: has ended and runs at {running}"
        elif job.grant is None:
            if not _waits_for_nobody(watch, job_id):
                return f"{job_id}: waits, and could start"
        elif job.state not in (JobState.RUNNING, JobState.PAUSED):
            return f"{job_id}: {job.state.value} at {job.grant.site_id}: {job.message}"
        elif running != [(job.grant.site_id, job.grant.epoch)]:
            return f"{job_id}: runs at {running}, belongs to {job.grant.site_id} under {job.grant.epoch}"
    return ""


def _waits_for_nobody(watch: Watch, job_id: str) -> bool:
    """Tell whether a job can neither start nor be carried: no slot is free, or its holders have burnt."""
    assert watch.house is not None
    state = watch.house.fleet.state
    job, machines = state.jobs[job_id], watch.machines
    if job.sealed_once and all(machines[site_id].burnt for site_id in holders_of(state, job)):
        return True
    return not any(
        slots_held(state, site_id) < machine.kind.slots and not machine.burnt
        for site_id, machine in machines.items()
    )
