"""Certificates as a utility issues them: a CA, our server, clients with and without a role."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

ROLE = ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
FROM = datetime(2020, 1, 1, tzinfo=UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def utf8(text: str) -> bytes:
    """Write a UTF8String in DER."""
    data = text.encode()
    return bytes((0x0C, len(data))) + data


class Authority:
    """Issues into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("ca", self.key, ca=True)
        self._write("ca", self.certificate, self.key)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str, *roles: bytes) -> tuple[Path, Path]:
        """Issue a certificate with one extension per role, each as raw DER."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._write(name, self._sign(name, key, roles=roles), key)

    def der(self, name: str, *roles: bytes) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        return self._sign(name, key, roles=roles).public_bytes(serialization.Encoding.DER)

    def _sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, *, roles: tuple[bytes, ...] = (), ca: bool = False
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(FROM)
            .not_valid_after(FROM + timedelta(days=36_500))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        for role in roles:
            builder = builder.add_extension(x509.UnrecognizedExtension(ROLE, role), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> tuple[Path, Path]:
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_file, key_file
