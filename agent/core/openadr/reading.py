"""Strict reading of nested JSON: every fault names its path, unknown fields are let pass."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from agent.core.openadr.times import parse_duration, parse_start
from agent.model.openadr import Duration

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
MAX_TEXT = 4096
MAX_ITEMS = 5000
MAX_FIGURE = 1e15

T = TypeVar("T")


class Fault(Exception):  # noqa: N818 - an expected no, turned into a value before it leaves core
    """A field that cannot be used."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path or 'document'}: {detail}"[:300])


def load(document: bytes) -> object:
    """Read JSON; NaN, infinities and repeated keys are none."""
    if len(document) > MAX_DOCUMENT_BYTES:
        raise Fault("", f"more than {MAX_DOCUMENT_BYTES} bytes")
    try:
        value: object = json.loads(
            document.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise Fault("", "not JSON") from error
    return value


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is repeated")
    return value


def _no_constant(word: str) -> object:
    raise ValueError(word)


@dataclass(frozen=True, slots=True)
class Node:
    """One object of a document, and where in the document it is."""

    value: Mapping[str, object]
    path: str = ""

    @classmethod
    def of(cls, value: object, path: str = "") -> "Node":
        """Take a value that must be an object."""
        if not isinstance(value, dict):
            raise Fault(path, "not an object")
        return cls(value, path)

    def at(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def maybe(self, read: Callable[[str], T], name: str) -> T | None:
        """Read a field that may be absent or null."""
        return None if self.value.get(name) is None else read(name)

    def text(self, name: str, *, shortest: int = 0) -> str:
        """Read a string."""
        return text(self.value.get(name), self.at(name), shortest=shortest)

    def identity(self, name: str) -> str:
        """Read an id: short, printable, not empty."""
        value = self.text(name, shortest=1)
        if len(value) > 128 or not value.isprintable():
            raise Fault(self.at(name), "not an id of at most 128 printable characters")
        return value

    def integer(self, name: str) -> int:
        """Read a whole number of 32 bits."""
        value = self.value.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**31:
            raise Fault(self.at(name), "not a whole number of 32 bits")
        return value

    def boolean(self, name: str) -> bool:
        """Read true or false."""
        value = self.value.get(name)
        if not isinstance(value, bool):
            raise Fault(self.at(name), "not true or false")
        return value

    def start(self, name: str) -> datetime:
        """Read a start, which may stand for now."""
        parsed = parse_start(self.text(name))
        if parsed is None:
            raise Fault(self.at(name), "not an instant with an offset from UTC")
        return parsed

    def duration(self, name: str) -> Duration:
        """Read a duration."""
        parsed = parse_duration(self.text(name))
        if parsed is None:
            raise Fault(self.at(name), "not a duration")
        return parsed

    def child(self, name: str) -> "Node":
        """Read an object."""
        return Node.of(self.value.get(name), self.at(name))

    def items(self, name: str) -> Iterator[tuple[object, str]]:
        """Read a list, each item with its path; absent or null counts as empty."""
        value = self.value.get(name)
        if value is None:
            return
        yield from listed(value, self.at(name))

    def children(self, name: str) -> Iterator["Node"]:
        """Read a list of objects."""
        for value, path in self.items(name):
            yield Node.of(value, path)

    def texts(self, name: str) -> tuple[str, ...]:
        """Read a list of strings."""
        return tuple(text(value, path) for value, path in self.items(name))


def listed(value: object, path: str) -> Iterator[tuple[object, str]]:
    """Read a list, each item with its path."""
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise Fault(path, f"not a list of at most {MAX_ITEMS}")
    for index, item in enumerate(value):
        yield item, f"{path}[{index}]"


def text(value: object, path: str, *, shortest: int = 0) -> str:
    """Read a string of valid Unicode."""
    if not isinstance(value, str) or not shortest <= len(value) <= MAX_TEXT:
        raise Fault(path, f"not a string of {shortest} to {MAX_TEXT} characters")
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
        raise Fault(path, "half of a surrogate pair")
    return value


def figure(value: object, path: str) -> float:
    """Read a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault(path, "not a number")
    if not (abs(value) <= MAX_FIGURE and math.isfinite(value)):
        raise Fault(path, "not a finite number below 1e15")
    return float(value)
