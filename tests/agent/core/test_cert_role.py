"""The role in certificates that a real library made, and in bytes that are none."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.cert_role import role_of
from tests.agent.grid.rtu_certs import Authority, utf8


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(Path(tmp_path_factory.mktemp("ca")))


@pytest.mark.parametrize(
    ("roles", "role"),
    [
        ((utf8("operator"),), "operator"),
        ((utf8("Über"),), "Über"),
        ((), None),
        ((utf8(""),), None),
        ((utf8("x" * 65),), None),
        ((b"\x13\x08operator",), None),  # a PrintableString
        ((b"\x0c\x7foperator",), None),
        ((b"\x0c\x02\xff\xff",), None),
        ((b"",), None),
    ],
)
def test_roles(authority: Authority, roles: tuple[bytes, ...], role: str | None) -> None:
    assert role_of(authority.der("client", *roles)) == role


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_have_no_role(data: bytes) -> None:
    assert role_of(data) is None


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> bytes:
    return authority.der("client", utf8("operator"))


@given(data=st.data())
def test_a_damaged_certificate_raises_nothing(certificate: bytes, data: st.DataObject) -> None:
    whole = bytearray(certificate)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for damaged in (bytes(whole), bytes(whole[:cut])):
        assert role_of(damaged) is None or isinstance(role_of(damaged), str)


def test_two_roles_are_none(certificate: bytes) -> None:
    assert role_of(certificate) == "operator"
    extension = certificate.index(bytes.fromhex("060b2b0601040183890c862201")) - 2
    length = certificate[extension + 1] + 2
    once = certificate[extension : extension + length]
    assert role_of(_signed(once)) == "operator"
    assert role_of(_signed(once + once)) is None


def _signed(extensions: bytes) -> bytes:
    """Wrap extensions as a certificate does, with nothing else in it."""
    inner = extensions
    for tag in (0x30, 0xA3, 0x30, 0x30):
        inner = bytes((tag, 0x81, len(inner))) + inner
    return inner
