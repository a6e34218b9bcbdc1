import base64
import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import fields
from agent.core.fields import FieldError
from agent.core.signed import signature, signed_bytes

# Appendix B of RFC 8785: IEEE 754 bits and how ECMAScript writes them.
RFC_8785_NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
]


@pytest.mark.parametrize(("bits", "written"), RFC_8785_NUMBERS)
def test_numbers_are_written_as_rfc_8785_wants(bits: str, written: str) -> None:
    value = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert signed_bytes("t", {"x": value}) == f't\n{{"x":{written}}}'.encode()


def test_names_are_sorted_by_utf_16_and_text_is_not_escaped_as_in_rfc_8785_3_2() -> None:
    message = {"\u20ac": "Euro", "\r": "CR", "\ufb33": "Hebrew", "1": "One", "\U0001f600": "Smiley"}
    message |= {"\x80": "Control", "\u00f6": "O", "s": '\u20ac$\x0f\nA\'B"\\\\"/'}
    text = signed_bytes("t", message).decode().removeprefix("t\n")
    assert list(json.loads(text)) == ["\r", "1", "s", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"' in text


def test_the_signature_and_the_order_of_fields_are_not_signed_but_the_topic_is() -> None:
    message = {"v": 1, "valueW": 4200, "active": True, "start": None, "list": [1, "a"]}
    expected = b'a/limit\n{"active":true,"list":[1,"a"],"start":null,"v":1,"valueW":4200}'
    assert signed_bytes("a/limit", message) == expected
    assert signed_bytes("a/limit", {**dict(reversed(message.items())), "sig": "x"}) == expected
    assert signed_bytes("a/limit", {**message, "valueW": 4200.0}) == expected
    assert signed_bytes("b/limit", message) != expected
    assert signed_bytes("a/limit", {**message, "seq": 2**63 - 1}).endswith(b'"valueW":4200}')
    assert b"9223372036854775807" in signed_bytes("a/limit", {"seq": 2**63 - 1})


@pytest.mark.parametrize(
    ("text", "detail"),
    [("%", "not base64"), ("AAAA", "not 64 bytes"), ("\u00e9", "not base64"), (7, "not a string")],
)
def test_a_signature_that_is_none_is_refused(text: object, detail: str) -> None:
    with pytest.raises(FieldError) as error:
        signature({"sig": text})
    assert (error.value.refusal.field, error.value.refusal.detail) == ("sig", detail)


def test_a_signature_is_read_or_absent() -> None:
    assert signature({}) is signature({"sig": None}) is None
    assert signature({"sig": base64.b64encode(b"s" * 64).decode()}) == b"s" * 64


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=5))
def test_law_what_is_read_from_the_signed_form_is_signed_alike(message: dict[str, object]) -> None:
    form = signed_bytes("t", message)
    try:
        again = fields.message(form.removeprefix(b"t\n"))
    except FieldError:
        assert any(0xD800 <= byte <= 0xDFFF for byte in form) or b"\xed" in form, "half a surrogate pair"
        return
    assert signed_bytes("t", again) == form


@given(st.floats())
def test_law_a_number_reads_back_as_itself(value: float) -> None:
    text = signed_bytes("t", {"x": value}).decode().removeprefix('t\n{"x":').removesuffix("}")
    assert float(text) == value or math.isnan(value)
