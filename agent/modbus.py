"""The asking end of Modbus, over TCP, TLS and serial lines; the serving end is `agent.modbus_server`.

These two import pymodbus, and no type of it leaves. It moves registers; what they mean is the tables' and
the callers' business. And it is the gate: what its allow-list does not name cannot be written.
"""

import asyncio
import logging
import ssl
import struct
import sys
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from pymodbus import FramerType, ModbusException
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse
from pymodbus.transport import CommParams, CommType

from agent.core.modbus_frames import WRITE_FUNCTION, Writable, may_leave, names_all
from sterna.backoff import Backoff
from sterna.cancellation import undeterred
from sterna.clock import Clock
from sterna.errors import PeerProtocolError, PermanentError, TransientError

log = logging.getLogger(__name__)

MAX_READ = 125
MAX_WRITE = 123
RTU_GAP_S = 0.025
READ_HOLDING, READ_INPUT = 3, 4
METHODS = {
    READ_HOLDING: "read_holding_registers",
    READ_INPUT: "read_input_registers",
    WRITE_FUNCTION: "write_registers",
}
# The device will say the same next time: illegal function, address, value.
PERMANENT_CODES = {1: "illegal function", 2: "illegal data address", 3: "illegal data value"}
PYMODBUS_LOGGER = "pymodbus.logging"
# A peer that was rebooted keeps our socket "connected": after so much silence it is opened anew.
SILENT_REQUESTS, SILENT_TIMEOUTS = 5, 3.0


class NotConnectedError(TransientError):
    """The bus itself is away; it says nothing about the unit that was asked."""


