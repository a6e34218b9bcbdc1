"""The last look at a frame before it leaves: reads pass, writes only where every register is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.modbus_frames import READ_FUNCTIONS, may_leave, names_all

HEADER = bytes(6)
WRITABLE = {7: (range(10, 12), range(12, 14)), 8: ()}


def frame(unit: int, function: int, first: int, count: int) -> bytes:
    return bytes([unit, function]) + first.to_bytes(2) + count.to_bytes(2)


@pytest.mark.parametrize(
    ("request_", "leaves"),
    [
        (frame(1, 3, 0, 2), True),
        (frame(1, 4, 0, 2), True),
        (frame(7, 16, 10, 4), True),
        (frame(7, 16, 11, 2), True),
        (frame(7, 16, 9, 1), False),
        (frame(7, 16, 13, 2), False),
        (frame(7, 16, 10, 0), False),
        (frame(8, 16, 10, 1), False),
        (frame(1, 16, 10, 1), False),
        (frame(7, 6, 10, 1), False),
        (frame(7, 5, 10, 1), False),
        (frame(7, 23, 10, 1), False),
        (frame(7, 22, 10, 1), False),
        (frame(7, 3, 10, 1)[:5], False),
        (b"", False),
    ],
)
def test_what_may_leave(request_: bytes, leaves: bool) -> None:
    assert may_leave(request_ + b"\1\2", rtu=True, writable=WRITABLE) is leaves
    assert may_leave(HEADER + request_, rtu=False, writable=WRITABLE) is leaves


@given(st.binary(max_size=40), st.booleans())
def test_a_read_only_bus_lets_nothing_out_but_reads(data: bytes, rtu: bool) -> None:
    leaves = may_leave(data, rtu=rtu, writable={})
    function = data[1 if rtu else 7 :][:1]
    assert not leaves or function[0] in READ_FUNCTIONS


@given(st.integers(0, 20), st.integers(1, 6))
def test_one_register_that_is_not_named_is_enough(first: int, count: int) -> None:
    wanted = range(first, first + count)
    assert names_all(WRITABLE, 7, wanted) is all(10 <= place < 14 for place in wanted)
