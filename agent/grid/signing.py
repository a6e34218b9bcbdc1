"""Signatures of the grid operator (Ed25519): what tells its messages from others."""

from collections.abc import Sequence

from agent.core import fields
from agent.core.fields import FieldError
from agent.core.signed import signature, signed_bytes
from agent.model.grid import Reason, Refusal
from sterna.errors import ConfigError
from sterna.signing import Verify


class OperatorSeal:
    """Tells messages of the operator from others.

    Parameters
    ----------
    keys : sequence of Verify
        Any of them will do: while a key is replaced, both are configured.
    base_topic : str
        What the site's topics begin with, e.g. ``dr/v1/dso-x/site-a``.
    """

    def __init__(self, *, keys: Sequence[Verify], base_topic: str) -> None:
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
        if any(verify(value, signed) for verify in self._keys):
            return None
        return Refusal(reason=Reason.BAD_SIGNATURE, field="sig")
