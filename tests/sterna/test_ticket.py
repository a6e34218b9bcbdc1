import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.ticket import Claims, TicketError, mint, site_key, verify

SECRET = bytes(range(32))
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = site_key(SECRET, "harbor")
CLAIMS = Claims(
    checkpoint_id="ab" * 32,
    job_id="job-1",
    holder="harbor",
    receiver="ridge",
    expires_at=NOW + timedelta(minutes=15),
    max_bps=2e8,
)


@given(
    st.builds(
        Claims,
        checkpoint_id=st.text(max_size=64),
        job_id=st.text(max_size=64),
        holder=st.text(max_size=64),
        receiver=st.text(max_size=64),
        expires_at=st.integers(1, 10**9).map(lambda us: NOW + timedelta(microseconds=us)),
        max_bps=st.none() | st.floats(1.0, 1e12),
    )
)
def test_what_is_minted_is_what_is_verified(claims):
    assert verify(KEY, mint(KEY, claims), NOW) == claims


@given(st.data())
def test_no_changed_character_passes(data):
    token = mint(KEY, CLAIMS)
    index = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda char: char != token[index]))
    with pytest.raises(TicketError):
        verify(KEY, token[:index] + other + token[index + 1 :], NOW)


@given(st.text(max_size=200))
def test_noise_is_refused_and_nothing_else_is_raised(noise):
    with pytest.raises(TicketError):
        verify(KEY, noise, NOW)


@pytest.mark.parametrize(
    "now, passes",
    [
        (CLAIMS.expires_at - timedelta(microseconds=1), True),
        (CLAIMS.expires_at, False),
        (CLAIMS.expires_at + timedelta(days=1), False),
    ],
)
def test_expiry(now, passes):
    token = mint(KEY, CLAIMS)
    if passes:
        assert verify(KEY, token, now) == CLAIMS
    else:
        with pytest.raises(TicketError, match="expired"):
            verify(KEY, token, now)


def test_the_key_of_one_site_opens_no_other():
    token = mint(KEY, CLAIMS)
    for other in (site_key(SECRET, "ridge"), site_key(bytes(32), "harbor"), b"", b"short"):
        with pytest.raises(TicketError, match="forged"):
            verify(other, token, NOW)


def test_site_keys_are_32_bytes_stable_and_distinct():
    keys = {site_key(SECRET, name) for name in ("harbor", "ridge", "harbo", "r")}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}
    assert site_key(SECRET, "harbor") == KEY


def test_unusable_arguments():
    with pytest.raises(ValueError, match="secret"):
        site_key(b"short", "harbor")
    with pytest.raises(ValueError, match="32 bytes"):
        mint(b"short", CLAIMS)
    with pytest.raises(ValueError, match="time zone"):
        mint(KEY, dataclasses.replace(CLAIMS, expires_at=datetime(2026, 1, 1)))  # noqa: DTZ001 - the fault
    for bad in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="max_bps"):
            mint(KEY, dataclasses.replace(CLAIMS, max_bps=bad))
