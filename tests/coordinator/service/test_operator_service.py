"""The operators' service over real mTLS: what each call answers, and how it refuses."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from coordinator.model import events as ev
from coordinator.model.fleet import Job, JobState
from coordinator.service.lookup import matching
from coordinator.service.operator_fake import FakeDesk
from sterna.errors import TransientError
from sterna.identity import Role
from sterna.v1 import fleet_pb2, job_pb2
from sterna.v1 import operator_service_pb2 as api
from tests.conftest import Fleet
from tests.coordinator.service import operator_world as world
from tests.coordinator.service.operator_world import DONE, FRESH, LOST, MOVING, NOW, QUEUED, RUNNING

Stub = world.OperatorServiceStub


@pytest.fixture
def desk() -> FakeDesk:
    return world.desk()


@pytest.fixture
async def stub(desk: FakeDesk, fleet: Fleet) -> AsyncIterator[Stub]:
    async with (
        world.serving(desk, fleet, watch_period_s=0.05) as port,
        world.calling(port, fleet, Role.ADMIN, "ada") as stub,
    ):
        yield stub


async def refusal(call) -> tuple[grpc.StatusCode, str, dict[str, object]]:
    """What a call is refused with: status, sentence, and the details by the name of their kind."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    details: dict[str, object] = {}
    for packed in rpc_status.from_call(caught.value).details:
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.PreconditionFailure,
            error_details_pb2.RetryInfo,
        ):
            message = kind()
            if packed.Unpack(message):
                details[kind.__name__] = message
    assert details["ErrorInfo"].domain == "sterna"
    return caught.value.code(), caught.value.details(), details


def spec(**changes) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(**{"name": "new", "argv": ["true"], "power_w": 100.0, **changes})


async def test_a_job_is_submitted_once_however_often_it_is_sent(stub: Stub, desk: FakeDesk) -> None:
    request = api.SubmitJobRequest(request_id="r-1", spec=spec(home_site="kiel"))
    first = await stub.SubmitJob(request)
    again = await stub.SubmitJob(request)
    assert first.job == again.job
    assert first.job.state == fleet_pb2.JOB_STATE_QUEUED
    assert len(desk.picture().state.jobs) == 7
    other = api.SubmitJobRequest(request_id="r-1", spec=spec(name="other"))
    code, _, details = await refusal(stub.SubmitJob(other))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert details["ErrorInfo"].reason == "REQUEST_REUSED"


