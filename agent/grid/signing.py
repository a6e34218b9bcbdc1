"""Signatures of the grid operator (Ed25519); the one module of the agent that imports `cryptography`.

It is imported only where the operator's key is configured: the library costs 8 MB.
"""

from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from agent.core import fields
from agent.core.fields import FieldError
from agent.core.signed import signature, signed_bytes
from agent.model.grid import Reason, Refusal
from sterna.errors import ConfigError


def load_key(path: Path) -> Ed25519PublicKey:
    """Read an operator's public key, as ``openssl pkey -pubout`` writes it.

    Raises
    ------
    ConfigError
        The file cannot be read, or holds no Ed25519 public key; it is named.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: no public key to read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: expected an Ed25519 public key")
    return key


class OperatorSeal:
    """Tells messages of the operator from others.

    Parameters
    ----------
    keys : sequence of Ed25519PublicKey
        Any of them will do: while a key is replaced, both are configured.
    base_topic : str
        What the site's topics begin with, e.g. ``dr/v1/dso-x/site-a``.
    """

    def __init__(self, *, keys: Sequence[Ed25519PublicKey], base_topic: str) -> None:
        if not keys:
            raise ConfigError("a seal needs a key")
        self._keys = tuple(keys)
        self._base_topic = base_topic

    def check(self, leaf: str, payload: bytes) -> Refusal | None:
        """Return why a message to ``<base_topic>/<leaf>`` is not the operator's; None: it is."""
        try:
            message = fields.message(payload)
            value = signature(message)
        except FieldError as error:
            return error.refusal
        if value is None:
            return Refusal(reason=Reason.NOT_SIGNED, field="sig")
        signed = signed_bytes(f"{self._base_topic}/{leaf}", message)
        if any(_verifies(key, value, signed) for key in self._keys):
            return None
        return Refusal(reason=Reason.BAD_SIGNATURE, field="sig")


def _verifies(key: Ed25519PublicKey, value: bytes, signed: bytes) -> bool:
    try:
        key.verify(value, signed)
    except InvalidSignature:
        return False
    return True
