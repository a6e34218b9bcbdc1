"""sterna.v1.OperatorService over the coordinator's desk: who may call, what is usable, what it is called.

It decides nothing about the fleet; the desk does.
"""

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from coordinator.model.fleet import Job
from coordinator.service import offer_codec
from coordinator.service import operator_codec as codec
from coordinator.service import operator_errors as errors
from coordinator.service.admission import admit
from coordinator.service.lookup import matching, no_single_job, no_site
from coordinator.service.operator_ports import FleetPicture, OperatorDesk
from coordinator.service.operator_requests import FieldFault, job_spec, request_id_faults
from coordinator.service.watching import Watched
from sterna.identity import Identity, Role
from sterna.v1 import fleet_pb2
from sterna.v1 import operator_service_pb2 as api
from sterna.v1.operator_service_pb2_grpc import OperatorServiceServicer

log = logging.getLogger(__name__)

SERVICE_NAME = "sterna.v1.OperatorService"

LEAST_ROLE: Mapping[str, Role] = {
    "SubmitJob": Role.OPERATOR,
    "ListJobs": Role.VIEWER,
    "GetJob": Role.VIEWER,
    "ExplainJob": Role.VIEWER,
    "CancelJob": Role.OPERATOR,
    "MigrateJob": Role.OPERATOR,
    "ListSites": Role.VIEWER,
    "DrainSite": Role.OPERATOR,
    "ResumeSite": Role.OPERATOR,
    "FenceSite": Role.ADMIN,
    "ListMigrations": Role.VIEWER,
    "ListOffers": Role.VIEWER,
    "WatchFleet": Role.VIEWER,
}
"""The least role for each call. A call that is not here is refused to everybody."""

Context = grpc.aio.ServicerContext[Any, Any]


