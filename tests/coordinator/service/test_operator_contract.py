"""The same promises, kept by the desk in memory and by the coordinator's own over its store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from coordinator.core.endings import GrantSettings
from coordinator.core.policy import PlannerSettings
from coordinator.core.view import ViewSettings
from coordinator.forecast.feed import FeedForecaster
from coordinator.model.orders import Order
from coordinator.service.operator_ports import OperatorDesk
from coordinator.store.database import Database, file_url
from coordinator.store.fleet_store import FleetStore
from coordinator.store.history import DecisionStore
from coordinator.tasks.bell import Bell
from coordinator.tasks.desk import Desk
from coordinator.tasks.fleet import Fleet as FleetOwner
from coordinator.tasks.live import LiveBook
from coordinator.tasks.lookout import Lookout
from sterna.clock import FakeClock
from sterna.identity import Role
from sterna.v1 import fleet_pb2
from sterna.v1 import operator_service_pb2 as api
from tests.conftest import Fleet
from tests.coordinator.core import fleets
from tests.coordinator.service import operator_world as world
from tests.coordinator.service.operator_world import DONE, LOST, MOVING, NOW, QUEUED, RUNNING

SITES = ("kiel", "malaga", "miami")


class NoSender:
    """No site has a session that could be told anything; who was hung up on is kept."""

    def __init__(self) -> None:
        self.hung_up: list[str] = []

    def order(self, order_id: str, order: Order) -> bool:
        return False

    def lease(self, site_id: str, job_id: str, epoch: int, ttl_s: float | None) -> bool:
        return False

    def telemetry_ack(self, site_id: str, sequence: int) -> bool:
        return False

    def hang_up(self, site_id: str, why: str) -> None:
        self.hung_up.append(site_id)


@asynccontextmanager
async def coordinators_own(path: Path, *, settled: bool = True) -> AsyncIterator[Desk]:
    """The coordinator's desk over a store, with the fleet of `operator_world` if it is new."""
    clock = FakeClock(now=NOW)
    database = Database(file_url(path))
    bell = Bell()
    store, live = FleetStore(database), LiveBook(bell)
    fleet = FleetOwner(store, bell)
    lookout = Lookout(
        fleet=fleet,
        live=live,
        forecaster=FeedForecaster(max_age_s=3600.0),
        settings=ViewSettings(default_bps=1e9, seal_s=1.0, load_s=2.0, sites=frozenset(SITES)),
        clock=clock,
    )
    desk = Desk(
        fleet=fleet,
        live=live,
        lookout=lookout,
        store=store,
        decisions=(decisions := DecisionStore(database)),
        sender=NoSender(),
        bell=bell,
        policy=world.POLICY,
        settings=PlannerSettings(),
        grants=GrantSettings(),
        sites=SITES,
        clock=clock,
    )
    running = asyncio.ensure_future(fleet.run())  # noqa: TID251 - the daemon has its TaskGroup
    try:
        if not fleet.state.jobs:
            await fleet.change(lambda _: world.history())
            stored = world.decision()
            await decisions.add({stored.decision_id: stored.decision})
        for site_id, site in world.live().items():
            live.greet(site_id, site.reports.values(), NOW)
            if site.connected:
                live.connect(site_id, 1, NOW)
            if site.sample is not None:
                live.sample(site_id, world.sample(5000.0 if site_id == "malaga" else 0.0), NOW)
        live.forecast("malaga", fleets.forecast(5000.0, 5000.0))
        yield desk
    finally:
        running.cancel()
        database.close()


@pytest.fixture(params=["fake", "real"])
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OperatorDesk]:
    if request.param == "fake":
        yield world.desk()
        return
    async with coordinators_own(tmp_path / "coordinator.db") as desk:
        yield desk


@pytest.fixture
async def stub(desk: OperatorDesk, fleet: Fleet) -> AsyncIterator[world.OperatorServiceStub]:
    async with (
        world.serving(desk, fleet, watch_period_s=0.05) as port,
        world.calling(port, fleet, Role.ADMIN, "ada") as stub,
    ):
        yield stub


async def status_of(call) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def submission(request_id: str, name: str = "new") -> api.SubmitJobRequest:
    spec = {"name": name, "argv": ["true"], "power_w": 10.0, "checkpoint_bytes": 1000}
    return api.SubmitJobRequest(request_id=request_id, spec=spec)


async def test_reads(stub: world.OperatorServiceStub) -> None:
    jobs = {job.job_id: job.state for job in (await stub.ListJobs(api.ListJobsRequest())).jobs}
    assert jobs[RUNNING] == fleet_pb2.JOB_STATE_RUNNING
    assert jobs[MOVING] == fleet_pb2.JOB_STATE_MIGRATING
    assert jobs[LOST] == fleet_pb2.JOB_STATE_CONTACT_LOST
    assert (await stub.GetJob(api.GetJobRequest(job_id="a1f"))).job.step == 1200
    sites = (await stub.ListSites(api.ListSitesRequest())).sites
    assert [(site.site_id, site.connected) for site in sites] == [
        ("kiel", True),
        ("malaga", True),
        ("miami", False),
    ]
    assert not sites[0].HasField("window_end_at")
    assert sites[1].HasField("window_end_at")
    explained = await stub.ExplainJob(api.ExplainJobRequest(job_id=RUNNING))
    assert explained.decision.decision_id == "d-17"
    judged = {one.site_id: one for one in explained.now}
    assert judged["malaga"].feasible, judged["malaga"].rejections
    assert not judged["miami"].feasible
    assert {"time", "break_even", "window"} <= {term.name for term in judged["malaga"].terms}


