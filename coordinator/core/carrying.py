"""The checkpoint of a waiting job, brought to where there is room for it.

A job with progress starts only where its newest checkpoint is. Where every such site is full, or drains, it
would wait for as long as that lasts. So another site is told to fetch the checkpoint, without a grant: once
it holds it, the planner may start the job there. Nothing is stored: the sites' own reports are the memory.
"""

from collections.abc import Iterator, Mapping
from math import inf

from coordinator.core.coming import carried_to, has_failed, is_coming, slots_promised
from coordinator.core.containers import lack_at
from coordinator.core.endings import holders_of
from coordinator.core.limits import HAIR_W
from coordinator.core.migration import BEFORE_COMMIT
from coordinator.core.view import ViewSettings, can_meet, link_rate_bps, slots_held
from coordinator.model.fleet import FleetState, Job, JobState, Site
from coordinator.model.job import Checkpoint, newest
from coordinator.model.live import Live, is_connected
from coordinator.model.orders import Action, Fetch, Offer, Prepare

LEAST_FRAC = 0.05
"""Of a link's rate: with less than this left by moves, nothing is carried over it."""


def is_stuck(state: FleetState, job: Job, live: Live, rooms_w: Mapping[str, float]) -> bool:
    """Tell whether a waiting job cannot start where its checkpoint is, and could be carried from there.

    Not while it is carried: where that fails it waits as long again, for others want the room too. `rooms_w`
    is what grid limits leave sites for one more job; one that is not named has no limit.
    """
    if job.state is not JobState.QUEUED or job.cancelling or not job.sealed_once:
        return False
    if carried_to(job, live) is not None:
        return False
    holders = holders_of(state, job)
    return any(is_connected(live, site_id) for site_id in holders) and not any(
        _has_room(state, job, live, site_id, rooms_w) for site_id in holders
    )


def carry_orders(
    state: FleetState,
    job: Job,
    live: Live,
    settings: ViewSettings,
    reservation_s: float,
    *,
    rooms_w: Mapping[str, float],
) -> Iterator[tuple[str, Action]]:
    """Return the orders that bring a stuck job's checkpoint to a site with room.

    Parameters
    ----------
    state, job, live
        What is known; the job has been stuck for a while, or is carried.
    settings : ViewSettings
        For the rates of links.
    reservation_s : float
        How long the reservation lasts by itself.
    rooms_w : mapping
        As in `is_stuck`.
    """
    under_way = carried_to(job, live)
    found = [
        (holder, site_id, held, rate_bps)
        for holder in sorted(holders_of(state, job))
        if is_connected(live, holder) and (held := newest(job.copies.get(holder, ()))) is not None
        for site_id in sorted(state.sites)
        if site_id == under_way or (under_way is None and _has_room(state, job, live, site_id, rooms_w))
        if (rate_bps := _rate_bps(state, holder, site_id, settings)) is not None
    ]
    if not found:
        return
    home = job.spec.home_site
    holder, site_id, held, rate_bps = min(found, key=lambda one: (one[1] != home, -one[3], one[1], one[0]))
    if not is_coming(job, live, site_id) or has_failed(job, live, site_id):
        yield (
            site_id,
            Prepare(spec=job.spec, checkpoint_bytes=held.size_bytes, expires_after_s=reservation_s),
        )
    else:
        yield from _transfer(state, holder, site_id, held, rate_bps)


def _transfer(
    state: FleetState, holder: str, site_id: str, held: Checkpoint, rate_bps: float
) -> Iterator[tuple[str, Action]]:
    holder_address, receiver_address = (_address(state.sites[one]) for one in (holder, site_id))
    yield (
        site_id,
        Fetch(
            checkpoint_id=held.checkpoint_id,
            holder_site=holder,
            holder_address=holder_address,
            max_bps=rate_bps,
        ),
    )
    if not holder_address and receiver_address:
        yield (
            holder,
            Offer(
                checkpoint_id=held.checkpoint_id,
                receiver_site=site_id,
                receiver_address=receiver_address,
                max_bps=rate_bps,
            ),
        )


def _has_room(state: FleetState, job: Job, live: Live, site_id: str, rooms_w: Mapping[str, float]) -> bool:
    site = state.sites.get(site_id)
    if site is None or site.capabilities is None or not is_connected(live, site_id):
        return False
    if lack_at(job.spec.container, site.capabilities):
        return False
    if job.spec.power_w > rooms_w.get(site_id, inf) + HAIR_W:
        return False
    taken = slots_held(state, site_id) + slots_promised(state, live, site_id)
    return not site.draining and not site.fenced and taken < site.capabilities.slots


def _rate_bps(state: FleetState, holder: str, site_id: str, settings: ViewSettings) -> float | None:
    """Return what moves leave of a link; None: there is no link, or too little is left."""
    whole_bps = link_rate_bps(state, holder, site_id, settings)
    if whole_bps is None or holder == site_id or not can_meet(state, holder, site_id):
        return None
    reserved_bps = sum(
        one.reserved_bps or 0.0
        for one in state.migrations.values()
        if one.state in BEFORE_COMMIT and (one.source_site, one.destination_site) == (holder, site_id)
    )
    left_bps = whole_bps - reserved_bps
    return left_bps if left_bps > LEAST_FRAC * whole_bps else None


def _address(site: Site) -> str:
    return site.capabilities.checkpoint_address if site.capabilities is not None else ""
