import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sterna import pki, rpc
from sterna.clock import FakeClock
from sterna.errors import ConfigError, PeerProtocolError, TransientError
from sterna.identity import Credentials, Identity, Role, load_credentials
from tests.conftest import Eventually, Fleet

WHO = "/test.Who/Am"
SERVICE = "sterna.v1.SiteService"


def _raw(data: bytes) -> bytes:
    return data


async def _who(request: bytes, context: Any) -> bytes:
    return str(rpc.peer_identity(context)).encode()


async def _who_each(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request + str(rpc.peer_identity(context)).encode()


HANDLERS = grpc.method_handlers_generic_handler(
    "test.Who",
    {
        "Am": grpc.unary_unary_rpc_method_handler(_who),  # type: ignore[arg-type]
        "Each": grpc.stream_stream_rpc_method_handler(_who_each),  # type: ignore[arg-type]
    },
)


@asynccontextmanager
async def serving(
    credentials: Credentials | None, at: str = "127.0.0.1:0"
) -> AsyncIterator[tuple[str, rpc.Health]]:
    server = rpc.make_server()
    server.add_generic_rpc_handlers((HANDLERS,))
    health = rpc.Health([SERVICE])
    await health.add_to(server)
    port = rpc.bind(server, at, credentials=credentials, insecure=credentials is None)
    await server.start()
    try:
        yield f"127.0.0.1:{port}", health
    finally:
        await server.stop(0)


async def ask(channel: grpc.aio.Channel) -> str:
    answer: bytes = await channel.unary_unary(WHO)(b"", timeout=5)  # type: ignore[call-arg, misc]
    return answer.decode()


@pytest.fixture
def coordinator(fleet: Fleet) -> Credentials:
    return fleet.credentials(Role.COORDINATOR, "main")


@pytest.mark.parametrize("role", Role)
async def test_the_server_knows_the_caller_from_its_certificate(
    fleet: Fleet, coordinator: Credentials, role: Role
) -> None:
    caller = fleet.credentials(role, "miami")
    async with (
        serving(coordinator) as (address, _),
        rpc.open_channel(address, credentials=caller, expected=coordinator.identity) as channel,
    ):
        assert await ask(channel) == f"spiffe://test-fleet/{role.value}/miami"


async def test_a_claim_does_not_outweigh_a_certificate(fleet: Fleet, coordinator: Credentials) -> None:
    caller = fleet.credentials(Role.SITE, "miami")
    claim = [(rpc.IDENTITY_METADATA, "spiffe://test-fleet/admin/eve")]
    async with (
        serving(coordinator) as (address, _),
        rpc.open_channel(address, credentials=caller, expected=coordinator.identity) as channel,
    ):
        answer: Any = await channel.unary_unary(WHO)(b"", timeout=5, metadata=claim)  # type: ignore[call-arg, misc]
        assert answer == b"spiffe://test-fleet/site/miami"


@pytest.mark.parametrize(
    "expected", ["spiffe://test-fleet/site/main", "spiffe://test-fleet/coordinator/other"]
)
async def test_a_peer_that_is_not_the_expected_one_is_refused(
    fleet: Fleet, coordinator: Credentials, expected: str
) -> None:
    caller = fleet.credentials(Role.SITE, "miami")
    async with (
        serving(coordinator) as (address, health),
        rpc.open_channel(address, credentials=caller, expected=Identity.parse(expected)) as channel,
    ):
        await health.set_serving(True)
        with pytest.raises(TransientError, match="UNAVAILABLE"):
            await rpc.check_health(channel, SERVICE)


def _expired(folder: Path, fleet: Fleet) -> Credentials:
    then = datetime(2001, 1, 1, tzinfo=UTC)
    for name in ("ca.pem", "ca-key.pem"):
        (folder / name).write_bytes((fleet.folder / name).read_bytes())
    files = pki.issue(folder, Role.SITE, "miami", clock=FakeClock(then))
    return load_credentials(
        ca_file=files.ca_file, cert_file=files.cert_file, key_file=files.key_file, now=then
    )


@pytest.mark.parametrize("fault", ["wrong CA", "expired"])
@pytest.mark.parametrize("side", ["client", "server"])
async def test_bad_certificates_are_refused_on_either_side(
    fleet: Fleet, other_fleet: Fleet, tmp_path: Path, fault: str, side: str
) -> None:
    good = fleet.credentials(Role.SITE, "miami")
    bad = other_fleet.credentials(Role.SITE, "miami") if fault == "wrong CA" else _expired(tmp_path, fleet)
    caller, server = (bad, good) if side == "client" else (good, bad)
    async with (
        serving(server) as (address, health),
        rpc.open_channel(address, credentials=caller, expected=server.identity) as channel,
    ):
        await health.set_serving(True)
        with pytest.raises(TransientError, match="UNAVAILABLE"):
            await rpc.check_health(channel, SERVICE, timeout_s=5)


async def test_a_caller_without_a_certificate_gets_nothing(coordinator: Credentials) -> None:
    options = [("grpc.ssl_target_name_override", coordinator.identity.server_name)]
    async with serving(coordinator) as (address, health):
        await health.set_serving(True)
        tls = grpc.ssl_channel_credentials(coordinator.ca_pem)
        async with grpc.aio.secure_channel(address, tls, options=options) as channel:
            with pytest.raises(TransientError, match="UNAVAILABLE"):
                await rpc.check_health(channel)
        async with rpc.open_channel(address, credentials=None, expected=None, insecure=True) as channel:
            with pytest.raises(TransientError, match="UNAVAILABLE"):
                await rpc.check_health(channel)


async def test_on_loopback_a_plaintext_caller_may_say_who_it_is() -> None:
    claim = Identity(fleet="test-fleet", role=Role.OPERATOR, name="ann")
    async with serving(None) as (address, _):
        async with rpc.open_channel(
            address, credentials=None, expected=None, insecure=True, claim=claim
        ) as channel:
            assert await ask(channel) == claim.uri
            call: Any = channel.stream_stream("/test.Who/Each")()  # type: ignore[call-arg, misc]
            await call.write(b"I am ")
            assert await call.read() == b"I am " + claim.uri.encode()
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
        async with rpc.open_channel(address, credentials=None, expected=None, insecure=True) as channel:
            assert await ask(channel) == "None"


@pytest.mark.parametrize(
    ("address", "insecure", "words"),
    [
        ("127.0.0.1:0", False, "plaintext needs insecure = true"),
        ("0.0.0.0:0", True, "allowed on loopback addresses alone"),
        ("192.0.2.1:7400", True, "allowed on loopback addresses alone"),
        ("[::]:0", True, "allowed on loopback addresses alone"),
        ("example.org:1", True, "allowed on loopback addresses alone"),
        ("127.0.0.1.example.org:1", True, "allowed on loopback addresses alone"),
    ],
)
async def test_plaintext_is_refused(address: str, insecure: bool, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        rpc.open_channel(address, credentials=None, expected=None, insecure=insecure)
    with pytest.raises(ConfigError, match=words):
        rpc.bind(rpc.make_server(), address, credentials=None, insecure=insecure)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/run/x"])
def test_loopback(address: str) -> None:
    assert rpc.is_loopback(address)


async def test_with_tls_somebody_must_be_expected(coordinator: Credentials) -> None:
    with pytest.raises(ConfigError, match="identity must be given"):
        rpc.open_channel("127.0.0.1:1", credentials=coordinator, expected=None)


async def test_a_port_in_use_is_an_error(coordinator: Credentials) -> None:
    async with serving(coordinator) as (address, _):
        with pytest.raises(ConfigError, match=r"cannot bind: something listens there already"):
            rpc.bind(rpc.make_server(), address, credentials=coordinator)


async def test_health_is_told_by_service(coordinator: Credentials) -> None:
    async with (
        serving(coordinator) as (address, health),
        rpc.open_channel(address, credentials=coordinator, expected=coordinator.identity) as channel,
    ):
        with pytest.raises(TransientError, match="does not serve yet"):
            await rpc.check_health(channel, SERVICE)
        await health.set_serving(True)
        await rpc.check_health(channel)
        await rpc.check_health(channel, SERVICE)
        await health.set_serving(False)
        with pytest.raises(TransientError, match="does not serve yet"):
            await rpc.check_health(channel, SERVICE)
        with pytest.raises(PeerProtocolError, match=r"offers no sterna\.v1\.Other"):
            await rpc.check_health(channel, "sterna.v1.Other")


async def test_nobody_there_is_transient(coordinator: Credentials) -> None:
    async with serving(coordinator) as (address, _):
        pass
    async with rpc.open_channel(address, credentials=coordinator, expected=coordinator.identity) as channel:
        with pytest.raises(TransientError, match="UNAVAILABLE"):
            await rpc.check_health(channel, timeout_s=5)


async def test_reflection_lists_the_services(coordinator: Credentials) -> None:
    async with (
        serving(coordinator) as (address, _),
        rpc.open_channel(address, credentials=coordinator, expected=coordinator.identity) as channel,
    ):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5
        )
        names = [
            service.name
            for answer in [await call.read()]
            for service in answer.list_services_response.service
        ]
        assert SERVICE in names
        assert "grpc.health.v1.Health" in names


async def test_messages_of_several_mib_pass(coordinator: Credentials) -> None:
    payload = bytes(5 * 1024 * 1024)
    async with (
        serving(coordinator) as (address, _),
        rpc.open_channel(address, credentials=coordinator, expected=coordinator.identity) as channel,
    ):
        call: Any = channel.stream_stream("/test.Who/Each")()  # type: ignore[call-arg, misc]
        await call.write(payload)
        assert (await call.read()).startswith(payload)
        call.cancel()


def test_our_pings_never_look_like_abuse_to_our_servers() -> None:
    assert rpc.CLIENT_PING_S >= 2 * rpc.SERVER_PING_MIN_S


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_stream_that_is_silent_for_long_stays() -> None:
    """A server that takes our pings for abuse ends the connection at the third without data between them."""
    silence_s = 4.5 * rpc.CLIENT_PING_S
    async with (
        serving(None) as (address, _),
        rpc.open_channel(address, credentials=None, expected=None, insecure=True) as channel,
    ):
        call: Any = channel.stream_stream("/test.Who/Each")()  # type: ignore[call-arg, misc]
        await call.write(b"before ")
        assert await call.read() == b"before None"
        await asyncio.sleep(silence_s)
        await call.write(b"after ")
        assert await call.read() == b"after None"
        call.cancel()


async def test_a_channel_finds_a_server_that_comes_back_on_its_port(
    coordinator: Credentials, eventually: Eventually
) -> None:
    async def serves() -> bool:
        try:
            await rpc.check_health(channel, timeout_s=2)
        except TransientError:
            return False
        return True

    async with serving(coordinator) as (address, health):
        channel = rpc.open_channel(address, credentials=coordinator, expected=coordinator.identity)
        await health.set_serving(True)
        assert await serves()
    assert not await serves()
    async with channel, serving(coordinator, address) as (_, health):
        await health.set_serving(True)
        await eventually(serves, within_s=10, what="the second server")