class WriteForbiddenError(PermanentError):
    """We tried to write what the allow-list does not name; nothing was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialLine:
    """How a serial line is set.

    Parameters
    ----------
    baudrate : int
        Bits per second.
    parity : str
        ``N``, ``E`` or ``O``.
    stopbits : int
        1 or 2.
    """

    baudrate: int = 9600
    parity: str = "N"
    stopbits: int = 1


class ModbusBus:
    """The one owner of a connection to a Modbus device, gateway or line; requests are serialised.

    It connects on demand. While the peer is away, a request fails at once until the next try is due, so that
    polling a dead device costs nothing. Retries happen inside pymodbus, under one transaction id, so that the
    late answer of a device that queues requests is still recognised. RTU has no such id: there a request is
    sent once, or the answer to its first try could be taken for that of the next request.

    Parameters
    ----------
    host, port
        Where to connect; with `serial`, the device file and 0.
    timeout_s : float
        For connecting and for each try of a request.
    retries : int
        Tries after the first, none over RTU; a request takes at most ``timeout_s * (retries + 1)``.
    reconnect_delay_s, reconnect_delay_max_s : float
        Back-off between attempts to connect, doubling.
    rtu_over_tcp : bool
        Send RTU frames.
    tls : SSLContext or None
        Modbus/TCP Security (port 802): mutual, see `sterna.tls`.
    serial : SerialLine or None
        RTU on a serial line; needs pyserial (extra ``serial``).
    min_gap_s : float or None
        Silence between an answer and the next request. None: 25 ms for RTU, else none.
    writable : mapping of unit to tuple of range, or None
        The units that may be written to, with the holding registers that are known so far; `allow_writes`
        adds to them. None, the default: the bus is read-only for good.
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
        tls: ssl.SSLContext | None = None,
        serial: SerialLine | None = None,
        min_gap_s: float | None = None,
        writable: Writable | None = None,
    ) -> None:
        self.peer = f"modbus {host}" if serial else f"modbus {host}:{port}"
        self.rtu = rtu_over_tcp or serial is not None
        self._timeout_s, self._retries = timeout_s, 0 if self.rtu else retries
        self.request_timeout_s = timeout_s * (self._retries + 1)
        self._host, self._port, self._tls, self._serial = host, port, tls, serial
        self._clock = clock
        self._backoff = Backoff(reconnect_delay_s, reconnect_delay_max_s, least_frac=1.0)
        self._min_gap_s = (RTU_GAP_S if self.rtu else 0.0) if min_gap_s is None else min_gap_s
        self._writable = dict(writable or {})
        self._next_try_s = self._idle_since_s = float("-inf")
        self._silent, self._heard_s = 0, 0.0
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._lock = asyncio.Lock()
        # Its errors come to us as exceptions; logged at its own level they would repeat each second.
        logging.getLogger(PYMODBUS_LOGGER).setLevel(logging.CRITICAL)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. A later request dials again."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def connect(self) -> None:
        """Connect now if need be, so that the next request has all its time for itself.

        Raises
        ------
        NotConnectedError
            The peer is away, or the next try is not due.
        """
        if self._client is None or not self._client.connected:
            async with self._lock:
                await self._connected()

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
            No connection (`NotConnectedError`), no answer in time, or the device says that it is busy or
            failed.
        PeerProtocolError
            The device refuses the registers or answers something else than was asked.
        """
        return await self._read(READ_HOLDING, unit, address, count)

    async def read_input(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Read input registers (function 4); see `read_holding`."""
        return await self._read(READ_INPUT, unit, address, count)

    def allow_writes(self, unit: int, spans: Sequence[range]) -> None:
        """Add holding registers of a unit to the allow-list, once it is known where they are.

        Raises
        ------
        WriteForbiddenError
            The unit is read-only.
        """
        if unit not in self._writable:
            raise WriteForbiddenError(f"{self.peer} unit {unit}: is read-only")
        known = self._writable[unit]
        self._writable[unit] = (*known, *(span for span in spans if span not in known))

    async def write_registers(self, unit: int, address: int, values: Sequence[int]) -> None:
        """Write holding registers (function 16).

        Raises
        ------
        WriteForbiddenError
            The allow-list does not name every one of them.
        TransientError, PeerProtocolError
            As `read_holding`; the device may have taken them all the same.
        """
        if not 1 <= len(values) <= MAX_WRITE:
            raise ValueError(f"count {len(values)} is not within 1..{MAX_WRITE}")
        what = f"{self.peer} unit {unit} registers {address}+{len(values)}"
        if not names_all(self._writable, unit, range(address, address + len(values))):
            raise WriteForbiddenError(f"{what}: not on the list of registers that may be written")
        async with self._lock:
            response = await self._exchange(WRITE_FUNCTION, what, unit, address, list(values))
        _raise_refusal(response, what, WRITE_FUNCTION)
        if (response.address, response.count) != (address, len(values)):
            raise PeerProtocolError(f"{what}: answered for registers {response.address}+{response.count}")

    async def _read(self, function: int, unit: int, address: int, count: int) -> tuple[int, ...]:
        if not 1 <= count <= MAX_READ:
            raise ValueError(f"count {count} is not within 1..{MAX_READ}")
        what = f"{self.peer} unit {unit} registers {address}+{count}"
        async with self._lock:
            response = await self._exchange(function, what, unit, address, count)
        _raise_refusal(response, what, function)
        if len(response.registers) != count:
            raise PeerProtocolError(f"{what}: answered {len(response.registers)} registers")
        return tuple(response.registers)

    async def _exchange(
        self, function: int, what: str, unit: int, address: int, payload: int | list[int]
    ) -> ModbusPDU:
        client = await self._connected()
        if self._min_gap_s:
            await asyncio.sleep(self._idle_since_s + self._min_gap_s - self._clock.boottime_s())
        request = getattr(client, METHODS[function])
        named = {"values": payload} if isinstance(payload, list) else {"count": payload}
        try:
            response: ModbusPDU = await undeterred(request(address, **named, device_id=unit))
        except ModbusIOException as error:
            self._unheard()
            raise TransientError(f"{what}: no usable answer") from error
        except ModbusException as error:
            raise TransientError(f"{what}: {error}") from error
        finally:
            self._idle_since_s = self._clock.boottime_s()
        self._silent, self._heard_s = 0, self._idle_since_s
        return response

    def _unheard(self) -> None:
        self._silent += 1
        silence_s = self._clock.boottime_s() - self._heard_s
        if self._silent >= SILENT_REQUESTS and silence_s >= SILENT_TIMEOUTS * self.request_timeout_s:
            self.close()

    async def _connected(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        if self._client is not None and self._client.connected:
            return self._client
        self.close()  # before reopening: some inverters have one slot, and a half-open socket would hold it
        wait_s = self._next_try_s - self._clock.boottime_s()
        if wait_s > 0:
            raise NotConnectedError(f"{self.peer}: not connected", retry_after_s=wait_s)
        client = self._new_client()
        client.register(_HoldingRegisters)
        client.register(_InputRegisters)
        cause: Exception | None = None
        try:
            connected = await undeterred(client.connect())
        except (OSError, ValueError, termios.error) as error:  # a line that cannot be set so
            cause = error
        if cause or not connected:
            client.close()
            wait_s = self._backoff.next_s()
            self._next_try_s = self._clock.boottime_s() + wait_s
            why = f": {cause}" if cause else ""
            raise NotConnectedError(f"{self.peer}: cannot connect{why}", retry_after_s=wait_s) from cause
        # We judge silence ourselves: pymodbus would hang up on all units because some are dead.
        client.ctx.count_until_disconnect = client.ctx.max_until_disconnect = sys.maxsize
        _guard(client)
        self._backoff.reset()
        self._silent, self._heard_s = 0, self._clock.boottime_s()
        self._client = client
        log.info("modbus connected", extra={"peer": self.peer})
        return client

    def _new_client(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        if self._serial is not None:
            try:
                return AsyncModbusSerialClient(
                    self._host,
                    framer=FramerType.RTU,
                    baudrate=self._serial.baudrate,
                    parity=self._serial.parity,
                    stopbits=self._serial.stopbits,
                    timeout=self._timeout_s,
                    retries=self._retries,
                    reconnect_delay=0,  # ours is bounded, and two mechanisms would fight
                    trace_packet=self._gate,
                )
            except RuntimeError as error:
                raise PermanentError(f"{self.peer}: a serial line needs pyserial (extra serial)") from error
        return _NetworkClient(
            self._host,
            self._port,
            tls=self._tls,
            framer=FramerType.RTU if self.rtu else FramerType.SOCKET,
            timeout_s=self._timeout_s,
            retries=self._retries,
            trace_packet=self._gate,
        )

    def _gate(self, sending: bool, frame: bytes) -> bytes:
        """Look at every frame that leaves: a write that nobody allowed is not sent, whoever made it."""
        if sending and not may_leave(frame, rtu=self.rtu, writable=self._writable):
            log.critical("a write was stopped at the bus", extra={"peer": self.peer})
            return b""
        return frame


class _HoldingRegisters(ReadHoldingRegistersResponse):
    """Answer to function 3, read in one go.

    pymodbus unpacks register by register and prints each answer for a log that is off: a fifth of a poll.
    """

    def decode(self, data: bytes) -> None:
        size = data[0]
        if size != len(data) - 1:
            raise ValueError("the frame is not as long as it says")
        self.registers = list(struct.unpack(f">{size // 2}H", data[1:]))

    def __str__(self) -> str:
        return type(self).__name__


class _InputRegisters(_HoldingRegisters):
    """Answer to function 4."""

    function_code = 4


class _NetworkClient(AsyncModbusTcpClient):
    """pymodbus's TCP client, with TLS where wanted.

    Its own TLS client takes each piece of the stream for a frame; a record that is split or joined breaks it.
    Inside TLS the frames are those of Modbus TCP.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        framer: FramerType,
        timeout_s: float,
        retries: int,
        trace_packet: Callable[[bool, bytes], bytes],
    ) -> None:
        self.comm_params = CommParams(
            comm_type=CommType.TCP if tls is None else CommType.TLS,
            host=host,
            port=port,
            sslctx=tls,
            comm_name="sterna",
            reconnect_delay=0,
            reconnect_delay_max=0,
            timeout_connect=timeout_s,
        )
        super().__init__("", framer=framer, retries=retries, trace_packet=trace_packet)


def _guard(client: AsyncModbusTcpClient | AsyncModbusSerialClient) -> None:
    """Keep a frame that cannot be understood from ending the connection with a traceback in the log."""
    link = client.ctx
    understand = link.callback_data

    def take(data: bytes, addr: tuple[object, ...] | None = None) -> int:
        try:
            return int(understand(data, addr))
        except Exception as error:  # whatever a hostile frame makes the library raise
            if not link.response_future.done():
                link.response_future.set_exception(ModbusIOException(f"not a frame: {error}"))
            return len(data)

    link.callback_data = take  # type: ignore[method-assign]


def _raise_refusal(response: ModbusPDU, what: str, function: int) -> None:
    """Raise what the device says, or that it answers another question than the one asked."""
    if response.function_code & 0x7F != function:
        raise PeerProtocolError(f"{what}: answered function {response.function_code & 0x7F}")
    if response.isError():
        code = int(response.exception_code)
        if code in PERMANENT_CODES:
            raise PeerProtocolError(f"{what}: refused, {PERMANENT_CODES[code]}")
        raise TransientError(f"{what}: the device answers exception {code}")
