"""What a Modbus frame would do that is about to leave: the last look before the wire. Pure."""

from collections.abc import Mapping

READ_FUNCTIONS = frozenset({3, 4})
WRITE_FUNCTION = 16
"""Write multiple registers, the one way in which we write."""
MBAP_LENGTH = 6
"""Bytes before the unit id where a frame has the header of Modbus TCP."""
CRC_LENGTH = 2
_REQUEST_LENGTH = 6  # unit, function, first register, count

Writable = Mapping[int, tuple[range, ...]]
"""Holding registers that may be written, by unit."""


def names_all(writable: Writable, unit: int, wanted: range) -> bool:
    """Whether an allow-list names every one of these registers of a unit."""
    spans = writable.get(unit, ())
    return all(any(place in span for span in spans) for place in wanted)


def may_leave(frame: bytes, *, rtu: bool, writable: Writable) -> bool:
    """Whether a request may be sent: it reads, or it writes only registers that the allow-list names.

    Parameters
    ----------
    frame : bytes
        The whole frame.
    rtu : bool
        It is an RTU frame; else it has the header of Modbus TCP.
    writable : mapping of unit to tuple of range
        The allow-list; empty: nothing is written.
    """
    request = frame[:-CRC_LENGTH] if rtu else frame[MBAP_LENGTH:]
    if len(request) < _REQUEST_LENGTH:
        return False
    unit, function = request[0], request[1]
    if function in READ_FUNCTIONS:
        return True
    first, count = int.from_bytes(request[2:4]), int.from_bytes(request[4:6])
    return function == WRITE_FUNCTION and count > 0 and names_all(writable, unit, range(first, first + count))
