"""The chain of signed records: how a record is written down, bound to the one before, and gathered by day.

Owns the bytes (docs/ledger.md states them) and nothing that signs or stores. Instants never go back along the
chain, so that the records of a UTC day lie together; the root of a day stands before the first record of a
later one, and is stamped with the midnight that ended it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from hashlib import sha256
from typing import Any

from coordinator.core import merkle

FORMAT = "sterna.ledger/1"
SEAL_FORMAT = "sterna.seal/1"
HEAD_FORMAT = "sterna.head/1"
PROOF_FORMAT = "sterna.proof/1"
GENESIS = "0" * 64
"""What the first record holds in place of a hash."""

Plain = Mapping[str, Any]
"""A value of JSON: an object of strings, numbers, booleans, None, lists and objects."""


class Kind(Enum):
    """What a record is about."""

    DECISION = "decision"
    ENERGY = "energy"
    DAY = "day"
    """The root over all other records of a day; no leaf itself."""
    RESTORED = "restored"
    """The store came back older than what had been signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One link of the chain. `previous`: hex SHA-256 of the content of the record before."""

    seq: int
    at: datetime
    fleet: str
    kind: Kind
    previous: str
    body: Plain

    @property
    def day(self) -> date:
        """Return the UTC day of its instant."""
        return day_of(self.at)

    @property
    def is_leaf(self) -> bool:
        """Tell whether it is a leaf of its day's tree."""
        return self.kind is not Kind.DAY

    def plain(self) -> dict[str, Any]:
        """Return it as a value of JSON."""
        return {
            "at": stamp(self.at),
            "body": self.body,
            "fleet": self.fleet,
            "format": FORMAT,
            "kind": self.kind.value,
            "previous": self.previous,
            "seq": self.seq,
        }

    def content(self) -> bytes:
        """Return the canonical bytes: what is hashed and signed."""
        return canonical(self.plain())


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a chain ends: the next record's number, hash and instant of the last one, the tree of the day."""

    next_seq: int = 0
    previous: str = GENESIS
    at: datetime | None = None
    tree: merkle.Frontier = field(default_factory=merkle.Frontier)

    @property
    def open_day(self) -> date | None:
        """Return the day whose root is still to come; None: the last one has it."""
        return day_of(self.at) if self.at is not None and self.tree.size else None


def canonical(value: Plain) -> bytes:
    """Return the one JSON of a value: keys sorted, no spaces, UTF-8, floats in their shortest form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def stamp(at: datetime) -> str:
    """Return an instant as RFC 3339 in UTC, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def day_of(at: datetime) -> date:
    """Return the UTC day of an instant."""
    return at.astimezone(UTC).date()


def content_hash(content: bytes) -> str:
    """Return what the next record holds of this one: its hex SHA-256."""
    return sha256(content).hexdigest()


def linked(
    head: Head, fleet: str, at: datetime, bodies: Sequence[tuple[Kind, Plain]]
) -> tuple[tuple[tuple[Record, bytes], ...], Head]:
    """Return the records of new bodies with their canonical bytes, and where the chain ends then.

    Parameters
    ----------
    head : Head
        Where it ended.
    fleet : str
        Whose chain it is.
    at : datetime
        Now. Where the clock went back, the instant of the last record is taken.
    bodies : sequence
        What is to be recorded; none: only a day that is over is closed.
    """
    at = at if head.at is None else max(at, head.at)
    records = []
    if head.open_day is not None and day_of(at) > head.open_day:
        midnight = datetime.combine(head.open_day + timedelta(days=1), time(), tzinfo=UTC)
        record, content, head = _next(head, fleet, midnight, Kind.DAY, day_body(head))
        records.append((record, content))
    for kind, body in bodies:
        record, content, head = _next(head, fleet, at, kind, body)
        records.append((record, content))
    return tuple(records), head


def advanced(head: Head, record: Record, content: bytes) -> Head:
    """Return where the chain ends after one more record.

    Parameters
    ----------
    head : Head
        Where it ended.
    record : Record
        The next.
    content : bytes
        Its canonical bytes.
    """
    fresh = head.at is None or day_of(head.at) != record.day
    tree = merkle.Frontier() if fresh or not record.is_leaf else head.tree
    return Head(
        next_seq=record.seq + 1,
        previous=content_hash(content),
        at=record.at,
        tree=tree.add(merkle.leaf_hash(content)) if record.is_leaf else tree,
    )


def day_body(head: Head) -> dict[str, Any]:
    """Return what is signed of the open day: its root, its size, and the number of its first record."""
    assert head.open_day is not None  # its caller has looked
    size = head.tree.size
    return {
        "day": head.open_day.isoformat(),
        "first": head.next_seq - size,
        "root": head.tree.root().hex(),
        "size": size,
    }


def _next(head: Head, fleet: str, at: datetime, kind: Kind, body: Plain) -> tuple[Record, bytes, Head]:
    record = Record(seq=head.next_seq, at=at, fleet=fleet, kind=kind, previous=head.previous, body=body)
    content = record.content()
    return record, content, advanced(head, record, content)