class OperatorServicer(OperatorServiceServicer):
    """The operators' service.

    Parameters
    ----------
    desk : OperatorDesk
        The coordinator.
    fleet : str
        The fleet whose operators may call.
    watch_period_s : float
        Least seconds between two messages to a watcher, > 0.
    """

    def __init__(self, *, desk: OperatorDesk, fleet: str, watch_period_s: float = 1.0) -> None:
        self._desk = desk
        self._fleet = fleet
        self._watched = Watched(desk, period_s=watch_period_s)

    async def SubmitJob(self, request: api.SubmitJobRequest, context: Context) -> api.SubmitJobResponse:  # noqa: N802
        """Take a job into the fleet."""
        caller = await self._admit(context, "SubmitJob")
        spec = job_spec(request.spec, self._desk.known_sites)
        faults = request_id_faults(request.request_id)
        if isinstance(spec, tuple):
            await errors.abort(context, errors.bad_request((*faults, *spec)))
        await _require(context, faults)
        job = await errors.done(context, self._desk.submit_job(request_id=request.request_id, spec=spec))
        _note(caller, "SubmitJob", request.request_id, job.job_id)
        picture = self._desk.picture()
        slack = codec.deadline_slack(job, picture)
        return api.SubmitJobResponse(job=codec.job(job, picture), deadline_slack=slack)

    async def ListJobs(self, request: api.ListJobsRequest, context: Context) -> api.ListJobsResponse:  # noqa: N802
        """List the jobs in the given states, in order of submission."""
        await self._admit(context, "ListJobs")
        await _require(context, _state_faults(request.states))
        jobs = codec.jobs(self._desk.picture())
        wanted = set(request.states)
        return api.ListJobsResponse(jobs=[job for job in jobs if not wanted or job.state in wanted])

    async def GetJob(self, request: api.GetJobRequest, context: Context) -> api.GetJobResponse:  # noqa: N802
        """Return one job."""
        await self._admit(context, "GetJob")
        picture = self._desk.picture()
        job = await _job(context, picture, request.job_id)
        slack = codec.deadline_slack(job, picture)
        return api.GetJobResponse(job=codec.job(job, picture), deadline_slack=slack)

    async def ExplainJob(self, request: api.ExplainJobRequest, context: Context) -> api.ExplainJobResponse:  # noqa: N802
        """Return the last decision about a job, and what each site would mean for it now."""
        await self._admit(context, "ExplainJob")
        picture = self._desk.picture()
        job = await _job(context, picture, request.job_id)
        stored = await self._desk.last_decision(job.job_id)
        return api.ExplainJobResponse(
            job=codec.job(job, picture),
            decision=codec.decision(stored) if stored is not None else None,
            now=[] if job.ended else self._judged(job, picture),
            deadline_slack=codec.deadline_slack(job, picture),
        )

    async def CancelJob(self, request: api.CancelJobRequest, context: Context) -> api.CancelJobResponse:  # noqa: N802
        """End a job for good."""
        caller = await self._admit(context, "CancelJob")
        await _require(context, request_id_faults(request.request_id))
        job = await _job(context, self._desk.picture(), request.job_id)
        act = self._desk.cancel_job(request_id=request.request_id, job_id=job.job_id)
        job = await errors.done(context, act)
        _note(caller, "CancelJob", request.request_id, job.job_id)
        return api.CancelJobResponse(job=codec.job(job, self._desk.picture()))

    async def MigrateJob(self, request: api.MigrateJobRequest, context: Context) -> api.MigrateJobResponse:  # noqa: N802
        """Move a job by hand, or judge the move only."""
        caller = await self._admit(context, "MigrateJob")
        # A dry run does nothing that would have to be remembered.
        await _require(context, () if request.dry_run else request_id_faults(request.request_id))
        job = await _job(context, self._desk.picture(), request.job_id)
        site_id = await self._site(context, request.destination_site, "destination_site")
        if request.dry_run:
            judged = await errors.answered(context, self._desk.judge(job.job_id, site_id))
            return api.MigrateJobResponse(judgement=codec.alternative(judged))
        act = self._desk.migrate_job(
            request_id=request.request_id, job_id=job.job_id, site_id=site_id, force=request.force
        )
        move = await errors.done(context, act)
        _note(caller, "MigrateJob", request.request_id, job.job_id)
        picture = self._desk.picture()
        return api.MigrateJobResponse(
            judgement=codec.alternative(move.judgement),
            migration=codec.migration(move.migration, picture) if move.migration is not None else None,
        )

    async def ListSites(self, request: api.ListSitesRequest, context: Context) -> api.ListSitesResponse:  # noqa: N802
        """List every configured site, by id."""
        await self._admit(context, "ListSites")
        picture = self._desk.picture()
        return api.ListSitesResponse(sites=codec.sites(self._sites(), picture))

    async def DrainSite(self, request: api.DrainSiteRequest, context: Context) -> api.DrainSiteResponse:  # noqa: N802
        """Let every job leave a site and none arrive."""
        caller = await self._admit(context, "DrainSite")
        await _require(context, request_id_faults(request.request_id))
        site_id = await self._site(context, request.site_id)
        await errors.done(context, self._desk.drain_site(request_id=request.request_id, site_id=site_id))
        _note(caller, "DrainSite", request.request_id, site_id)
        return api.DrainSiteResponse(site=codec.site(site_id, self._desk.picture()))

    async def ResumeSite(self, request: api.ResumeSiteRequest, context: Context) -> api.ResumeSiteResponse:  # noqa: N802
        """End draining and fencing."""
        caller = await self._admit(context, "ResumeSite")
        await _require(context, request_id_faults(request.request_id))
        site_id = await self._site(context, request.site_id)
        await errors.done(context, self._desk.resume_site(request_id=request.request_id, site_id=site_id))
        _note(caller, "ResumeSite", request.request_id, site_id)
        return api.ResumeSiteResponse(site=codec.site(site_id, self._desk.picture()))

    async def FenceSite(self, request: api.FenceSiteRequest, context: Context) -> api.FenceSiteResponse:  # noqa: N802
        """Take the operator's word that nothing runs at a site any more."""
        caller = await self._admit(context, "FenceSite")
        await _require(context, request_id_faults(request.request_id))
        site_id = await self._site(context, request.site_id)
        act = self._desk.fence_site(request_id=request.request_id, site_id=site_id, confirm=request.confirm)
        fenced = await errors.done(context, act)
        _note(caller, "FenceSite", request.request_id, site_id)
        site = codec.site(site_id, self._desk.picture())
        return api.FenceSiteResponse(site=site, job_ids=fenced.job_ids)

    async def ListMigrations(  # noqa: N802
        self, request: api.ListMigrationsRequest, context: Context
    ) -> api.ListMigrationsResponse:
        """List the migrations, newest first."""
        await self._admit(context, "ListMigrations")
        picture = self._desk.picture()
        job_id = (await _job(context, picture, request.job_id)).job_id if request.job_id else ""
        chosen = codec.migrations(picture, active_only=request.active_only, job_id=job_id)
        return api.ListMigrationsResponse(migrations=chosen)

    async def ListOffers(self, request: api.ListOffersRequest, context: Context) -> api.ListOffersResponse:  # noqa: N802
        """Return what each site offers its grid operator, by site id."""
        await self._admit(context, "ListOffers")
        wanted = [await self._site(context, request.site_id)] if request.site_id else self._sites()
        made = self._desk.offers()
        return api.ListOffersResponse(
            sites=[
                api.SiteOffers(
                    site_id=site_id, offers=offer_codec.offers(made[site_id]) if site_id in made else None
                )
                for site_id in wanted
            ]
        )

    async def WatchFleet(  # noqa: N802
        self, request: api.WatchFleetRequest, context: Context
    ) -> AsyncIterator[api.WatchFleetResponse]:
        """Send the fleet at once, then whenever it changed, at most one message each period."""
        await self._admit(context, "WatchFleet")
        async with aclosing(self._watched.messages(changes_only=request.changes_only)) as messages:
            async for message in messages:
                yield message

    async def _admit(self, context: Context, call: str) -> Identity:
        """Return who calls, or end the call: default deny."""
        return await admit(context, fleet=self._fleet, call=call, least=LEAST_ROLE[call])

    def _sites(self) -> list[str]:
        return sorted(self._desk.known_sites)

    def _judged(self, job: Job, picture: FleetPicture) -> Iterator[fleet_pb2.Alternative]:
        judged = self._desk.judge_everywhere(job.job_id)
        for site_id in self._sites():
            if site_id in judged:
                forecast = picture.forecasts.get(site_id)
                yield codec.alternative(judged[site_id], forecast.source if forecast is not None else "")
            else:
                yield fleet_pb2.Alternative(site_id=site_id, rejections=["the site was never heard of"])

    async def _site(self, context: Context, site_id: str, field: str = "site_id") -> str:
        if not site_id:
            await _require(context, (FieldFault(field=field, text="expected the id of a site, got none"),))
        if site_id not in self._desk.known_sites:
            rich = errors.status(
                grpc.StatusCode.NOT_FOUND,
                no_site(site_id, self._desk.known_sites),
                reason="SITE_NOT_FOUND",
                metadata={"site_id": site_id},
            )
            await errors.abort(context, rich)
        return site_id


