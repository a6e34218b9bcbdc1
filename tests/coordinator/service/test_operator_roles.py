"""Who may call what: every call of the proto, with every role and every way to have no usable certificate."""

from pathlib import Path

import grpc
import grpc.aio
import pytest

from coordinator.service.operator_service import LEAST_ROLE
from sterna import pki
from sterna.clock import SystemClock
from sterna.identity import Identity, Role, load_credentials
from sterna.rpc import open_channel
from sterna.v1 import operator_service_pb2 as api
from sterna.v1.operator_service_pb2_grpc import OperatorServiceStub
from tests.conftest import Fleet
from tests.coordinator.service import operator_world as world
from tests.coordinator.service.operator_world import RUNNING

CALLS = [method.name for method in api.DESCRIPTOR.services_by_name["OperatorService"].methods]
RANK = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]
READS = {"ListJobs", "GetJob", "ExplainJob", "ListSites", "ListMigrations", "ListOffers", "WatchFleet"}
FENCES = {"FenceSite"}


def least(call: str) -> Role:
    """DESIGN 8 and the proto: viewer may read; operator may also act; admin may also fence."""
    return Role.VIEWER if call in READS else Role.ADMIN if call in FENCES else Role.OPERATOR


REQUESTS = {
    "SubmitJob": api.SubmitJobRequest(request_id="r", spec={"name": "n", "argv": ["true"]}),
    "ListJobs": api.ListJobsRequest(),
    "GetJob": api.GetJobRequest(job_id=RUNNING),
    "ExplainJob": api.ExplainJobRequest(job_id=RUNNING),
    "CancelJob": api.CancelJobRequest(request_id="r", job_id=RUNNING),
    "MigrateJob": api.MigrateJobRequest(request_id="r", job_id=RUNNING, destination_site="malaga"),
    "ListSites": api.ListSitesRequest(),
    "DrainSite": api.DrainSiteRequest(request_id="r", site_id="kiel"),
    "ResumeSite": api.ResumeSiteRequest(request_id="r", site_id="kiel"),
    "FenceSite": api.FenceSiteRequest(request_id="r", site_id="kiel", confirm="kiel"),
    "ListMigrations": api.ListMigrationsRequest(),
    "ListOffers": api.ListOffersRequest(),
    "WatchFleet": api.WatchFleetRequest(),
}


async def outcome(stub: OperatorServiceStub, call: str) -> grpc.StatusCode:
    method = getattr(stub, call)
    try:
        if call == "WatchFleet":
            stream = method(REQUESTS[call], timeout=10.0)
            await stream.read()
            stream.cancel()
        else:
            await method(REQUESTS[call], timeout=10.0)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_every_call_of_the_proto_has_a_least_role() -> None:
    assert dict(LEAST_ROLE) == {call: least(call) for call in CALLS}
    assert set(REQUESTS) == set(CALLS)


@pytest.mark.parametrize("role", list(Role))
async def test_every_call_with_every_role(fleet: Fleet, role: Role) -> None:
    for call in CALLS:
        desk = world.desk()
        allowed = role in RANK and RANK.index(role) >= RANK.index(least(call))
        wanted = grpc.StatusCode.OK if allowed else grpc.StatusCode.PERMISSION_DENIED
        async with (
            world.serving(desk, fleet) as port,
            world.calling(port, fleet, role, "somebody") as stub,
        ):
            assert await outcome(stub, call) is wanted, f"{call} as {role.value}"
        changed = desk.picture().version != 0
        assert changed is (allowed and call not in READS), f"{call} as {role.value}"


async def test_a_certificate_of_another_authority_gets_no_session(fleet: Fleet, other_fleet: Fleet) -> None:
    desk = world.desk()
    async with world.serving(desk, fleet) as port:
        for role in Role:
            credentials = other_fleet.credentials(role, "mallory")
            # It trusts the server, so that what is refused is its own certificate.
            trusting = type(credentials)(
                identity=credentials.identity,
                ca_pem=fleet.credentials(role, "any").ca_pem,
                cert_pem=credentials.cert_pem,
                key_pem=credentials.key_pem,
                not_after_at=credentials.not_after_at,
            )
            await all_unavailable(fleet, port, trusting)
    assert desk.picture().version == 0


async def test_no_certificate_gets_no_session(fleet: Fleet) -> None:
    desk = world.desk()
    async with world.serving(desk, fleet) as port:
        ca_pem = fleet.credentials(Role.ADMIN, "ada").ca_pem
        server_name = Identity(fleet=fleet.name, role=Role.COORDINATOR, name="main").server_name
        async with grpc.aio.secure_channel(
            f"127.0.0.1:{port}",
            grpc.ssl_channel_credentials(ca_pem),
            options=[("grpc.ssl_target_name_override", server_name)],
        ) as channel:
            stub = OperatorServiceStub(channel)
            for call in CALLS:
                assert await outcome(stub, call) is grpc.StatusCode.UNAVAILABLE, call
    assert desk.picture().version == 0


async def all_unavailable(fleet: Fleet, port: int, credentials) -> None:
    expected = Identity(fleet=fleet.name, role=Role.COORDINATOR, name="main")
    async with open_channel(f"127.0.0.1:{port}", credentials=credentials, expected=expected) as channel:
        stub = OperatorServiceStub(channel)
        for call in CALLS:
            assert await outcome(stub, call) is grpc.StatusCode.UNAVAILABLE, call


async def test_an_operator_of_another_fleet_under_the_same_authority_is_nobody(
    fleet: Fleet, tmp_path: Path
) -> None:
    """An authority may have signed for two fleets; the name in the certificate decides."""
    desk = world.desk()
    server = Fleet(tmp_path / "pki", "served-fleet")
    guest = pki.issue(server.folder, Role.ADMIN, "ada")
    credentials = load_credentials(
        ca_file=guest.ca_file, cert_file=guest.cert_file, key_file=guest.key_file, now=SystemClock().now()
    )
    async with (
        world.serving(desk, server, fleet_name="other-fleet") as port,
        open_channel(
            f"127.0.0.1:{port}",
            credentials=credentials,
            expected=Identity(fleet="served-fleet", role=Role.COORDINATOR, name="main"),
        ) as channel,
    ):
        stub = OperatorServiceStub(channel)
        for call in CALLS:
            assert await outcome(stub, call) is grpc.StatusCode.UNAUTHENTICATED, call
    assert desk.picture().version == 0
