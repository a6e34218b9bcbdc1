"""The fleet's certificate authority: one CA, one certificate per party, as files.

Everything is ECDSA on P-256. The CA may only sign names of its own fleet (a critical name constraint), so
that two fleets whose CAs are trusted side by side cannot speak for each other. `cryptography` is imported
here alone and only when called: daemons never need it.
"""

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sterna.clock import Clock, SystemClock
from sterna.errors import ConfigError
from sterna.identity import Identity, Role

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA_VALIDITY = timedelta(days=3653)
LEAF_VALIDITY = timedelta(days=365)
# Clocks of fresh sites are off; a certificate issued now must be valid there.
BACKDATE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedFiles:
    """Where the files of one party lie, and whom they name. For the CA itself, `identity` is None."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    identity: Identity | None


def init(folder: Path, fleet: str, *, clock: Clock | None = None) -> IssuedFiles:
    """Make the fleet's CA: ``ca.pem`` and ``ca-key.pem`` (mode 0600), valid for ten years.

    Parameters
    ----------
    folder : Path
        Made when absent (mode 0700).
    fleet : str
        Trust domain: lower-case DNS labels.
    clock : Clock or None
        None: the machine's.

    Raises
    ------
    ConfigError
        When there is a CA already, or the fleet's name is not usable.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        Identity(fleet=fleet, role=Role.COORDINATOR, name="x")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    files = IssuedFiles(
        ca_file=folder / "ca.pem", cert_file=folder / "ca.pem", key_file=folder / "ca-key.pem", identity=None
    )
    _refuse_to_overwrite(files.ca_file, files.key_file)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"Sterna fleet {fleet}"[:64], fleet)
    now = (clock or SystemClock()).now()
    certificate = (
        _builder(subject, subject, key, now, CA_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.NameConstraints(
                permitted_subtrees=[x509.UniformResourceIdentifier(fleet)], excluded_subtrees=None
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    _write_pair(files, certificate, key)
    return files


def issue(
    folder: Path, role: Role, name: str, hosts: Iterable[str] = (), *, clock: Clock | None = None
) -> IssuedFiles:
    """Issue a certificate under the CA in `folder`: ``<role>-<name>.pem`` and ``-key.pem``, valid for a year.

    Parameters
    ----------
    folder : Path
        Where `init` put the CA.
    role : Role
        What the holder may do.
    name : str
        One lower-case DNS label.
    hosts : iterable of str
        Further host names or IP addresses, for clients that do not know our server names (grpcurl).
    clock : Clock or None
        None: the machine's.

    Raises
    ------
    ConfigError
        When there is no CA, the files exist already, or the name is not usable.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    ca, ca_key = _load_ca(folder)
    fleet = _fleet_of(ca, folder)
    try:
        identity = Identity(fleet=fleet, role=role, name=name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    files = IssuedFiles(
        ca_file=folder / "ca.pem",
        cert_file=folder / f"{role.value}-{name}.pem",
        key_file=folder / f"{role.value}-{name}-key.pem",
        identity=identity,
    )
    _refuse_to_overwrite(files.cert_file, files.key_file)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(identity.uri),
        x509.DNSName(identity.server_name),
        *(_host_name(host) for host in hosts),
    ]
    usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    now = (clock or SystemClock()).now()
    certificate = (
        _builder(_subject(name, fleet), ca.subject, key, now, LEAF_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    _write_pair(files, certificate, key)
    return files


def make_signing_key(folder: Path, name: str) -> tuple[Path, Path]:
    """Make an Ed25519 key: ``<name>.pem`` (private, mode 0600) and ``<name>-public.pem``.

    Parameters
    ----------
    folder : Path
        Made when absent (mode 0700).
    name : str
        Of the files.

    Returns
    -------
    tuple of Path
        The private and the public file.

    Raises
    ------
    ConfigError
        One of the files exists already.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    private, public = folder / f"{name}.pem", folder / f"{name}-public.pem"
    _refuse_to_overwrite(private, public)
    key = Ed25519PrivateKey.generate()
    _write(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    return private, public


def _builder(
    subject: "x509.Name",
    issuer: "x509.Name",
    key: "EllipticCurvePrivateKey",
    now: datetime,
    validity: timedelta,
) -> "x509.CertificateBuilder":
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + validity)
    )


def _subject(common_name: str, fleet: str) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, fleet[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(*, ca: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _load_ca(folder: Path) -> "tuple[x509.Certificate, EllipticCurvePrivateKey]":
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    ca_file, key_file = folder / "ca.pem", folder / "ca-key.pem"
    try:
        ca = x509.load_pem_x509_certificate(ca_file.read_bytes())
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot read the fleet's CA: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{folder}: ca.pem or ca-key.pem is damaged: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
        raise ConfigError(f"{key_file}: is not the key of {ca_file}")
    return ca, key


def _fleet_of(ca: "x509.Certificate", folder: Path) -> str:
    from cryptography import x509

    try:
        constraints = ca.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound as error:
        raise ConfigError(f"{folder / 'ca.pem'}: is not a fleet's CA (no name constraint)") from error
    fleets = [name.value for name in constraints.permitted_subtrees or () if isinstance(name.value, str)]
    if len(fleets) != 1:
        raise ConfigError(f"{folder / 'ca.pem'}: names {len(fleets)} fleets, expected one")
    return fleets[0]


def _refuse_to_overwrite(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise ConfigError(f"{path}: exists already and is not overwritten")


def _write_pair(files: IssuedFiles, certificate: "x509.Certificate", key: "EllipticCurvePrivateKey") -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    # The key first: a certificate without its key is of no use to anybody.
    _write(files.key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write(files.cert_file, certificate.public_bytes(Encoding.PEM), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # O_EXCL: also refuses what appeared since we looked.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"{path}: cannot write: {error.strerror}") from error