async def test_a_spec_that_is_not_usable_names_every_field(stub: Stub, desk: FakeDesk) -> None:
    request = api.SubmitJobRequest(spec=spec(argv=[], power_w=-1.0, home_site="atlantis"))
    code, message, details = await refusal(stub.SubmitJob(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    fields = [violation.field for violation in details["BadRequest"].field_violations]
    assert fields == ["request_id", "spec.argv", "spec.power_w", "spec.home_site"]
    assert message == "4 fields are not usable: request_id, spec.argv, spec.power_w, spec.home_site"
    assert len(desk.picture().state.jobs) == 6


async def test_a_monstrous_request_still_gets_its_refusal(stub: Stub) -> None:
    env = {f"{index} {'ü' * 900}": "" for index in range(200)}
    code, message, details = await refusal(
        stub.SubmitJob(api.SubmitJobRequest(request_id="r", spec=spec(env=env)))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert 1 <= len(details["BadRequest"].field_violations) < 200
    assert message.startswith("201 fields")


async def test_jobs_show_what_is_seen_of_them(stub: Stub) -> None:
    answer = await stub.ListJobs(api.ListJobsRequest())
    states = {
        job.job_id: fleet_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_") for job in answer.jobs
    }
    assert states == {
        RUNNING: "RUNNING",
        QUEUED: "QUEUED",
        MOVING: "MIGRATING",
        DONE: "COMPLETED",
        LOST: "CONTACT_LOST",
        FRESH: "QUEUED",
    }
    steps = {job.job_id: job.step if job.HasField("step") else None for job in answer.jobs}
    assert steps[RUNNING] == 1200
    assert steps[QUEUED] is None


async def test_jobs_are_listed_by_state(stub: Stub) -> None:
    answer = await stub.ListJobs(api.ListJobsRequest(states=[fleet_pb2.JOB_STATE_MIGRATING]))
    assert [job.job_id for job in answer.jobs] == [MOVING]
    code, _, details = await refusal(stub.ListJobs(api.ListJobsRequest(states=[0, 99])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert [one.field for one in details["BadRequest"].field_violations] == ["states[0]", "states[1]"]


@pytest.mark.parametrize(("given", "found"), [(RUNNING, RUNNING), ("a1f", RUNNING), ("d", MOVING)])
async def test_an_unambiguous_beginning_names_a_job(stub: Stub, given: str, found: str) -> None:
    answer = await stub.GetJob(api.GetJobRequest(job_id=given))
    assert answer.job.job_id == found


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ("a1", grpc.StatusCode.INVALID_ARGUMENT, f"{QUEUED}, {RUNNING}"),
        ("zz", grpc.StatusCode.NOT_FOUND, "no job 'zz'"),
        ("", grpc.StatusCode.INVALID_ARGUMENT, "job_id"),
    ],
)
async def test_other_beginnings_are_refused(
    stub: Stub, given: str, code: grpc.StatusCode, words: str
) -> None:
    calls = (
        stub.GetJob(api.GetJobRequest(job_id=given)),
        stub.ExplainJob(api.ExplainJobRequest(job_id=given)),
        stub.CancelJob(api.CancelJobRequest(request_id="r", job_id=given)),
        stub.MigrateJob(api.MigrateJobRequest(request_id="r", job_id=given, destination_site="kiel")),
    )
    for call in calls:
        got, message, _ = await refusal(call)
        assert got is code
        assert words in message


def jobs(*ids: str) -> dict[str, Job]:
    return {
        one: Job(job_id=one, spec=world.spec(f"job {one}"), state=JobState.RUNNING, submitted_at=NOW)
        for one in ids
    }


def test_a_whole_id_is_itself_though_another_begins_with_it() -> None:
    assert matching(jobs("ab", "abc"), "ab") == ["ab"]
    assert matching(jobs("abd", "abc"), "ab") == ["abc", "abd"]
    assert matching(jobs("abd"), "x") == []


def test_a_name_is_that_of_the_job_that_has_not_ended() -> None:
    ended, live, other = "e5", "a1", "b7"
    known = jobs(ended, live, other)
    known[ended] = replace(known[ended], spec=replace(known[ended].spec, name="count"), state=JobState.FAILED)
    assert matching(known, "count") == [ended]
    known[live] = replace(known[live], spec=replace(known[live].spec, name="count"))
    assert matching(known, "count") == [live]
    known["counted"] = replace(known[other], job_id="counted")
    assert matching(known, "count") == [live, "counted"], "both may be meant"


async def test_explain_has_the_stored_decision_and_every_site_judged_now(stub: Stub) -> None:
    answer = await stub.ExplainJob(api.ExplainJobRequest(job_id=RUNNING))
    assert answer.decision.decision_id == "d-17"
    assert answer.decision.alternatives[1].terms[0].remedy == "a link above 2e+09 bit/s"
    judged = {one.site_id: one for one in answer.now}
    assert set(judged) == {"kiel", "malaga", "miami"}
    assert judged["kiel"].rejections == ["the job is there already"]
    assert judged["malaga"].feasible
    assert {"time", "break_even", "slots"} <= {term.name for term in judged["malaga"].terms}
    assert not judged["miami"].feasible
    assert judged["miami"].rejections


async def test_explain_of_a_job_that_ended_judges_nothing(stub: Stub) -> None:
    answer = await stub.ExplainJob(api.ExplainJobRequest(job_id=DONE))
    assert not answer.HasField("decision")
    assert list(answer.now) == []


async def test_cancel(stub: Stub) -> None:
    answer = await stub.CancelJob(api.CancelJobRequest(request_id="r", job_id=RUNNING))
    assert answer.job.message == "being cancelled"
    code, message, details = await refusal(stub.CancelJob(api.CancelJobRequest(request_id="q", job_id=DONE)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "already ended" in message
    assert details["PreconditionFailure"].violations[0].subject == f"job/{DONE}"


async def test_a_dry_run_judges_and_changes_nothing(stub: Stub, desk: FakeDesk) -> None:
    before = desk.picture().version
    request = api.MigrateJobRequest(job_id=RUNNING, destination_site="malaga", dry_run=True)
    answer = await stub.MigrateJob(request)
    assert answer.judgement.feasible
    assert not answer.HasField("migration")
    assert desk.picture().version == before


async def test_a_feasible_move_is_made_once(stub: Stub) -> None:
    request = api.MigrateJobRequest(request_id="r", job_id=RUNNING, destination_site="malaga")
    first = await stub.MigrateJob(request)
    again = await stub.MigrateJob(request)
    assert first.migration == again.migration
    assert first.migration.state == fleet_pb2.MIGRATION_STATE_PLANNED
    listed = await stub.ListMigrations(api.ListMigrationsRequest(job_id="a1f"))
    assert [one.migration_id for one in listed.migrations] == [first.migration.migration_id]


async def test_an_infeasible_move_says_every_reason(stub: Stub) -> None:
    request = api.MigrateJobRequest(request_id="r", job_id=RUNNING, destination_site="miami", force=True)
    code, _, details = await refusal(stub.MigrateJob(request))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert details["ErrorInfo"].reason == "INFEASIBLE"
    violations = details["PreconditionFailure"].violations
    assert "the site is not available" in [violation.description for violation in violations]
    assert len(violations) > 1
    assert {violation.type for violation in violations} == {"INFEASIBLE"}


async def test_sites_show_what_is_known_and_no_more(stub: Stub) -> None:
    sites = {site.site_id: site for site in (await stub.ListSites(api.ListSitesRequest())).sites}
    assert sites["kiel"].telemetry.surplus_w == 0.0
    assert sites["kiel"].telemetry.HasField("surplus_w")
    assert not sites["malaga"].telemetry.HasField("surplus_w")
    assert not sites["miami"].HasField("telemetry")
    assert not sites["kiel"].HasField("window_end_at")
    assert sites["malaga"].window_end_at.ToDatetime(tzinfo=NOW.tzinfo) > NOW
    assert sites["kiel"].grid_status.limits[0].reason == "ALERT_GRID_EMERGENCY"
    assert [one.command_id for one in sites["kiel"].grid_status.coming_limits] == ["c-later"]
    (export,) = sites["kiel"].grid_status.export_limits
    assert (export.source, export.limit_w) == ("modbus-wset", 3000.0)
    assert list(sites["kiel"].job_ids) == [RUNNING, MOVING]
    assert list(sites["malaga"].job_ids) == []


async def test_drain_resume_fence(stub: Stub) -> None:
    for request_id in ("r-1", "r-1", "r-2"):
        request = api.DrainSiteRequest(request_id=request_id, site_id="kiel")
        assert (await stub.DrainSite(request)).site.draining
    assert not (await stub.ResumeSite(api.ResumeSiteRequest(request_id="r-3", site_id="kiel"))).site.draining
    code, message, _ = await refusal(
        stub.FenceSite(api.FenceSiteRequest(request_id="r-4", site_id="kiel", confirm="malaga"))
    )
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "confirm must name it" in message
    fenced = await stub.FenceSite(api.FenceSiteRequest(request_id="r-5", site_id="miami"))
    assert fenced.site.fenced
    assert list(fenced.job_ids) == [LOST]


async def test_sites_that_are_none(stub: Stub) -> None:
    for call in (
        stub.DrainSite(api.DrainSiteRequest(request_id="r", site_id="atlantis")),
        stub.ResumeSite(api.ResumeSiteRequest(request_id="r", site_id="atlantis")),
        stub.FenceSite(api.FenceSiteRequest(request_id="r", site_id="atlantis")),
        stub.MigrateJob(api.MigrateJobRequest(request_id="r", job_id=RUNNING, destination_site="atlantis")),
    ):
        code, message, _ = await refusal(call)
        assert code is grpc.StatusCode.NOT_FOUND
        assert "known sites: kiel, malaga, miami" in message
    code, _, details = await refusal(stub.DrainSite(api.DrainSiteRequest(request_id="r")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details["BadRequest"].field_violations[0].field == "site_id"


@pytest.mark.parametrize("request_id", ["", "x" * 65])
async def test_every_act_takes_a_request_id(stub: Stub, request_id: str) -> None:
    for call in (
        stub.SubmitJob(api.SubmitJobRequest(request_id=request_id, spec=spec())),
        stub.CancelJob(api.CancelJobRequest(request_id=request_id, job_id=RUNNING)),
        stub.MigrateJob(
            api.MigrateJobRequest(request_id=request_id, job_id=RUNNING, destination_site="malaga")
        ),
        stub.DrainSite(api.DrainSiteRequest(request_id=request_id, site_id="kiel")),
        stub.ResumeSite(api.ResumeSiteRequest(request_id=request_id, site_id="kiel")),
        stub.FenceSite(api.FenceSiteRequest(request_id=request_id, site_id="kiel", confirm="kiel")),
    ):
        code, _, details = await refusal(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert [one.field for one in details["BadRequest"].field_violations] == ["request_id"]


async def test_migrations(stub: Stub) -> None:
    answer = await stub.ListMigrations(api.ListMigrationsRequest(active_only=True))
    [move] = answer.migrations
    assert (move.source_site, move.destination_site) == ("kiel", "malaga")
    assert move.state == fleet_pb2.MIGRATION_STATE_TRANSFERRING
    assert (move.transferred_bytes, move.checkpoint_bytes) == (123_456_789, 987_654_321)
    assert move.predicted.ToTimedelta().total_seconds() == 22.5
    assert not move.HasField("downtime")


async def test_watching_sends_a_snapshot_at_once_and_then_on_change_alone(stub: Stub, desk: FakeDesk) -> None:
    stream = stub.WatchFleet(api.WatchFleetRequest(), timeout=20.0)
    first = await stream.read()
    assert [site.site_id for site in first.sites] == ["kiel", "malaga", "miami"]
    assert DONE in {job.job_id for job in first.jobs}
    waiting = asyncio.ensure_future(stream.read())  # noqa: TID251 - a read that must not end yet
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done, "nothing changed, and a snapshot came"
    await desk.happen(ev.SiteDrained(at=NOW, site_id="malaga"))
    second = await waiting
    assert [site.draining for site in second.sites] == [False, True, False]
    stream.cancel()


async def test_a_burst_of_changes_is_one_snapshot_a_period(desk: FakeDesk, fleet: Fleet) -> None:
    async with (
        world.serving(desk, fleet, watch_period_s=0.2) as port,
        world.calling(port, fleet, Role.VIEWER, "vera") as stub,
    ):
        stream = stub.WatchFleet(api.WatchFleetRequest(), timeout=20.0)
        await stream.read()
        for index in range(50):
            kind = ev.SiteDrained if index % 2 else ev.SiteResumed
            await desk.happen(kind(at=NOW, site_id="malaga"))
        last = await stream.read()
        assert last.sites[1].draining
        waiting = asyncio.ensure_future(stream.read())  # noqa: TID251 - a read that must not end yet
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done, "the burst came twice"
        stream.cancel()


async def test_old_ends_leave_the_picture(stub: Stub, desk: FakeDesk) -> None:
    spec_of = world.spec("old")
    await desk.happen(ev.JobSubmitted(at=world.before(9000), job_id="old", spec=spec_of))
    await desk.happen(ev.JobEnded(at=world.before(3601), job_id="old", state=JobState.CANCELLED, message=""))
    stream = stub.WatchFleet(api.WatchFleetRequest(), timeout=20.0)
    snapshot = await stream.read()
    stream.cancel()
    assert "old" not in {job.job_id for job in snapshot.jobs}
    assert "old" in {job.job_id for job in (await stub.ListJobs(api.ListJobsRequest())).jobs}


class BusyDesk(FakeDesk):
    """Its store is busy."""

    async def drain_site(self, *, request_id: str, site_id: str):
        raise TransientError("the store is busy", retry_after_s=1.5)


async def test_a_desk_that_cannot_now_says_when(fleet: Fleet) -> None:
    desk = BusyDesk(now=lambda: NOW, view=world.view())
    async with (
        world.serving(desk, fleet) as port,
        world.calling(port, fleet, Role.OPERATOR, "otto") as stub,
    ):
        call = stub.DrainSite(api.DrainSiteRequest(request_id="r", site_id="kiel"))
        code, message, details = await refusal(call)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert message == "the store is busy"
        assert details["RetryInfo"].retry_delay.ToMilliseconds() == 1500


async def test_acts_leave_a_trail(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await stub.DrainSite(api.DrainSiteRequest(request_id="r-77", site_id="kiel"))
    [record] = [one for one in caplog.records if one.getMessage() == "operator call done"]
    assert record.operator == "spiffe://test-fleet/admin/ada"
    assert (record.call, record.request_id, record.subject) == ("DrainSite", "r-77", "kiel")


async def test_offers_of_all_sites_or_of_one(stub: Stub) -> None:
    answer = await stub.ListOffers(api.ListOffersRequest())
    assert [one.site_id for one in answer.sites] == ["kiel", "malaga", "miami"]
    kiel, malaga, miami = answer.sites
    assert [one.reduction_w for one in kiel.offers.offers] == [400.0, 0.0, 400.0]
    assert [one.increase_w for one in kiel.offers.offers] == [0.0, 1250.0, 0.0]
    assert [one.HasField("steps_at_risk") for one in kiel.offers.offers] == [True, True, False]
    assert (len(malaga.offers.offers), malaga.offers.reason) == (0, "a grid emergency")
    assert not miami.HasField("offers"), "it was never told of any"
    answer = await stub.ListOffers(api.ListOffersRequest(site_id="malaga"))
    assert [one.site_id for one in answer.sites] == ["malaga"]
    code, _, _ = await refusal(stub.ListOffers(api.ListOffersRequest(site_id="nowhere")))
    assert code is grpc.StatusCode.NOT_FOUND
