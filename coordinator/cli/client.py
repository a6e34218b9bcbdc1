"""The connection of the `sterna` command to its coordinator: where it is, and who we are."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from sterna.clock import SystemClock
from sterna.config import load
from sterna.errors import ConfigError
from sterna.identity import Credentials, Identity, Role, load_credentials
from sterna.listening import address_fault

if TYPE_CHECKING:
    import grpc.aio

T = TypeVar("T")
CALL_TIMEOUT_S = 10.0


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths of the operator's certificate files, as `sterna pki issue operator NAME` writes them."""

    ca: str
    """The fleet's authority."""
    cert: str
    """Our certificate."""
    key: str
    """Its private key."""


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``client.toml``: where the coordinator is and who we are."""

    coordinator: str
    """host:port"""
    fleet: str
    """Name of the fleet, as in its certificates."""
    coordinator_id: str = "main"
    """Name in the coordinator's certificate."""
    tls: TlsFiles | None = None
    insecure: bool = False
    """Plaintext; loopback only."""
    identity: str = ""
    """SPIFFE URI to claim when insecure."""

    def faults(self) -> list[tuple[str, str]]:
        """Return (key, message) of what is wrong beyond types."""
        found = []
        if fault := address_fault(self.coordinator):
            found.append(("coordinator", fault))
        if self.tls is None and not self.insecure:
            found.append(("tls", "missing; give [tls] ca, cert and key, or insecure = true on loopback"))
        if self.tls is not None and self.insecure:
            found.append(("insecure", "set together with [tls]; which of the two is meant?"))
        try:
            self.coordinator_identity()
        except ValueError as error:
            found.append(("", f"fleet, coordinator_id: {error}"))
        if self.identity:
            try:
                Identity.parse(self.identity)
            except ValueError as error:
                found.append(("identity", str(error)))
        return found

    def coordinator_identity(self) -> Identity:
        """Return whom we mean to dial."""
        return Identity(fleet=self.fleet, role=Role.COORDINATOR, name=self.coordinator_id)


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


def call(path: Path | None, work: "Callable[[grpc.aio.Channel], Awaitable[T]]") -> T:
    """Do some work over a connection of its own, and return what it returns; see `connect`.

    Parameters
    ----------
    path : Path or None
        ``client.toml``; None: the default one.
    work : callable
        Given the channel.
    """
    path = path or default_config_path()

    async def run() -> T:
        async with connect(read_client_config(path), path.parent) as channel:
            return await work(channel)

    return asyncio.run(run())


@asynccontextmanager
async def connect(config: ClientConfig, base_dir: Path) -> "AsyncIterator[grpc.aio.Channel]":
    """Open a channel to the coordinator.

    Parameters
    ----------
    config : ClientConfig
        Where it is and who we are.
    base_dir : Path
        Relative certificate paths count from here.

    Raises
    ------
    ConfigError
        When a certificate file is not usable.
    CallError
        In place of every error that a call within the context ends with.
    """
    import grpc.aio

    from coordinator.cli.failures import explain
    from sterna.rpc import open_channel

    channel = open_channel(
        config.coordinator,
        credentials=_credentials(config, base_dir),
        expected=config.coordinator_identity(),
        insecure=config.insecure,
        claim=Identity.parse(config.identity) if config.identity else None,
    )
    async with channel:
        try:
            yield channel
        except grpc.aio.AioRpcError as error:
            raise explain(error, config.coordinator, config.coordinator_identity()) from error


def _credentials(config: ClientConfig, base_dir: Path) -> Credentials | None:
    tls = config.tls
    if tls is None:
        return None
    credentials = load_credentials(
        ca_file=base_dir / tls.ca,
        cert_file=base_dir / tls.cert,
        key_file=base_dir / tls.key,
        now=SystemClock().now(),
    )
    if credentials.identity.fleet != config.fleet:
        raise ConfigError(f"{tls.cert}: is of fleet {credentials.identity.fleet}, not of {config.fleet}")
    return credentials


def request_id() -> str:
    """Return a fresh id that makes a call safe to repeat."""
    return uuid.uuid4().hex
