"""What each site must be told now: level-triggered, from the fleet's state and the newest reports.

An order stands as long as the report does not show its effect; whoever sends orders repeats those that
stand. So neither a lost message nor a restart of either side needs a case of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from coordinator.core.carrying import carry_orders
from coordinator.core.coming import carried_to, carry_id
from coordinator.core.holding import Holds, hold_orders
from coordinator.core.reports import STATE_OF_PHASE
from coordinator.core.sharing import allotted_bps
from coordinator.core.view import ViewSettings
from coordinator.model.fleet import FleetState, Job, JobState, Migration, MigrationState, Site
from coordinator.model.job import ALIVE_PHASES, Checkpoint, JobPhase, JobReport, newest
from coordinator.model.live import Live, report_of
from coordinator.model.orders import Action, Fetch, Offer, Order, Prepare, Release, Start, Stop

M = MigrationState
KEPT_CHECKPOINTS = 2
"""DESIGN 7, invariant 3: the last two are kept."""
BEFORE_SEAL = frozenset({M.PLANNED, M.PREPARED, M.PRESTAGING, M.STOPPING})
HOLDS_SOMETHING = frozenset(JobPhase) - ALIVE_PHASES - {JobPhase.RELEASED}
LEFT_BEHIND = frozenset({JobPhase.RESERVED, JobPhase.FETCHING})
"""Phases of a move that is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSettings:
    """What orders go by besides the state.

    `reservation_s`: how long a reservation lasts by itself, in seconds: longer than a move may wait for its
    fetch. `view`: for the rates of links. `stuck`: jobs that have waited long enough where their checkpoint
    is; see `coordinator.core.carrying`.
    """

    reservation_s: float = 720.0
    view: ViewSettings = field(default_factory=ViewSettings)
    stuck: frozenset[str] = frozenset()
    holds: Holds | None = None
    """Who is to stand still where it runs; None: nobody has decided yet, and nothing is said about it."""


def orders_for(state: FleetState, job: Job, live: Live, settings: OrderSettings) -> tuple[Order, ...]:
    """Return every order that stands about one job.

    Parameters
    ----------
    state : FleetState
        What is known.
    job : Job
        One of its jobs.
    live : Live
        The newest reports of every site; the sites need not be connected.
    settings : OrderSettings
        For reservations, and who is to stand still.
    """
    migration = state.migration_of(job)
    stray_id = migration_id = migration.migration_id if migration is not None else ""
    if migration is not None:
        parties = {migration.source_site, migration.destination_site}
        wanted = list(_migrating(state, job, migration, live, settings))
    elif job.state is JobState.QUEUED and (carried_to(job, live) or job.job_id in settings.stuck):
        migration_id = carry_id(job)
        rooms_w = settings.holds.rooms_w if settings.holds is not None else {}
        wanted = list(carry_orders(state, job, live, settings.view, settings.reservation_s, rooms_w=rooms_w))
        parties = set(filter(None, (carried_to(job, live), *(site_id for site_id, _ in wanted))))
    else:
        parties = {job.owner_site} if job.owner_site is not None else set()
        wanted = list(_resident(job, live, settings.holds))
    # Who lets go under the name of a carry would refuse to be part of it ever after.
    strays = [
        (stray_id, site_id, action)
        for site_id in live
        if site_id not in parties
        for action in _stray(job, report_of(live, site_id, job.job_id))
    ]
    return tuple(
        Order(site_id=site_id, migration_id=name, job_id=job.job_id, epoch=job.epoch, action=action)
        for name, site_id, action in (*((migration_id, *one) for one in wanted), *strays)
    )


def _start(job: Job, report: JobReport | None, checkpoint_id: str | None) -> Iterator[Start]:
    """Start under the grant unless the report shows it; not when a higher epoch was only heard of."""
    assert job.grant is not None  # only a grant starts anything
    if job.grant.epoch < job.epoch or (report is not None and report.epoch >= job.grant.epoch):
        return
    yield Start(spec=job.spec, checkpoint_id=checkpoint_id, lease_ttl_s=job.grant.lease_ttl_s)


def _resident(job: Job, live: Live, holds: Holds | None) -> Iterator[tuple[str, Action]]:
    """Orders to the owner while no move is under way."""
    if job.grant is None:
        return
    site_id, report = job.grant.site_id, report_of(live, job.grant.site_id, job.job_id)
    alive = report is not None and report.phase in ALIVE_PHASES
    if job.state is JobState.WITHDRAWING:
        yield (
            site_id,
            Stop(reason=job.message, cancel=job.cancelling)
            if alive
            else Release(keep_checkpoints=KEPT_CHECKPOINTS),
        )
    elif job.cancelling:
        if alive:
            yield site_id, Stop(reason="cancelled", cancel=True)
    elif job.state is JobState.STARTING:
        yield from ((site_id, start) for start in _start(job, report, job.grant.checkpoint_id))
    elif holds is not None:
        yield from ((site_id, order) for order in hold_orders(job, report, holds))


