"""What the coordinator knows of its fleet, as samples for Prometheus. Only reads; it must not block."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from coordinator.metrics import families as names
from coordinator.model.fleet import FleetState, JobState, MigrationState, Site
from coordinator.model.live import Live, LiveSite, is_connected
from coordinator.model.site import Quality
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.live import LiveBook
from coordinator.tasks.planning import Planner
from sterna.clock import Clock
from sterna.exposition.families import Sample
from sterna.supervise import Heart
from sterna.units import wh_to_joules


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that is told of one coordinator.

    Parameters
    ----------
    identity : tuple of str
        Fleet, policy and version.
    sites : sequence of str
        Those that are configured, in their order.
    hearts : callable
        The loops of the daemon.
    process : callable
        The process's own samples.
    """

    identity: tuple[str, str, str]
    fleet: Fleet
    live: LiveBook
    planner: Planner
    sites: Sequence[str]
    hearts: Callable[[], Sequence[Heart]]
    process: Callable[[], Iterable[Sample]]
    clock: Clock

    def samples(self) -> Iterator[Sample]:
        """Look at every part once."""
        state, live, now = self.fleet.state, self.live.sites, self.clock.now()
        yield from names.COORDINATOR.of(1, *self.identity)
        owners = Counter(job.owner_site for job in state.jobs.values() if not job.ended)
        for site_id in self.sites:
            yield from site_samples(site_id, state.sites.get(site_id), live.get(site_id, LiveSite()), now)
            yield from names.SITE_GRANTS.of(owners[site_id], site_id)
        yield from fleet_samples(state, live)
        yield from names.TICK.of(self.planner.tick_took_s)
        for heart in self.hearts():
            yield from names.LOOP_AGE.of(heart.overdue_s + heart.deadline_s, heart.name)
            yield from names.LOOP_DEADLINE.of(heart.deadline_s, heart.name)
        yield from self.process()


def site_samples(site_id: str, site: Site | None, live: LiveSite, now: datetime) -> Iterator[Sample]:
    """Tell one site; of one that was never heard of only that it is not connected."""
    yield from names.SITE_CONNECTED.of(live.connected, site_id)
    if site is not None:
        yield from names.SITE_DRAINING.of(site.draining, site_id)
        yield from names.SITE_FENCED.of(site.fenced, site_id)
        if site.capabilities is not None:
            yield from names.SITE_SLOTS.of(site.capabilities.slots, site_id)
    if live.last_seen_at is not None:
        yield from names.SITE_SILENCE.of(_since_s(live.last_seen_at, now), site_id)
    if (sample := live.sample) is not None:
        yield from names.SITE_SAMPLE_AGE.of(_since_s(sample.measured_at, now), site_id)
        if sample.quality is Quality.OK:
            yield from names.SITE_SURPLUS.of(sample.surplus_w, site_id)
            yield from names.SITE_COMPUTE.of(sample.compute_w, site_id)
        if (battery := sample.battery) is not None:
            yield from names.SITE_CHARGE.of(battery.soc_frac, site_id)
            stored_wh = battery.available_wh
            yield from names.SITE_STORED.of(None if stored_wh is None else wh_to_joules(stored_wh), site_id)
    if live.grid_status is not None:
        yield from names.SITE_LIMIT.of(live.grid_status.limit_w, site_id)


def fleet_samples(state: FleetState, live: Live) -> Iterator[Sample]:
    """Tell jobs, moves and links."""
    jobs = Counter(job.state for job in state.jobs.values())
    for job_state in JobState:
        yield from names.JOBS.of(jobs[job_state], job_state.value)
    pinned = sum(
        job.owner_site is not None and not job.ended and not is_connected(live, job.owner_site)
        for job in state.jobs.values()
    )
    yield from names.JOBS_PINNED.of(pinned)
    moves = Counter(migration.state for migration in state.migrations.values())
    for move_state in MigrationState:
        yield from names.MIGRATIONS.of(moves[move_state], move_state.value)
    for link in state.links.values():
        yield from names.LINK_GOODPUT.of(link.goodput_bps, link.source, link.destination)


def _since_s(at: datetime, now: datetime) -> float:
    return max(0.0, (now - at).total_seconds())
