"""The one place that makes gRPC channels and servers, for both daemons and the command.

Mutual TLS is the rule: a server wants a client certificate of its fleet, a client wants the server to be the
very party that it means to dial. Plaintext exists on loopback alone, and only when asked for; there the
caller's word (metadata ``sterna-identity``) stands for a certificate, for development.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from sterna import listening
from sterna.errors import ConfigError, PeerProtocolError, TransientError
from sterna.identity import Credentials, Identity

log = logging.getLogger(__name__)

IDENTITY_METADATA = "sterna-identity"
HEALTH_SERVICE = "grpc.health.v1.Health"
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
CLIENT_PING_S = 30
# Half of what our clients do: gRPC's own default of 300 s answers a 30 s ping with GOAWAY too_many_pings.
SERVER_PING_MIN_S = 15
PING_TIMEOUT_S = 10
RECONNECT_MIN_S = 0.5
RECONNECT_MAX_S = 5.0
HANDSHAKE_TIMEOUT_S = 10


def _ms(duration_s: float) -> int:
    return round(duration_s * 1000)


_COMMON_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", _ms(CLIENT_PING_S)),
    ("grpc.keepalive_timeout_ms", _ms(PING_TIMEOUT_S)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
_CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    *_COMMON_OPTIONS,
    # Two channels to one address are two connections: a bulk transfer does not delay the session.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", _ms(RECONNECT_MIN_S)),
    ("grpc.min_reconnect_backoff_ms", _ms(HANDSHAKE_TIMEOUT_S)),
    ("grpc.max_reconnect_backoff_ms", _ms(RECONNECT_MAX_S)),
    ("grpc.enable_http_proxy", 0),
)
_SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *_COMMON_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", _ms(SERVER_PING_MIN_S)),
    ("grpc.server_handshake_timeout_ms", _ms(HANDSHAKE_TIMEOUT_S)),
    # A second daemon on the same port is an error, not a coin toss per connection.
    ("grpc.so_reuseport", 0),
)


def open_channel(
    address: str,
    *,
    credentials: Credentials | None,
    expected: Identity | None,
    insecure: bool = False,
    claim: Identity | None = None,
) -> grpc.aio.Channel:
    """Open a channel; nothing is dialled yet.

    Parameters
    ----------
    address : str
        ``host:port``.
    credentials : Credentials or None
        Our own. None only with `insecure`.
    expected : Identity or None
        Whom we mean to dial: the peer must present a certificate with its server name. Required with
        credentials, ignored without.
    insecure : bool
        Plaintext, on loopback alone.
    claim : Identity or None
        Who we say we are where there is no certificate to say it.

    Raises
    ------
    ConfigError
        When plaintext is asked for off loopback or not asked for and there are no credentials, or when
        nobody is expected.
    """
    if credentials is None:
        _require_plaintext_allowed(address, insecure=insecure)
        interceptors = () if claim is None else _claiming(claim)
        return grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS, interceptors=interceptors)
    if expected is None:
        raise ConfigError(f"{address}: with TLS the peer's identity must be given")
    return grpc.aio.secure_channel(
        address,
        grpc.ssl_channel_credentials(credentials.ca_pem, credentials.key_pem, credentials.cert_pem),
        options=(*_CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", expected.server_name)),
    )


def make_server() -> grpc.aio.Server:
    """Make a server with our message sizes and keepalive; it listens after `bind` and ``start``."""
    return grpc.aio.server(options=_SERVER_OPTIONS)


def bind(
    server: grpc.aio.Server, address: str, *, credentials: Credentials | None, insecure: bool = False
) -> int:
    """Let a server listen on an address, before it is started.

    Parameters
    ----------
    server : grpc.aio.Server
        From `make_server`.
    address : str
        ``host:port``; port 0 picks a free one.
    credentials : Credentials or None
        Our own; clients must then present a certificate of the same CA. None only with `insecure`.
    insecure : bool
        Plaintext, on loopback alone.

    Returns
    -------
    int
        The port.

    Raises
    ------
    ConfigError
        When plaintext is not allowed there, or the address cannot be bound.
    """
    if credentials is None:
        _require_plaintext_allowed(address, insecure=insecure)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(
            address,
            grpc.ssl_server_credentials(
                [(credentials.key_pem, credentials.cert_pem)], credentials.ca_pem, require_client_auth=True
            ),
        )
    except RuntimeError as error:
        if not address.startswith("unix"):  # gRPC keeps to itself why; whoever tries the port is told
            listening.listen(*listening.interface(address), backlog=1).close()
        raise ConfigError(f"{address}: cannot listen here: {error}") from error


def peer_identity(context: "grpc.aio.ServicerContext[Any, Any]") -> Identity | None:
    """Return who calls: from the certificate, or on a plaintext port from the caller's word.

    Returns
    -------
    Identity or None
        None when the caller shows no identity, or one that is not ours to understand.
    """
    auth = context.auth_context()
    if b"ssl" in auth.get("transport_security_type", ()):
        uris = [value.decode("utf-8", "replace") for value in auth.get("peer_spiffe_id", ())]
    else:
        metadata = context.invocation_metadata() or ()
        uris = [str(value) for key, value in metadata if key == IDENTITY_METADATA]
    if len(uris) != 1:
        return None
    try:
        return Identity.parse(uris[0])
    except ValueError:
        return None


class Health:
    """The standard health service of one server; a service answers SERVING once it was told to.

    Parameters
    ----------
    services : iterable of str
        Full names, e.g. ``sterna.v1.SiteService``. The empty name stands for the whole server.
    """

    def __init__(self, services: Iterable[str]) -> None:
        from grpc_health.v1 import health  # the serving half: who only dials asks without it

        self._services = ("", *services)
        self._servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lag behind

    async def add_to(self, server: grpc.aio.Server) -> None:
        """Register health and reflection, with every service not serving yet."""
        from grpc_health.v1 import health_pb2_grpc
        from grpc_reflection.v1alpha import reflection

        await self.set_serving(False)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        names = (*self._services[1:], HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)

    async def set_serving(self, serving: bool) -> None:
        """Tell whether the services serve."""
        status = health_pb2.HealthCheckResponse.SERVING
        if not serving:
            status = health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._services:
            await self._servicer.set(name, status)


async def check_health(channel: grpc.aio.Channel, service: str = "", *, timeout_s: float = 5.0) -> None:
    """Ask the peer whether a service serves; return when it does.

    A unary call that fails costs nothing, while each stream opened to a dead peer leaks in grpcio: so this
    comes before every stream.

    Parameters
    ----------
    channel : grpc.aio.Channel
        To the peer.
    service : str
        Full name; empty: the whole server.
    timeout_s : float
        Seconds to wait, > 0.

    Raises
    ------
    TransientError
        When the peer cannot be reached, is not who we expect, or does not serve yet.
    PeerProtocolError
        When the peer knows no such service.
    """
    check = channel.unary_unary(
        f"/{HEALTH_SERVICE}/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    named = service or "server"
    try:
        answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}:
            raise PeerProtocolError(f"the peer offers no {named}") from error
        raise TransientError(f"{named}: {error.code().name}: {error.details()}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise TransientError(f"{named} does not serve yet")


def is_loopback(address: str) -> bool:
    """Tell whether an address can be reached from this machine alone."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    return listening.is_loopback(address.rpartition(":")[0].strip("[]"))