async def test_a_request_is_answered_once_and_for_all(stub: world.OperatorServiceStub) -> None:
    first = await stub.SubmitJob(submission("r-1"))
    assert (await stub.SubmitJob(submission("r-1"))).job == first.job
    assert await status_of(stub.SubmitJob(submission("r-1", "other"))) is grpc.StatusCode.ALREADY_EXISTS
    assert len((await stub.ListJobs(api.ListJobsRequest())).jobs) == 7


async def test_the_same_request_twice_at_once_is_one_act(stub: world.OperatorServiceStub) -> None:
    answers = await asyncio.gather(*(stub.SubmitJob(submission("r-1")) for _ in range(8)))
    assert len({answer.job.job_id for answer in answers}) == 1
    assert len((await stub.ListJobs(api.ListJobsRequest())).jobs) == 7


async def test_a_refusal_is_not_remembered(stub: world.OperatorServiceStub) -> None:
    """What cannot be done now may be tried again under the same id."""
    fence = api.FenceSiteRequest(request_id="r", site_id="kiel")
    assert await status_of(stub.FenceSite(fence)) is grpc.StatusCode.FAILED_PRECONDITION
    fence.confirm = "kiel"
    assert (await stub.FenceSite(fence)).site.fenced


async def test_cancel(stub: world.OperatorServiceStub) -> None:
    request = api.CancelJobRequest(request_id="r", job_id=RUNNING)
    first = await stub.CancelJob(request)
    assert first.job.message == "being cancelled"
    assert await status_of(stub.CancelJob(request)) is grpc.StatusCode.OK
    ended = api.CancelJobRequest(request_id="q", job_id=DONE)
    assert await status_of(stub.CancelJob(ended)) is grpc.StatusCode.FAILED_PRECONDITION


async def test_moves(stub: world.OperatorServiceStub) -> None:
    request = api.MigrateJobRequest(request_id="r", job_id=RUNNING, destination_site="malaga")
    dry = api.MigrateJobRequest(job_id=RUNNING, destination_site="malaga", dry_run=True)
    assert not (await stub.MigrateJob(dry)).HasField("migration")
    first = await stub.MigrateJob(request)
    assert first.judgement.feasible
    assert (await stub.MigrateJob(request)).migration == first.migration
    job = (await stub.GetJob(api.GetJobRequest(job_id=RUNNING))).job
    assert job.migration_id == first.migration.migration_id


@pytest.mark.parametrize(
    ("job_id", "site_id"), [(QUEUED, "malaga"), (MOVING, "malaga"), (RUNNING, "miami"), (RUNNING, "kiel")]
)
async def test_moves_that_cannot_be(stub: world.OperatorServiceStub, job_id: str, site_id: str) -> None:
    for force in (False, True):
        request = api.MigrateJobRequest(request_id="r", job_id=job_id, destination_site=site_id, force=force)
        assert await status_of(stub.MigrateJob(request)) is grpc.StatusCode.FAILED_PRECONDITION


async def test_drain_and_resume(stub: world.OperatorServiceStub) -> None:
    for request_id in ("r-1", "r-1", "r-2"):
        drain = api.DrainSiteRequest(request_id=request_id, site_id="malaga")
        assert (await stub.DrainSite(drain)).site.draining
    resume = api.ResumeSiteRequest(request_id="r-3", site_id="malaga")
    assert not (await stub.ResumeSite(resume)).site.draining


async def test_a_silent_site_is_fenced_and_its_jobs_are_named(stub: world.OperatorServiceStub) -> None:
    fenced = await stub.FenceSite(api.FenceSiteRequest(request_id="r", site_id="miami"))
    assert fenced.site.fenced
    assert list(fenced.job_ids) == [LOST]


async def test_watchers_see_what_operators_do(stub: world.OperatorServiceStub) -> None:
    stream = stub.WatchFleet(api.WatchFleetRequest(), timeout=20.0)
    assert not (await stream.read()).sites[0].draining
    await stub.DrainSite(api.DrainSiteRequest(request_id="r", site_id="kiel"))
    async with asyncio.timeout(10.0):
        while not (await stream.read()).sites[0].draining:
            pass
    stream.cancel()


async def test_answers_outlive_the_coordinator(tmp_path: Path, fleet: Fleet) -> None:
    path = tmp_path / "coordinator.db"
    answers = []
    for _ in range(2):
        async with (
            coordinators_own(path) as desk,
            world.serving(desk, fleet) as port,
            world.calling(port, fleet, Role.OPERATOR, "otto") as stub,
        ):
            answers.append((await stub.SubmitJob(submission("r-1"))).job)
            other = submission("r-1", "other")
            assert await status_of(stub.SubmitJob(other)) is grpc.StatusCode.ALREADY_EXISTS
    assert answers[0] == answers[1]