def _migrating(
    state: FleetState, job: Job, migration: Migration, live: Live, settings: OrderSettings
) -> Iterator[tuple[str, Action]]:
    """Orders to the two ends of a move."""
    source, destination = migration.source_site, migration.destination_site
    at_source, at_destination = (report_of(live, site, job.job_id) for site in (source, destination))
    if job.cancelling and migration.state is not M.CONFIRMED:
        if job.owner_site is not None:
            owner = report_of(live, job.owner_site, job.job_id)
            if owner is not None and owner.phase in ALIVE_PHASES:
                yield job.owner_site, Stop(reason="cancelled", cancel=True)
        return
    match migration.state:
        case M.PLANNED:
            size_bytes = _size_bytes(job, source)
            yield (
                destination,
                Prepare(spec=job.spec, checkpoint_bytes=size_bytes, expires_after_s=settings.reservation_s),
            )
        case M.STOPPING:
            if at_source is None or at_source.phase in STATE_OF_PHASE:
                reason = f"migrating to {destination}: {migration.reason}"
                yield source, Stop(reason=reason, cancel=False)
        case M.PRESTAGING:
            assert migration.ahead is not None  # the step into this state named it
            yield from _transfer(state, migration, migration.ahead, at_destination)
        case M.TRANSFERRING:
            assert migration.checkpoint is not None  # SEALED named it
            yield from _transfer(state, migration, migration.checkpoint, at_destination)
        case M.STARTING:
            assert job.grant is not None  # COMMITTED granted it
            starts = _start(job, at_destination, job.grant.checkpoint_id)
            yield from ((destination, start) for start in starts)
        case M.COMPENSATING:
            yield from _compensation(job, migration, at_source, at_destination)
        case _:
            return


def _size_bytes(job: Job, site_id: str) -> int:
    held = newest(job.copies.get(site_id, ())) or job.checkpoint
    return held.size_bytes if held is not None else job.spec.checkpoint_bytes


def _transfer(
    state: FleetState, migration: Migration, checkpoint: Checkpoint, at_destination: JobReport | None
) -> Iterator[tuple[str, Action]]:
    checkpoint_id = checkpoint.checkpoint_id
    holder_address = _address(state.sites.get(migration.source_site))
    receiver_address = _address(state.sites.get(migration.destination_site))
    here = at_destination is not None and at_destination.migration_id == migration.migration_id
    held = (
        here
        and at_destination is not None
        and at_destination.phase is JobPhase.HELD
        and at_destination.holds(checkpoint_id)
    )
    if held:
        return
    # Also while it fetches: the holder's address may have changed since.
    max_bps = allotted_bps(state).get(migration.migration_id)
    fetch = Fetch(
        checkpoint_id=checkpoint_id,
        holder_site=migration.source_site,
        holder_address=holder_address,
        max_bps=max_bps,
        for_start=migration.state is M.TRANSFERRING,
    )
    yield migration.destination_site, fetch
    if not holder_address and receiver_address:
        offer = Offer(
            checkpoint_id=checkpoint_id,
            receiver_site=migration.destination_site,
            receiver_address=receiver_address,
            max_bps=max_bps,
        )
        yield migration.source_site, offer


def _address(site: Site | None) -> str:
    return site.capabilities.checkpoint_address if site is not None and site.capabilities is not None else ""


def _compensation(
    job: Job, migration: Migration, at_source: JobReport | None, at_destination: JobReport | None
) -> Iterator[tuple[str, Action]]:
    assert job.grant is not None  # COMPENSATING is entered with a grant to the source
    # It may have sealed since the grant was made: nothing of that is to be lost.
    held = newest(job.copies.get(migration.source_site, ()))
    checkpoint_id = held.checkpoint_id if held is not None else job.grant.checkpoint_id
    yield from ((migration.source_site, start) for start in _start(job, at_source, checkpoint_id))
    if at_destination is not None and at_destination.phase in HOLDS_SOMETHING:
        yield migration.destination_site, Release(keep_checkpoints=KEPT_CHECKPOINTS)


def _stray(job: Job, report: JobReport | None) -> Iterator[Action]:
    """Orders to a site that has something of a job which is not, or no more, its own.

    A waiting job's sealed checkpoint stays as it is: its site may well be the next to start it.
    """
    if report is None:
        return
    if report.phase in ALIVE_PHASES:
        reason = "the job has ended" if job.ended else "another site has the job"
        yield Stop(reason=reason, cancel=job.ended)
    elif report.phase in LEFT_BEHIND or (
        report.phase in HOLDS_SOMETHING and job.state is not JobState.QUEUED
    ):
        yield Release(keep_checkpoints=KEPT_CHECKPOINTS)
