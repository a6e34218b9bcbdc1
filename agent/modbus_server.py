"""The serving end of Modbus: registers that live in Python, over TCP or TLS.

Beside `agent.modbus` the one module that imports pymodbus; no type of it leaves.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from sterna.errors import TransientError

MBAP_UNIT = 6  # offset of the unit id in a Modbus TCP frame
PYMODBUS_LOGGER = "pymodbus.logging"


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
    """Serves register devices over Modbus TCP or TLS.

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
    tls : SSLContext or None
        Serve inside TLS.
    rtu : bool
        RTU frames, as gateways to serial lines have them.
    """

    host: str
    port: int
    devices: Sequence[RegisterDevice]
    outgoing: Callable[[int, bytes], bytes] | None = None
    tls: ssl.SSLContext | None = None
    rtu: bool = False
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
        server = self._new_server()
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

    def _new_server(self) -> ModbusTcpServer:
        units = [_sim_device(device) for device in self.devices]
        framer = FramerType.RTU if self.rtu else FramerType.SOCKET
        address = (self.host, self.port)
        trace = self._trace if self.outgoing is not None else None
        if self.tls is None:
            return ModbusTcpServer(units, framer=framer, address=address, trace_packet=trace)
        return ModbusTlsServer(units, framer=framer, address=address, sslctx=self.tls, trace_packet=trace)

    def _trace(self, sending: bool, data: bytes) -> bytes:
        if not sending or self.outgoing is None:
            return data
        return self.outgoing(data[0 if self.rtu else MBAP_UNIT], data)


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
