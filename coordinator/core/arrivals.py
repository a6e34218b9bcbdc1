"""Whether a job may arrive at a site as things stand now, whatever was decided a moment ago.

Decisions are made on a view; by the time they are acted on the fleet may have moved on. What is checked here
holds under every policy, and for an operator's moves too.
"""

from datetime import datetime

from coordinator.core.coming import slots_promised
from coordinator.core.containers import lack_at
from coordinator.core.view import slots_held
from coordinator.model.events import Event, MigrationPlanned
from coordinator.model.fleet import FleetState, JobState
from coordinator.model.job import ContainerSpec
from coordinator.model.live import Live, is_connected


def obstacle_to_arrival(
    state: FleetState, live: Live, site_id: str, container: ContainerSpec | None = None
) -> str:
    """Return why no job that runs in `container` may arrive at a site as things stand; empty when one may."""
    site = state.sites.get(site_id)
    if site is None or site.capabilities is None or not is_connected(live, site_id):
        return f"site {site_id} is not connected"
    if site.fenced or site.draining:
        return f"site {site_id} is {'fenced' if site.fenced else 'draining'}"
    if slots_held(state, site_id) + slots_promised(state, live, site_id) >= site.capabilities.slots:
        return f"site {site_id} has no free slot"
    lacking = lack_at(container, site.capabilities)
    return f"site {site_id}: {lacking}" if lacking else ""


def plan_migration(
    state: FleetState,
    live: Live,
    *,
    job_id: str,
    site_id: str,
    reason: str,
    predicted_s: float | None,
    reserved_bps: float | None,
    window_end_at: datetime | None,
    now: datetime,
    migration_id: str,
) -> tuple[Event, ...]:
    """Return the plan of a move, unless things have changed since it was decided."""
    if obstacle_to_move(state, live, job_id, site_id):
        return ()
    event = MigrationPlanned(
        at=now,
        migration_id=migration_id,
        job_id=job_id,
        destination_site=site_id,
        reason=reason,
        predicted_s=predicted_s,
        reserved_bps=reserved_bps,
        window_end_at=window_end_at,
    )
    return (event,)


def obstacle_to_move(state: FleetState, live: Live, job_id: str, site_id: str) -> str:
    """Return why a job cannot be moved to a site as things stand, feasible or not; empty when it can."""
    job = state.jobs[job_id]
    if job.migration_id is not None:
        return "a migration of the job is under way"
    if job.cancelling or job.state not in (JobState.RUNNING, JobState.PAUSED) or job.owner_site is None:
        return f"the job is {job.state.value}, not running"
    if job.owner_site == site_id:
        return f"the job is at {site_id} already"
    if not is_connected(live, job.owner_site):
        return f"site {job.owner_site}, where the job is, is not connected"
    return obstacle_to_arrival(state, live, site_id, job.spec.container)
