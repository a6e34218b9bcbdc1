"""Modbus TCP as a server reads and writes it: frame header, three functions, exceptions. Pure.

What is not understood becomes an answer or, where not even the frame's end is certain, None: then only
closing the connection helps.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

HEADER_BYTES = 7
MAX_PDU_BYTES = 253
MAX_READ = 125
MAX_WRITE = 123
READ_HOLDING = 3
WRITE_ONE = 6
WRITE_MANY = 16
_ERROR_BIT = 0x80
_SPACE = 0x10000


class Fault(IntEnum):
    """Modbus exception codes that we answer with."""

    ILLEGAL_FUNCTION = 1
    ILLEGAL_ADDRESS = 2
    ILLEGAL_VALUE = 3
    DEVICE_FAILURE = 4
    NO_SUCH_UNIT = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What stands before every request; `pdu_bytes` are still to come."""

    transaction: int
    unit: int
    pdu_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Read `count` holding registers from `address`."""

    address: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Write registers from `address`; `function` tells how to acknowledge."""

    function: int
    address: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A request that gets an exception whatever the registers hold."""

    function: int
    fault: Fault


Request = Read | Write | Unusable


def parse_header(data: bytes) -> Header | None:
    """Read the seven bytes before a request; None: no Modbus TCP, and where the next begins is unknown."""
    transaction, protocol, length, unit = struct.unpack(">HHHB", data)
    if protocol != 0 or not 2 <= length <= MAX_PDU_BYTES + 1:
        return None
    return Header(transaction=transaction, unit=unit, pdu_bytes=length - 1)


def parse_request(pdu: bytes) -> Request:
    """Read a request, function code first; at least one byte."""
    function, body = pdu[0], pdu[1:]
    if function == READ_HOLDING:
        return _read(body)
    if function == WRITE_ONE:
        return _write_one(body)
    if function == WRITE_MANY:
        return _write_many(body)
    return Unusable(function=function, fault=Fault.ILLEGAL_FUNCTION)


def _read(body: bytes) -> Request:
    if len(body) != 4:
        return Unusable(function=READ_HOLDING, fault=Fault.ILLEGAL_VALUE)
    address, count = struct.unpack(">HH", body)
    if not 1 <= count <= MAX_READ:
        return Unusable(function=READ_HOLDING, fault=Fault.ILLEGAL_VALUE)
    if address + count > _SPACE:
        return Unusable(function=READ_HOLDING, fault=Fault.ILLEGAL_ADDRESS)
    return Read(address=address, count=count)


def _write_one(body: bytes) -> Request:
    if len(body) != 4:
        return Unusable(function=WRITE_ONE, fault=Fault.ILLEGAL_VALUE)
    address, value = struct.unpack(">HH", body)
    return Write(function=WRITE_ONE, address=address, values=(value,))


def _write_many(body: bytes) -> Request:
    if len(body) < 5:
        return Unusable(function=WRITE_MANY, fault=Fault.ILLEGAL_VALUE)
    address, count, length = struct.unpack(">HHB", body[:5])
    if not 1 <= count <= MAX_WRITE or length != 2 * count or len(body) != 5 + length:
        return Unusable(function=WRITE_MANY, fault=Fault.ILLEGAL_VALUE)
    if address + count > _SPACE:
        return Unusable(function=WRITE_MANY, fault=Fault.ILLEGAL_ADDRESS)
    return Write(function=WRITE_MANY, address=address, values=struct.unpack(f">{count}H", body[5:]))


def read_answer(values: tuple[int, ...]) -> bytes:
    """Write the registers that were asked for."""
    return struct.pack(f">BB{len(values)}H", READ_HOLDING, 2 * len(values), *values)


def write_answer(request: Write) -> bytes:
    """Acknowledge a write."""
    last = request.values[0] if request.function == WRITE_ONE else len(request.values)
    return struct.pack(">BHH", request.function, request.address, last)


def fault_answer(function: int, fault: Fault) -> bytes:
    """Write an exception; a function code that has the error bit already keeps it."""
    return bytes((function | _ERROR_BIT, fault))


def frame(header: Header, pdu: bytes) -> bytes:
    """Put the request's transaction and unit before an answer."""
    return struct.pack(">HHHB", header.transaction, 0, len(pdu) + 1, header.unit) + pdu
