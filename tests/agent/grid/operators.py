"""Messages as a grid operator writes them, signed or not."""

import base64
import json
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agent.core.signed import signed_bytes
from agent.grid.signing import OperatorSeal
from agent.grid.wire import stamp

BASE = "dr/v1/dso/site-a"


def limit(seq: int, value_w: float | None, *, now: datetime, **more: object) -> dict[str, object]:
    """Write a limit, or with None its release."""
    return {
        "v": 1,
        "id": f"c{seq}",
        "seq": seq,
        "issued": stamp(now),
        "kind": "IMPORT_CAPACITY_LIMIT",
        "active": value_w is not None,
        "valueW": value_w,
        "start": None,
        "durationS": None,
        "rampS": 5,
        "reason": "test",
        **more,
    }


class Signer:
    """An operator's key."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()

    def verifies(self, value: bytes, content: bytes) -> bool:
        """Tell whether a signature is ours."""
        try:
            self.key.public_key().verify(value, content)
        except InvalidSignature:
            return False
        return True

    def sealed(self, leaf: str, message: dict[str, object], base: str = BASE) -> bytes:
        """Sign a message and write it."""
        value = self.key.sign(signed_bytes(f"{base}/{leaf}", message))
        return json.dumps({**message, "sig": base64.b64encode(value).decode()}).encode()

    def write_public(self, path: Path) -> Path:
        """Write the public key as ``openssl pkey -pubout`` does."""
        path.write_bytes(self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return path

    def write_private(self, path: Path) -> Path:
        """Write the private key as ``openssl genpkey`` does."""
        path.touch(mode=0o600)
        path.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path


def seal(*signers: Signer) -> OperatorSeal:
    """Make the seal of a site that knows these keys."""
    return OperatorSeal(keys=[signer.verifies for signer in signers], base_topic=BASE)
