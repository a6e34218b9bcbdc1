"""Bad bytes: random ones, random JSON, and mutants of a valid JSON object."""

import json
import math
import random

WORDS = (
    "",
    "id",
    "v",
    "valueW",
    "NaN",
    "null",
    "\x00",
    "\ud800",
    "ﬀ",
    "-1",
    "1e999",
    "9" * 40,
    "true",
    "☃" * 50,
)
NUMBERS = (0, -0.0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63), 10**30, 1e-300, 1e308, math.nan, math.inf, 0.1)


def junk(rng: random.Random, longest: int = 300) -> bytes:
    """Return bytes at random: none at all, ASCII, anything, deep or long."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(longest))
    if kind == 1:
        return bytes(rng.randrange(32, 127) for _ in range(rng.randrange(longest)))
    if kind == 2:
        return bytes(rng.choice(b'{}[]":,0123456789.eE+-tfn \\u') for _ in range(rng.randrange(longest)))
    if kind == 3:
        return rng.choice((b"[", b'{"a":')) * rng.choice((1, 20, 900, 1200, 4000))
    if kind == 4:
        return rng.choice((b"", b"null", b"0", b"{}", b"[]", b'""', b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00"))
    if kind == 5:
        return b" " * rng.choice((1, 8191, 8193, 70_000)) + b"{}"
    if kind == 6:
        depth = rng.choice((1, 15, 17, 300, 700, 900, 990))
        return b'{"v":1,"x":' + b"[" * depth + b"]" * depth + b"}"
    return written(wild(rng))


def wild(rng: random.Random, depth: int = 3) -> object:
    """Return a random JSON value."""
    kind = rng.randrange(7 if depth else 5)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice(WORDS)
    if kind == 3:
        return rng.choice((None, True, False))
    if kind == 4:
        return rng.uniform(-1e6, 1e6)
    if kind == 5:
        return [wild(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(WORDS): wild(rng, depth - 1) for _ in range(rng.randrange(4))}


def written(value: object) -> bytes:
    """Write JSON as Python does, NaN and half surrogates included."""
    return json.dumps(value).encode()


def torn(payload: bytes, rng: random.Random) -> bytes:
    """Return the payload with its structure broken: cut, joined, or with a key said twice."""
    kind = rng.randrange(4)
    if kind == 0:
        return payload[: rng.randrange(1, len(payload))]
    if kind == 1:
        return payload + rng.choice((b"}", b",", payload, b"\x00"))
    if kind == 2:
        return payload[:-1] + b"," + payload[1:]
    return payload[:-1] + b',"extra":' + b"[" * rng.choice((50, 5000)) + b"}"


def flipped(payload: bytes, rng: random.Random, most: int = 3) -> bytes:
    """Return the payload with a few of its bytes changed."""
    changed = bytearray(payload)
    for _ in range(rng.randint(1, most)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def without(message: dict[str, object], name: str) -> dict[str, object]:
    """Return the message without a field."""
    return {key: value for key, value in message.items() if key != name}


def retyped(value: object, rng: random.Random) -> object:
    """Return something of another JSON type."""
    return rng.choice([other for kind, other in OTHERS.items() if kind is not _kind(value)])


OTHERS: dict[type, object] = {type(None): None, bool: True, float: 7, str: "word", list: [], dict: {}}


def _kind(value: object) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)
