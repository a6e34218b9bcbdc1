"""What an operator signs: the topic and the message, in one form that every JSON library can make.

The form is that of RFC 8785 (JSON Canonicalization Scheme), except that whole numbers keep all their digits.
The topic goes in front, so that a message for one site, or of one kind, is worth nothing elsewhere. Knows no
cryptography: `agent.grid.signing` checks the signature.
"""

import base64
import binascii
import json
import math
from decimal import Decimal

from agent.core import fields

SIGNATURE_FIELD = "sig"
SIGNATURE_BYTES = 64


def signed_bytes(topic: str, message: fields.Message) -> bytes:
    """Return the bytes that the signature of a message is over.

    Parameters
    ----------
    topic : str
        To which the message is published, e.g. ``dr/v1/dso-x/site-a/limit``.
    message : mapping
        As read by `fields.message`; its field ``sig`` is left out.
    """
    unsigned = {name: value for name, value in message.items() if name != SIGNATURE_FIELD}
    return f"{topic}\n{_canonical(unsigned)}".encode("utf-8", "surrogatepass")


def signature(message: fields.Message) -> bytes | None:
    """Read the field ``sig``, base64 of 64 bytes; None: absent or null.

    Raises
    ------
    FieldError
        It is something else.
    """
    text = fields.optional(fields.text, message, SIGNATURE_FIELD)
    if text is None:
        return None
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise fields.malformed(SIGNATURE_FIELD, "not base64") from error
    if len(value) != SIGNATURE_BYTES:
        raise fields.malformed(SIGNATURE_FIELD, f"not {SIGNATURE_BYTES} bytes")
    return value


def _canonical(value: object) -> str:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_text(name)}:{_canonical(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    return _number(value) if isinstance(value, float) else json.dumps(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """Write a number as ECMAScript does, which is what RFC 8785 asks for."""
    if not math.isfinite(value):
        return repr(value)  # no JSON; such a message is refused for it elsewhere
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    return ("-" if sign else "") + _placed(text, len(text) + exponent)


def _placed(digits: str, point: int) -> str:
    """Write digits with the decimal point after `point` of them (ECMA-262, Number::toString)."""
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{point - 1:+d}"
