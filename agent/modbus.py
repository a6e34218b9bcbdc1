"""Modbus TCP, both ends: the one module that imports pymodbus, and no type of it leaves.

It moves registers; what they mean is `agent.model.sunspec`'s and the callers' business.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

from pymodbus import FramerType, ModbusException
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from sterna.clock import Clock
from sterna.errors import PeerProtocolError, TransientError

log = logging.getLogger(__name__)

MAX_READ = 125
MBAP_UNIT = 6  # offset of the unit id in a Modbus TCP frame
# The device will say the same next time: illegal function, address, value.
PERMANENT_CODES = {1: "illegal function", 2: "illegal data address", 3: "illegal data value"}
PYMODBUS_LOGGER = "pymodbus.logging"


class ModbusBus:
    """The one owner of a connection to a Modbus device or gateway; requests are serialised.

    It connects on demand. While the peer is away, a request fails at once until the next try is due, so that
    polling a dead device costs nothing. Retries happen inside pymodbus, under one transaction id, so that the
    late answer of a device that queues requests is still recognised.

    Parameters
    ----------
    host, port
        Where to connect.
    clock : Clock
        For the back-off.
    timeout_s : float
        For connecting and for each try of a request.
    retries : int
        Tries after the first; a request takes at most ``timeout_s * (retries + 1)``.
    reconnect_delay_s, reconnect_delay_max_s : float
        Back-off between attempts to connect, doubling.
    rtu_over_tcp : bool
        The gateway wants RTU frames.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        clock: Clock,
        timeout_s: float = 0.9,
        retries: int = 1,
        reconnect_delay_s: float = 0.5,
        reconnect_delay_max_s: float = 8.0,
        rtu_over_tcp: bool = False,
    ) -> None:
        self.peer = f"modbus {host}:{port}"
        self._host, self._port = host, port
        self._clock = clock
        self._timeout_s, self._retries = timeout_s, retries
        self._delay_min_s, self._delay_max_s = reconnect_delay_s, reconnect_delay_max_s
        self._framer = FramerType.RTU if rtu_over_tcp else FramerType.SOCKET
        self._delay_s = reconnect_delay_s
        self._next_try_s = float("-inf")
        self._client: AsyncModbusTcpClient | None = None
        self._lock = asyncio.Lock()
        # Its errors come to us as exceptions; logged at its own level they would repeat each second.
        logging.getLogger(PYMODBUS_LOGGER).setLevel(logging.CRITICAL)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. A later request dials again."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read_holding(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Read holding registers (function 3).

        Parameters
        ----------
        unit : int
            Unit id, 0 to 247.
        address : int
            As on the wire, from 0.
        count : int
            1 to 125.

        Raises
        ------
        TransientError
            No connection, no answer in time, or the device says that it is busy or failed.
        PeerProtocolError
            The device refuses the registers or answers something else than was asked.
        """
        return await self._read("read_holding_registers", unit, address, count)

    async def read_input(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Read input registers (function 4); see `read_holding`."""
        return await self._read("read_input_registers", unit, address, count)

    async def _read(self, function: str, unit: int, address: int, count: int) -> tuple[int, ...]:
        if not 1 <= count <= MAX_READ:
            raise ValueError(f"count {count} is not within 1..{MAX_READ}")
        what = f"{self.peer} unit {unit} registers {address}+{count}"
        async with self._lock:
            client = await self._connected()
            try:
                response: ModbusPDU = await getattr(client, function)(address, count=count, device_id=unit)
            except ModbusIOException as error:
                raise TransientError(f"{what}: no usable answer") from error
            except ModbusException as error:
                raise TransientError(f"{what}: {error}") from error
        return _checked(response, what, count)

    async def _connected(self) -> AsyncModbusTcpClient:
        if self._client is not None and self._client.connected:
            return self._client
        self.close()  # before reopening: some inverters have one slot, and a half-open socket would hold it
        wait_s = self._next_try_s - self._clock.boottime_s()
        if wait_s > 0:
            raise TransientError(f"{self.peer}: not connected", retry_after_s=wait_s)
        client = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            framer=self._framer,
            timeout=self._timeout_s,
            retries=self._retries,
            reconnect_delay=0,  # ours is bounded; two mechanisms would fight
        )
        if not await client.connect():
            client.close()
            self._next_try_s = self._clock.boottime_s() + self._delay_s
            wait_s, self._delay_s = self._delay_s, min(2 * self._delay_s, self._delay_max_s)
            raise TransientError(f"{self.peer}: cannot connect", retry_after_s=wait_s)
        self._delay_s = self._delay_min_s
        self._client = client
        log.info("modbus connected", extra={"peer": self.peer})
        return client