async def _job(context: Context, picture: FleetPicture, given: str) -> Job:
    """Return the job with this id, unambiguous prefix or name, or end the call."""
    if not given:
        await _require(context, (FieldFault(field="job_id", text="expected the id of a job, got none"),))
    found = matching(picture.state.jobs, given)
    if not found:
        code, text = grpc.StatusCode.NOT_FOUND, no_single_job(given, found)
        rich = errors.status(code, text, reason="JOB_NOT_FOUND", metadata={"job_id": given})
        await errors.abort(context, rich)
    if len(found) > 1:
        await _require(context, (FieldFault(field="job_id", text=no_single_job(given, found)),))
    return picture.state.jobs[found[0]]


async def _require(context: Context, faults: Sequence[FieldFault]) -> None:
    if faults:
        await errors.abort(context, errors.bad_request(faults))


def _state_faults(states: Sequence[int]) -> tuple[FieldFault, ...]:
    known = set(fleet_pb2.JobState.values()) - {fleet_pb2.JOB_STATE_UNSPECIFIED}
    return tuple(
        FieldFault(field=f"states[{index}]", text=f"{state} is no state of a job")
        for index, state in enumerate(states)
        if state not in known
    )


def _note(caller: Identity, call: str, request_id: str, subject: str) -> None:
    """Leave the trail of who did what."""
    log.info(
        "operator call done",
        extra={"operator": caller.uri, "call": call, "request_id": request_id, "subject": subject},
    )
