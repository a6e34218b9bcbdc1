"""Strict reading of one JSON message: every fault names its field, no input escapes as another exception."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from agent.model.grid import Reason, Refusal

MAX_PAYLOAD_BYTES = 8192
MAX_DEPTH = 16
"""Nesting beyond it is refused: whoever reads the message again may have less stack left than the parser."""
MAX_SEQUENCE = 2**63 - 1
MAX_POWER_W = 1e10
"""Ten gigawatts: above every site there is, below every misread word order."""

Message = Mapping[str, object]
T = TypeVar("T")


class FieldError(Exception):
    """A field that cannot be used; lives only between this module and its callers in core."""

    def __init__(self, reason: Reason, field: str, detail: str = "") -> None:
        super().__init__(field)
        self.refusal = Refusal(reason=reason, field=field, detail=detail[:200])


def malformed(field: str, detail: str) -> FieldError:
    """Make the error of a field that has not the shape it should."""
    return FieldError(Reason.MALFORMED, field, detail)


def message(payload: bytes, longest: int = MAX_PAYLOAD_BYTES) -> Message:
    """Read a JSON object without repeated keys."""
    if len(payload) > longest:
        raise malformed("message", f"more than {longest} bytes")
    try:
        # RecursionError: nesting is the cheapest attack on a JSON parser.
        value = json.loads(payload.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise malformed("message", "not JSON") from error
    if not isinstance(value, dict):
        raise malformed("message", "not an object")
    if _deeper_than(value, MAX_DEPTH):
        raise malformed("message", f"nested deeper than {MAX_DEPTH}")
    return value


def _deeper_than(value: object, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is repeated")
    return value


def version(of: Message, known: int) -> None:
    """Check the message's version."""
    value = of.get("v")
    if isinstance(value, bool) or value != known:
        raise FieldError(Reason.WRONG_VERSION, "v", f"{value!r}")


def optional(read: Callable[[Message, str], T], of: Message, name: str) -> T | None:
    """Read a field that may be absent or null."""
    return None if of.get(name) is None else read(of, name)


def text(of: Message, name: str, *, longest: int = 256, shortest: int = 0) -> str:
    """Read a string."""
    value = of.get(name)
    if not isinstance(value, str):
        raise malformed(name, "not a string")
    if not shortest <= len(value) <= longest:
        raise malformed(name, f"not {shortest} to {longest} characters")
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
        raise malformed(name, "half of a surrogate pair")
    return value


def boolean(of: Message, name: str) -> bool:
    """Read true or false."""
    value = of.get(name)
    if not isinstance(value, bool):
        raise malformed(name, "not true or false")
    return value


def integer(of: Message, name: str) -> int:
    """Read a whole number from 0 to 2^63 - 1."""
    value = of.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEQUENCE:
        raise malformed(name, "not a whole number from 0 to 2^63 - 1")
    return value


def number(
    of: Message, name: str, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> float:
    """Read a finite number within bounds; NaN and infinities are refused as such."""
    value = of.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise malformed(name, "not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError(Reason.NOT_A_NUMBER, name)
    if value < least or value > most or (above != -math.inf and value <= above):
        raise malformed(name, "out of range")
    # JSON integers have no end, floats do; what was not bounded above is bounded here.
    return float(max(-(2**63), min(2**63, value))) if isinstance(value, int) else value


def power_w(of: Message, name: str) -> float:
    """Read a power in watts, 0 to `MAX_POWER_W`."""
    value = number(of, name)
    if value < 0:
        raise FieldError(Reason.NEGATIVE_VALUE, name)
    if value > MAX_POWER_W:
        raise FieldError(Reason.OUT_OF_BOUNDS, name)
    return value + 0.0  # -0.0 is 0


def instant(of: Message, name: str) -> datetime:
    """Read an RFC 3339 instant; without an offset it is refused."""
    value = text(of, name, longest=40)
    try:
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is None:
            raise malformed(name, "no offset from UTC")
        return parsed.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise malformed(name, "not an instant") from error


def readable_id(value: object) -> str | None:
    """Return a command id that can be answered to, from a message that is refused."""
    return value if isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable() else None


def readable_sequence(value: object) -> int | None:
    """Return a sequence that can be answered to, from a message that is refused."""
    ok = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEQUENCE
    return value if ok and isinstance(value, int) else None
