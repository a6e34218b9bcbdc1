"""The connection of the `sterna` command to its coordinator, and what its failures mean for people."""

import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import IntEnum
from pathlib import Path

import grpc
import msgspec

from sterna.config import load
from sterna.errors import ConfigError, SternaError
from sterna.clock import SystemClock
from sterna.identity import Identity, Role, load_credentials
from sterna.rpc import open_channel
from sterna.v1.operator_service_pb2_grpc import OperatorServiceStub

CALL_TIMEOUT_S = 10.0


class Exit(IntEnum):
    """Exit codes of the `sterna` command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    DENIED = 6


class CallError(SternaError):
    """A call to the coordinator failed; `exit_code` says in which way."""

    def __init__(self, message: str, exit_code: Exit) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths of the operator's certificate files, as `sterna pki issue operator NAME` writes them."""

    ca: str
    cert: str
    key: str


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``client.toml``: where the coordinator is and who we are."""

    coordinator: str
    """host:port"""
    fleet: str
    coordinator_id: str = "main"
    tls: TlsFiles | None = None
    insecure: bool = False
    """Plaintext; loopback only."""
    identity: str = ""
    """SPIFFE URI to claim when insecure."""

    def faults(self) -> list[tuple[str, str]]:
        """Return (key, message) of what is wrong beyond types."""
        if self.tls is None and not self.insecure:
            return [("tls", "missing; give [tls] ca, cert and key, or insecure = true on loopback")]
        return []


def default_config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return ``$STERNA_CLIENT_CONFIG``, else ``client.toml`` in the user's configuration directory."""
    if given := environ.get("STERNA_CLIENT_CONFIG"):
        return Path(given)
    base = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "sterna" / "client.toml"


def read_client_config(path: Path) -> ClientConfig:
    """Read the client's configuration.

    Raises
    ------
    ConfigError
        Naming the file and every key at fault, and what to do when there is none.
    """
    if not path.exists():
        raise ConfigError(
            f"{path}: not found; write one with `coordinator`, `fleet` and [tls], or name it with --config"
        )
    return load(path, ClientConfig)


@asynccontextmanager
async def connect(config: ClientConfig, base_dir: Path) -> AsyncIterator[OperatorServiceStub]:
    """Open a channel to the coordinator; relative certificate paths count from `base_dir`."""
    tls = config.tls
    credentials = None
    if tls is not None:
        credentials = load_credentials(
            ca_file=base_dir / tls.ca,
            cert_file=base_dir / tls.cert,
            key_file=base_dir / tls.key,
            now=SystemClock().now(),
        )
    channel = open_channel(
        config.coordinator,
        credentials=credentials,
        expected=Identity(fleet=config.fleet, role=Role.COORDINATOR, name=config.coordinator_id),
        insecure=config.insecure,
        claim=Identity.parse(config.identity) if config.identity else None,
    )
    async with channel:
        try:
            yield OperatorServiceStub(channel)
        except grpc.aio.AioRpcError as error:
            raise explain(error, config.coordinator) from error


def explain(error: grpc.aio.AioRpcError, address: str) -> CallError:
    """Turn a status into a sentence and an exit code."""
    code, details = error.code(), error.details() or ""
    match code:
        case grpc.StatusCode.NOT_FOUND:
            return CallError(details, Exit.NOT_FOUND)
        case grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.ALREADY_EXISTS:
            return CallError(details, Exit.REFUSED)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return CallError(details, Exit.USAGE)
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return CallError(details, Exit.DENIED)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            hint = "is it running, and is this certificate of its fleet?"
            return CallError(f"coordinator {address} does not answer ({details}); {hint}", Exit.UNREACHABLE)
        case _:
            return CallError(f"coordinator {address}: {code.name}: {details}", Exit.FAILED)


def request_id() -> str:
    """Return a fresh id that makes a call safe to repeat."""
    return uuid.uuid4().hex
