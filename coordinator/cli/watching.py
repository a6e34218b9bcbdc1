"""Follows the fleet: the whole once, then what changed, put together again for whoever wants all of it."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sterna.v1 import operator_service_pb2 as api

if TYPE_CHECKING:
    from sterna.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub


async def watch(
    stub: "OperatorServiceAsyncStub",
) -> AsyncIterator[tuple[api.WatchFleetResponse, api.WatchFleetResponse]]:
    """Yield each message of a coordinator, and the whole fleet after it; of an old one they are the same."""
    fleet = api.WatchFleetResponse()
    async for message in stub.WatchFleet(api.WatchFleetRequest(changes_only=True)):
        fleet = changed(fleet, message) if message.HasField("left") else message
        yield message, fleet


def changed(fleet: api.WatchFleetResponse, by: api.WatchFleetResponse) -> api.WatchFleetResponse:
    """Return the fleet after a message of changes, in the order that a coordinator sends."""
    sites = {site.site_id: site for site in (*fleet.sites, *by.sites)}
    jobs = {job.job_id: job for job in (*fleet.jobs, *by.jobs)}
    migrations = {one.migration_id: one for one in (*fleet.migrations, *by.migrations)}
    for job_id in by.left.job_ids:
        jobs.pop(job_id, None)
    for migration_id in by.left.migration_ids:
        migrations.pop(migration_id, None)
    return api.WatchFleetResponse(
        at=by.at,
        policy=by.policy,
        waiting_since=by.waiting_since if by.HasField("waiting_since") else None,
        sites=[sites[name] for name in sorted(sites)],
        jobs=sorted(jobs.values(), key=lambda job: (job.submitted_at.ToNanoseconds(), job.job_id)),
        migrations=sorted(
            migrations.values(),
            key=lambda one: (one.planned_at.ToNanoseconds(), one.migration_id),
            reverse=True,
        ),
    )
