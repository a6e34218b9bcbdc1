"""Transfer tickets: the coordinator's word that one site may hand one checkpoint to another.

A ticket is claims and an HMAC-SHA256 over them, keyed with the key of the site that is dialled, so that a
site can check tickets that are meant for it and mint none for others. Claims travel as canonical JSON; the
token is ``base64url(claims) . base64url(mac)`` without padding, fit for gRPC metadata. It is no secret of
lasting worth, yet whoever has it and the named site's certificate may use it until it expires.
"""

import base64
import binascii
import hashlib
import hmac
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sterna.errors import PermanentError

KEY_BYTES = 32
MAX_TOKEN_CHARS = 4096
_SITE_KEY = b"sterna ticket key v1"
_MAC = b"sterna ticket v1\n"
_US = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TicketError(PermanentError):
    """A ticket was not accepted; the message says why: malformed, forged or expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a ticket allows.

    `holder` and `receiver` are site ids, whoever dials. `max_bps` is bits per second over all streams
    together; None: no limit.
    """

    checkpoint_id: str
    job_id: str
    holder: str
    receiver: str
    expires_at: datetime
    max_bps: float | None = None


def site_key(secret: bytes, site_id: str) -> bytes:
    """Derive a site's ticket key from the coordinator's secret: HKDF (RFC 5869) with SHA-256, one block.

    Parameters
    ----------
    secret : bytes
        At least 32 random bytes, known to the coordinator alone.
    site_id : str
        The site that will be dialled.

    Returns
    -------
    bytes
        32 bytes.
    """
    if len(secret) < KEY_BYTES:
        raise ValueError(f"the ticket secret needs at least {KEY_BYTES} bytes, got {len(secret)}")
    extracted = hmac.digest(_SITE_KEY, secret, hashlib.sha256)
    return hmac.digest(extracted, site_id.encode() + b"\x01", hashlib.sha256)


def mint(key: bytes, claims: Claims) -> str:
    """Make the token for `claims` with the dialled site's key.

    Raises
    ------
    ValueError
        The key has not 32 bytes, `expires_at` has no time zone, or `max_bps` is not a positive number.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a ticket key has {KEY_BYTES} bytes, got {len(key)}")
    if claims.max_bps is not None and not (claims.max_bps > 0 and math.isfinite(claims.max_bps)):
        raise ValueError(f"max_bps must be above zero, got {claims.max_bps}")
    if claims.expires_at.tzinfo is None:
        raise ValueError("expires_at has no time zone")
    body = {
        "checkpoint_id": claims.checkpoint_id,
        "expires_at_us": (claims.expires_at - _EPOCH) // _US,
        "holder": claims.holder,
        "job_id": claims.job_id,
        "max_bps": claims.max_bps,
        "receiver": claims.receiver,
    }
    payload = json.dumps(body, sort_keys=True, separators=(",", ":")).encode("ascii")
    return f"{_encode(payload)}.{_encode(_mac(key, payload))}"


def verify(key: bytes, token: str, now: datetime) -> Claims:
    """Check a token and return what it allows.

    Parameters
    ----------
    key : bytes
        This site's ticket key.
    token : str
        As it came; untrusted.
    now : datetime
        Calendar time, aware.

    Raises
    ------
    TicketError
        Malformed, forged (or minted for another site), or expired. Nothing is read before the MAC holds.
    """
    payload, mac = _split(token)
    if len(key) != KEY_BYTES or not hmac.compare_digest(mac, _mac(key, payload)):
        raise TicketError("ticket is forged or meant for another site")
    claims = _claims(payload)
    if now >= claims.expires_at:
        raise TicketError(f"ticket expired at {claims.expires_at.isoformat()}")
    return claims


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, _MAC + payload, hashlib.sha256)


def _split(token: str) -> tuple[bytes, bytes]:
    parts = token.split(".")
    if len(token) > MAX_TOKEN_CHARS or len(parts) != 2:
        raise TicketError("ticket is malformed")
    try:
        decoded = [_decode(part) for part in parts]
    except (binascii.Error, ValueError) as error:
        raise TicketError("ticket is malformed") from error
    return decoded[0], decoded[1]


def _claims(payload: bytes) -> Claims:
    try:
        body = json.loads(payload)
        return Claims(
            checkpoint_id=str(body["checkpoint_id"]),
            job_id=str(body["job_id"]),
            holder=str(body["holder"]),
            receiver=str(body["receiver"]),
            expires_at=_EPOCH + body["expires_at_us"] * _US,
            max_bps=body["max_bps"],
        )
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise TicketError("ticket is malformed") from error


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(data) != text:  # one token, one spelling
        raise ValueError("not canonical base64url")
    return data
