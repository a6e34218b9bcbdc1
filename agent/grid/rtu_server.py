"""The sockets of the operator's Modbus server: who may connect, who may write, one request at a time.

Speaks Modbus TCP itself (docs/adr/0007): an answer belongs to its request even when storing takes a while,
and a write is judged by the connection it came over. A stranger is turned away before a byte of his is read.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from agent.core import mbap
from agent.core.cert_role import role_of
from agent.core.mbap import Fault, Header, Read, Unusable
from agent.grid.rtu import OperatorRegisters, Session
from sterna import pace
from sterna.accepting import connections
from sterna.clock import Clock
from sterna.errors import ConfigError
from sterna.listening import listen

log = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network
BACKLOG = 16
MAX_CLIENTS = 8
ANSWER_WITHIN_S = 5.0
BUFFER_BYTES = 2048
BEAT_PERIOD_S = 5.0
MAX_TOLD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may do what.

    Parameters
    ----------
    clients : sequence of networks
        Who may connect and read.
    writers : sequence of networks
        Who of them may write; none: nobody.
    roles : frozenset of str
        With TLS: one of these must be the role in a writer's certificate.
    """

    clients: Sequence[Network]
    writers: Sequence[Network] = ()
    roles: frozenset[str] = frozenset()

    def may_connect(self, address: str) -> bool:
        """Whether an address may connect."""
        return _within(address, self.clients)

    def may_write(self, address: str, certificate: bytes | None) -> bool:
        """Whether a connection may write; `certificate` None: it has no TLS."""
        if not _within(address, self.writers):
            return False
        return certificate is None or role_of(certificate) in self.roles


def _within(address: str, networks: Sequence[Network]) -> bool:
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in network for network in networks if network.version == mapped.version)


@dataclass(slots=True, kw_only=True, eq=False)
class _Client:
    """One connection; `used_s` is when it last asked for something, on the boot clock."""

    address: str
    transport: asyncio.WriteTransport | None = None
    used_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class RtuServer:
    """Serves `OperatorRegisters` over Modbus TCP, inside TLS or not.

    Parameters
    ----------
    host, port
        The interface, explicit: a wildcard is refused. Port 0: any free one; see `port` after `bind`.
    unit : int
        The unit id that we answer for; others get the exception that gateways give.
    registers : OperatorRegisters
        What is served.
    access : Access
        Who may do what.
    clock : Clock
        For the age of connections.
    tls : SSLContext or None
        Asks for client certificates; None: plain.
    idle_s : float
        A connection without a request for this long is closed.
    on_beat : callable
        Called every few seconds while serving.
    """

    host: str
    port: int
    unit: int
    registers: OperatorRegisters
    access: Access
    clock: Clock
    tls: ssl.SSLContext | None = None
    idle_s: float = 300.0
    on_beat: Callable[[], None] = lambda: None
    _listener: socket.socket | None = field(default=None, init=False)
    _clients: list[_Client] = field(default_factory=list, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    def bind(self) -> None:
        """Take the port; clients are served once `run` runs.

        Raises
        ------
        ConfigError
            The address is a wildcard, taken, or not ours.
        """
        if ip_address(self.host).is_unspecified:
            raise ConfigError(f"modbus server: {self.host}: bind to one explicit address")
        try:
            listener = listen(self.host, self.port, backlog=BACKLOG)
        except ConfigError as error:
            raise ConfigError(f"modbus server: {error}") from error
        self._listener = listener
        self.port = listener.getsockname()[1]

    def close(self) -> None:
        """Give the port back."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def run(self) -> None:
        """Serve for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.registers.forget_acks(), name="modbus acks")
            group.create_task(self._beat(), name="modbus beat")
            await self._accept(group)

    async def _beat(self) -> None:
        while True:
            self.on_beat()
            await pace.rest(BEAT_PERIOD_S)

    async def _accept(self, group: asyncio.TaskGroup) -> None:
        assert self._listener is not None, "bind first"
        async for connection, address in connections(self._listener):
            if not self.access.may_connect(address):
                self._tell("a stranger was turned away from the modbus server", address)
                connection.close()
                continue
            if not self._make_room():
                connection.close()
                continue
            client = _Client(address=address, used_s=self.clock.boottime_s())
            self._clients.append(client)
            group.create_task(self._serve(client, connection), name="modbus client")

    def _make_room(self) -> bool:
        """Close who has been silent longest: an RTU that crashed comes back before its old socket is gone."""
        if len(self._clients) < MAX_CLIENTS:
            return True
        known = [client for client in self._clients if client.transport is not None]
        if not known:
            return False  # all of them are still being greeted
        oldest = min(known, key=lambda client: client.used_s)
        if oldest.transport is not None:
            oldest.transport.abort()
            oldest.transport = None
        return True

    async def _serve(self, client: _Client, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            reader, writer = await self._open(connection)
        except (OSError, TimeoutError) as error:
            self._tell("a modbus client could not be greeted", client.address, str(error))
            connection.close()
            self._clients.remove(client)
            return
        client.transport = writer.transport
        try:
            await self._converse(client, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it has gone, or has been silent for too long
        finally:
            self._clients.remove(client)
            writer.transport.abort()

    async def _open(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=BUFFER_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        limit_s = ANSWER_WITHIN_S if self.tls is not None else None
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=self.tls, ssl_handshake_timeout=limit_s
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _converse(
        self, client: _Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        shown = writer.get_extra_info("ssl_object")
        certificate = None if shown is None else shown.getpeercert(binary_form=True) or b""
        session = Session(may_write=self.access.may_write(client.address, certificate))
        while True:
            async with asyncio.timeout(self.idle_s):
                header = mbap.parse_header(await reader.readexactly(mbap.HEADER_BYTES))
            if header is None:
                self._tell("what came was no Modbus TCP", client.address)
                return
            async with asyncio.timeout(ANSWER_WITHIN_S):
                pdu = await reader.readexactly(header.pdu_bytes)
            client.used_s = self.clock.boottime_s()
            writer.write(mbap.frame(header, await self._answer(session, header, pdu)))
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await writer.drain()

    async def _answer(self, session: Session, header: Header, pdu: bytes) -> bytes:
        request = mbap.parse_request(pdu)
        if isinstance(request, Unusable):
            return mbap.fault_answer(request.function, request.fault)
        if header.unit != self.unit:
            return mbap.fault_answer(pdu[0], Fault.NO_SUCH_UNIT)
        if isinstance(request, Read):
            values = self.registers.read(session, request.address, request.count)
            return (
                mbap.fault_answer(pdu[0], values) if isinstance(values, Fault) else mbap.read_answer(values)
            )
        fault = await self.registers.write(session, request.address, request.values)
        return mbap.write_answer(request) if fault is None else mbap.fault_answer(pdu[0], fault)

    def _tell(self, what: str, address: str, fault: str = "") -> None:
        """Say it once for each address: who knocks all day fills no journal."""
        key = f"{what} {address}"
        if key in self._told:
            return
        if len(self._told) >= MAX_TOLD:
            self._told.clear()
        self._told.add(key)
        log.warning(what, extra={"peer": address, "fault": fault})