def _require_plaintext_allowed(address: str, *, insecure: bool) -> None:
    if not insecure:
        raise ConfigError(
            f"{address}: no certificate given; plaintext needs insecure = true, and works on loopback alone"
        )
    if not is_loopback(address):
        raise ConfigError(f"{address}: insecure = true is allowed on loopback addresses alone")
    log.warning("plaintext gRPC on loopback; for development only", extra={"address": address})


def _claiming(claim: Identity) -> list[Any]:
    """Interceptors that add our identity to every call; gRPC wants one object per kind of call."""
    return [
        _ClaimUnaryUnary(claim),
        _ClaimUnaryStream(claim),
        _ClaimStreamUnary(claim),
        _ClaimStreamStream(claim),
    ]


class _Claim:
    def __init__(self, claim: Identity) -> None:
        self._entry = (IDENTITY_METADATA, claim.uri)

    async def _call(self, proceed: Callable[..., Awaitable[Any]], details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._entry)
        return await proceed(details._replace(metadata=metadata), request)


class _ClaimUnaryUnary(_Claim, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _ClaimUnaryStream(_Claim, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._call(continuation, client_call_details, request)


class _ClaimStreamUnary(_Claim, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._call(continuation, client_call_details, request_iterator)


class _ClaimStreamStream(_Claim, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._call(continuation, client_call_details, request_iterator)
