"""Who somebody is: a SPIFFE URI, the role in it, and the files that prove it.

It knows certificates by what a peer would see of them, and does not make any (`sterna.pki` does). Checking
costs no library: the own certificate is shown to ourselves over a TLS handshake in memory, so that what
would be refused by a peer is refused at the start, with the file named.
"""

import re
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from sterna.errors import ConfigError

SERVER_NAME_SUFFIX = "sterna.internal"

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(_LABEL)
_FLEET = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_FLEET_LENGTH_MAX = 100
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME: the caller's `now` decides


class Role(Enum):
    """What a certificate lets its holder do."""

    SITE = "site"
    COORDINATOR = "coordinator"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


def fleet_fault(fleet: str) -> str:
    """Say why a text is no fleet's name; empty when it is one."""
    if len(fleet) <= _FLEET_LENGTH_MAX and _FLEET.fullmatch(fleet):
        return ""
    return f"fleet {fleet!r} is not made of lower-case letters, digits, '-' and '.'"


def name_fault(name: str) -> str:
    """Say why a text is no party's name; empty when it is one."""
    return (
        ""
        if _NAME.fullmatch(name)
        else f"name {name!r} is not made of lower-case letters, digits and '-', up to 63"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One party of a fleet: ``spiffe://<fleet>/<role>/<name>``.

    Parameters
    ----------
    fleet : str
        Trust domain: lower-case DNS labels.
    role : Role
        What it may do.
    name : str
        One lower-case DNS label (letters, digits, hyphens, at most 63), so that it can stand in a host name.

    Raises
    ------
    ValueError
        When fleet or name is not of that form.
    """

    fleet: str
    role: Role
    name: str

    def __post_init__(self) -> None:
        fault = fleet_fault(self.fleet) or name_fault(self.name)
        if fault:
            raise ValueError(fault)

    @classmethod
    def parse(cls, uri: str) -> "Identity":
        """Read a SPIFFE URI strictly.

        Raises
        ------
        ValueError
            When it is not exactly ``spiffe://<fleet>/<role>/<name>`` with a role that we know.
        """
        scheme, separator, rest = uri.partition("://")
        parts = rest.split("/")
        if scheme != "spiffe" or not separator or len(parts) != 3:
            raise ValueError(f"{uri!r} is not spiffe://<fleet>/<role>/<name>")
        fleet, role, name = parts
        if role not in {known.value for known in Role}:
            raise ValueError(f"{uri!r} has no role that Sterna knows")
        return cls(fleet=fleet, role=Role(role), name=name)

    @property
    def uri(self) -> str:
        """The SPIFFE URI, as in the certificate's URI SAN."""
        return f"spiffe://{self.fleet}/{self.role.value}/{self.name}"

    @property
    def server_name(self) -> str:
        """The DNS SAN that a client expects of this party, wherever it is dialled."""
        return f"{self.name}.{self.role.value}.{self.fleet}.{SERVER_NAME_SUFFIX}"

    def __str__(self) -> str:
        return self.uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A checked certificate with its key and its fleet's CA, all PEM."""

    identity: Identity
    ca_pem: bytes
    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    not_after_at: datetime


def load_credentials(
    *, ca_file: Path, cert_file: Path, key_file: Path, now: datetime | None, expected: Identity | None = None
) -> Credentials:
    """Read and check the three PEM files of one party.

    Parameters
    ----------
    ca_file, cert_file, key_file : Path
        Fleet CA, own certificate, own unencrypted private key.
    now : datetime or None
        Aware; the certificate must be valid at it. None: the calendar cannot be believed, and the
        handshake with a peer will tell.
    expected : Identity or None
        Whom the certificate must name. None: anybody of the fleet.

    Raises
    ------
    ConfigError
        Naming the file: unreadable, no PEM, key of another certificate, signed by another CA, expired, not
        valid yet, without a SPIFFE URI, or of somebody else.
    """
    ca_pem, cert_pem, key_pem = (
        _read(ca_file, b"CERTIFICATE", "certificate"),
        _read(cert_file, b"CERTIFICATE", "certificate"),
        _read(key_file, b"PRIVATE KEY", "private key"),
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The password callback keeps OpenSSL from asking on the terminal for an encrypted key.
        server.load_cert_chain(cert_file, key_file, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{key_file}: is not the key of {cert_file}") from error
        raise ConfigError(f"{cert_file} or {key_file}: damaged, or the key is encrypted") from error
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= _NO_CHECK_TIME
    try:
        client.load_verify_locations(cadata=ca_pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{ca_file}: damaged certificate") from error
    try:
        seen = _shown_to_ourselves(client, server)
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(f"{cert_file}: not valid under the CA {ca_file}: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise ConfigError(f"{cert_file}: unusable for TLS: {error.reason}") from error
    identity = _identity_in(seen, cert_file)
    not_after_at = _check_time(seen, cert_file, now)
    if expected is not None and identity != expected:
        raise ConfigError(f"{cert_file}: is the certificate of {identity}, not of {expected}")
    return Credentials(
        identity=identity, ca_pem=ca_pem, cert_pem=cert_pem, key_pem=key_pem, not_after_at=not_after_at
    )


def _read(path: Path, marker: bytes, what: str) -> bytes:
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the {what}: {error.strerror}") from error
    if marker + b"-----" not in pem:
        raise ConfigError(f"{path}: no {what} in PEM form")
    return pem


def _shown_to_ourselves(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, object]:
    """Return the certificate as a verifying peer sees it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialling = client.wrap_bio(to_client, to_server)
    listening = server.wrap_bio(to_server, to_client, server_side=True)
    sides = [dialling, listening]
    while sides:
        for side in tuple(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)
    return dict(dialling.getpeercert() or {})


def _identity_in(certificate: dict[str, object], cert_file: Path) -> Identity:
    names = certificate.get("subjectAltName", ())
    assert isinstance(names, tuple)
    uris = [value for kind, value in names if kind == "URI"]
    if len(uris) != 1:
        raise ConfigError(f"{cert_file}: has {len(uris)} URI names, expected the one SPIFFE URI")
    try:
        return Identity.parse(uris[0])
    except ValueError as error:
        raise ConfigError(f"{cert_file}: {error}") from error


def _check_time(certificate: dict[str, object], cert_file: Path, now: datetime | None) -> datetime:
    not_before_at, not_after_at = (
        datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate[key])), UTC)
        for key in ("notBefore", "notAfter")
    )
    if now is None:
        return not_after_at
    if now > not_after_at:
        raise ConfigError(f"{cert_file}: expired at {not_after_at.isoformat()}")
    if now < not_before_at:
        raise ConfigError(f"{cert_file}: not valid before {not_before_at.isoformat()}; is the clock right?")
    return not_after_at
