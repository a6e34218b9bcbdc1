"""Ed25519 keys in PEM files: made, read, used. `cryptography` is imported when a key is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sterna.config import read_secret
from sterna.errors import ConfigError

Sign = Callable[[bytes], bytes]
"""Signs a content: 64 bytes."""
Verify = Callable[[bytes, bytes], bool]
"""Tells whether a signature (first) is that of a content (second)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key in use. `public`: the raw 32 bytes of its public half."""

    public: bytes
    sign: Sign = field(repr=False)


def load_signing_key(path: Path) -> SigningKey:
    """Read a private key, as ``sterna pki ledger-key`` writes it.

    Raises
    ------
    ConfigError
        The file cannot be read, may be read by everybody, or holds no Ed25519 private key; it is named.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    secret = read_secret(path)
    try:
        key = load_pem_private_key(secret.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: no private key to read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: expected an Ed25519 private key")
    return SigningKey(public=key.public_key().public_bytes_raw(), sign=key.sign)


def load_verifier(path: Path) -> Verify:
    """Read a public key, as ``sterna pki ledger-key`` or ``openssl pkey -pubout`` write it.

    Raises
    ------
    ConfigError
        The file cannot be read, or holds no Ed25519 public key; it is named.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: no public key to read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: expected an Ed25519 public key")
    good = key

    def verify(signature: bytes, content: bytes) -> bool:
        try:
            good.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    return verify
