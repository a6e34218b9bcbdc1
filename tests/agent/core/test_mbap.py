"""Frames as the operator's server reads them."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import mbap
from agent.core.mbap import Fault, Header, Read, Unusable, Write


@pytest.mark.parametrize(
    ("data", "header"),
    [
        ("000100000006 01", Header(transaction=1, unit=1, pdu_bytes=5)),
        ("ffff00000002 f7", Header(transaction=65535, unit=247, pdu_bytes=1)),
        ("0001000000fe 01", Header(transaction=1, unit=1, pdu_bytes=253)),
        ("0001000000ff 01", None),
        ("000100000001 01", None),
        ("000100000000 01", None),
        ("000100010006 01", None),
        ("474554202f20 48", None),  # "GET / H"
    ],
)
def test_headers(data: str, header: Header | None) -> None:
    assert mbap.parse_header(bytes.fromhex(data)) == header


@pytest.mark.parametrize(
    ("pdu", "request_"),
    [
        ("03 9c40 0002", Read(address=40000, count=2)),
        ("03 ff83 007d", Read(address=0xFF83, count=125)),
        ("03 ff84 007d", Unusable(function=3, fault=Fault.ILLEGAL_ADDRESS)),
        ("03 0000 0000", Unusable(function=3, fault=Fault.ILLEGAL_VALUE)),
        ("03 0000 007e", Unusable(function=3, fault=Fault.ILLEGAL_VALUE)),
        ("03 0000", Unusable(function=3, fault=Fault.ILLEGAL_VALUE)),
        ("06 0001 1234", Write(function=6, address=1, values=(0x1234,))),
        ("06 0001 12", Unusable(function=6, fault=Fault.ILLEGAL_VALUE)),
        ("10 0001 0002 04 00010002", Write(function=16, address=1, values=(1, 2))),
        ("10 ffff 0002 04 00010002", Unusable(function=16, fault=Fault.ILLEGAL_ADDRESS)),
        ("10 0001 0002 04 000100", Unusable(function=16, fault=Fault.ILLEGAL_VALUE)),
        ("10 0001 0002 03 00010002", Unusable(function=16, fault=Fault.ILLEGAL_VALUE)),
        ("10 0001 0000 00", Unusable(function=16, fault=Fault.ILLEGAL_VALUE)),
        ("10 0001 00", Unusable(function=16, fault=Fault.ILLEGAL_VALUE)),
        ("04 0001 0002", Unusable(function=4, fault=Fault.ILLEGAL_FUNCTION)),
        ("17 00", Unusable(function=23, fault=Fault.ILLEGAL_FUNCTION)),
        ("00", Unusable(function=0, fault=Fault.ILLEGAL_FUNCTION)),
    ],
)
def test_requests(pdu: str, request_: mbap.Request) -> None:
    assert mbap.parse_request(bytes.fromhex(pdu)) == request_


def test_answers() -> None:
    header = Header(transaction=7, unit=3, pdu_bytes=5)
    assert mbap.frame(header, mbap.read_answer((1, 0xFFFF))).hex() == "0007000000070303040001ffff"
    many = Write(function=16, address=5, values=(1, 2, 3))
    assert mbap.write_answer(many).hex() == "1000050003"
    assert mbap.write_answer(Write(function=6, address=5, values=(9,))).hex() == "0600050009"
    assert mbap.fault_answer(16, Fault.ILLEGAL_VALUE).hex() == "9003"


@given(st.binary(min_size=1, max_size=253))
def test_whatever_the_bytes_are_the_answer_is_a_value(pdu: bytes) -> None:
    request = mbap.parse_request(pdu)
    if isinstance(request, Unusable):
        assert mbap.fault_answer(request.function, request.fault)[0] & 0x80
    elif isinstance(request, Write):
        assert request.address + len(request.values) <= 0x10000
    else:
        assert request.count <= mbap.MAX_READ


@given(st.integers(0, 65535), st.lists(st.integers(0, 65535), min_size=1, max_size=123))
def test_a_write_is_read_as_it_was_written(address: int, values: list[int]) -> None:
    body = struct.pack(f">BHHB{len(values)}H", 16, address, len(values), 2 * len(values), *values)
    request = mbap.parse_request(body)
    if address + len(values) <= 0x10000:
        assert request == Write(function=16, address=address, values=tuple(values))
    else:
        assert request == Unusable(function=16, fault=Fault.ILLEGAL_ADDRESS)