def _checked(response: ModbusPDU, what: str, count: int) -> tuple[int, ...]:
    if response.isError():
        code = int(response.exception_code)
        if code in PERMANENT_CODES:
            raise PeerProtocolError(f"{what}: refused, {PERMANENT_CODES[code]}")
        raise TransientError(f"{what}: the device answers exception {code}")
    if len(response.registers) != count:
        raise PeerProtocolError(f"{what}: answered {len(response.registers)} registers")
    return tuple(response.registers)


class RegisterRefusedError(Exception):
    """Raised by a handler of a `RegisterDevice`: the request is answered with this Modbus exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


ReadHandler = Callable[[int, int], Awaitable[Sequence[int]]]
WriteHandler = Callable[[int, Sequence[int]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterDevice:
    """One unit of a register server.

    `spans` maps first address to number of registers. `read(address, count)` gives the values as they are
    when asked. `write(address, values)` takes them or raises `RegisterRefusedError`; None: read-only.

    A handler should answer before the client's next request: pymodbus 3.16 gives a late answer the
    transaction id of the newest request on that connection.
    """

    unit: int
    spans: Mapping[int, int]
    read: ReadHandler
    write: WriteHandler | None = None


@dataclass(slots=True)
class RegisterServer:
    """Serves register devices over Modbus TCP.

    Parameters
    ----------
    host : str
        The interface to bind to, explicit: an empty one or a wildcard is refused.
    port : int
        0: any free one; see `port` after `start`.
    devices : sequence of RegisterDevice
        The units behind this address.
    outgoing : callable or None
        Sees unit and bytes of each outgoing frame and returns what is sent instead; b"" keeps silent. For
        simulated faults.
    """

    host: str
    port: int
    devices: Sequence[RegisterDevice]
    outgoing: Callable[[int, bytes], bytes] | None = None
    _server: ModbusTcpServer | None = field(default=None, init=False)

    async def start(self) -> None:
        """Bind and serve in the background.

        Raises
        ------
        TransientError
            The address is taken or not ours.
        """
        if self.host in ("", "0.0.0.0", "::"):
            raise ValueError("a Modbus server binds to one explicit address")
        server = ModbusTcpServer(
            [_sim_device(device) for device in self.devices],
            address=(self.host, self.port),
            trace_packet=self._trace if self.outgoing is not None else None,
        )
        logging.getLogger(PYMODBUS_LOGGER).setLevel(logging.CRITICAL)
        try:
            await server.serve_forever(background=True)
        except RuntimeError as error:
            raise TransientError(f"modbus server {self.host}:{self.port}: cannot bind") from error
        self._server = server
        # pymodbus keeps the asyncio.Server under a name typed for transports.
        self.port = server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _trace(self, sending: bool, data: bytes) -> bytes:
        if not sending or self.outgoing is None:
            return data
        return self.outgoing(data[MBAP_UNIT], data)


def _sim_device(device: RegisterDevice) -> SimDevice:
    blocks = [
        SimData(address, values=[0] * count, datatype=DataType.REGISTERS, readonly=device.write is None)
        for address, count in device.spans.items()
    ]
    return SimDevice(id=device.unit, simdata=blocks, action=partial(_serve, device))


async def _serve(  # noqa: PLR0917 - pymodbus's signature
    device: RegisterDevice,
    function_code: int,
    start_address: int,
    address: int,
    count: int,
    current_registers: list[int],
    set_values: list[int] | list[bool] | None,
) -> ExcCodes | None:
    try:
        if set_values is not None:
            if device.write is None:
                return ExcCodes.ILLEGAL_ADDRESS
            await device.write(address, [int(value) for value in set_values])
            return None
        values = await device.read(address, count)
    except RegisterRefusedError as refusal:
        return ExcCodes(refusal.code)
    offset = address - start_address
    current_registers[offset : offset + count] = values
    return None
