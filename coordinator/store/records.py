"""The chain of signed records on disk: appended, never changed, in the transaction of what they are about."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select

from coordinator.core import audit, chain, merkle
from coordinator.core.chain import Head, Kind, Plain, Record
from coordinator.store import schema
from coordinator.store.database import Database
from sterna.clock import Clock
from sterna.errors import TransientError
from sterna.signing import SigningKey

log = logging.getLogger(__name__)

PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a chain had got: number and hash of its last record."""

    seq: int
    hash: str


class Recorder:
    """Signs records and appends them; the one writer of the chain.

    Parameters
    ----------
    database : Database
        Where.
    key : SigningKey
        The ledger's.
    fleet : str
        Whose chain it is.
    clock : Clock
        For the records' instants.
    """

    def __init__(self, *, database: Database, key: SigningKey, fleet: str, clock: Clock) -> None:
        self._database = database
        self._key = key
        self._fleet = fleet
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._head = database.run_now(_head)

    async def add(
        self,
        bodies: Sequence[tuple[Kind, str, Plain]],
        along: Callable[[Connection], object] | None = None,
    ) -> None:
        """Append records, in one transaction with what they are about.

        Parameters
        ----------
        bodies : sequence
            Kind, subject (by which a record is found again) and body of each; without any, only a day that
            is over is closed.
        along : callable or None
            What else the transaction does.

        Raises
        ------
        TransientError
            The database did not take them; nothing was stored.
        """
        async with self._one_at_a_time:
            try:
                self._head = await self._database.run(
                    lambda connection: self._append(connection, bodies, along)
                )
            except TransientError:
                # Nobody knows whether it was the commit that failed: what is stored decides.
                self._head = await self._database.run(_head)
                raise

    def _append(
        self,
        connection: Connection,
        bodies: Sequence[tuple[Kind, str, Plain]],
        along: Callable[[Connection], object] | None,
    ) -> Head:
        if along is not None:
            along(connection)
        plain = [(kind, body) for kind, _, body in bodies]
        records, head = chain.linked(self._head, self._fleet, self._clock.now(), plain)
        subjects = ["" for _ in range(len(records) - len(bodies))] + [subject for _, subject, _ in bodies]
        if records:
            rows = [self._row(*one, subject) for one, subject in zip(records, subjects, strict=True)]
            connection.execute(insert(schema.records), rows)
        return head

    @property
    def mark(self) -> Mark | None:
        """Return how far the chain has got; None: there is no record yet."""
        return Mark(seq=self._head.next_seq - 1, hash=self._head.previous) if self._head.next_seq else None

    async def holds(self, mark: Mark) -> bool:
        """Tell whether the chain has this record."""
        table = schema.records
        query = select(table.c.content).where(table.c.seq == mark.seq)
        content = await self._database.run(lambda connection: connection.execute(query).scalar())
        return content is not None and chain.content_hash(content.encode()) == mark.hash

    async def export(self, since: datetime | None, until: datetime | None) -> "Export":
        """Return where an export of an interval begins and ends; None: the whole chain.

        Parameters
        ----------
        since, until : datetime or None
            Records at or after the one, before the other.
        """
        return await self._database.run(lambda connection: _range(connection, since, until))

    async def page(self, export: "Export", first: int) -> list[bytes]:
        """Return the next lines of an export, from record `first` on; none at its end."""
        table = schema.records
        last = min(first + PAGE, export.first + export.count) - 1
        query = select(table.c.content, table.c.signature).where(table.c.seq >= first, table.c.seq <= last)
        rows = await self._database.run(
            lambda connection: connection.execute(query.order_by(table.c.seq)).all()
        )
        return [audit.record_line(content.encode(), signature) for content, signature in rows]

    def seal(self, export: "Export") -> bytes:
        """Return the last line of an export."""
        body = audit.seal_body(
            fleet=self._fleet,
            first=export.first,
            count=export.count,
            last_hash=export.last_hash,
            at=chain.stamp(self._clock.now()),
        )
        content = chain.canonical(body)
        return audit.seal_line(content, self._key.sign(content))

    async def prove(self, subject: str) -> bytes | None:
        """Return the proof that the last record of a subject is in the tree of its day; None: there is none.

        A day that is not over has no record of its root: its root so far is signed for the proof.
        """
        found = await self._database.run(lambda connection: _found(connection, subject))
        if found is None:
            return None
        at, hashes, tree = found.place, found.leaves, found.day
        if tree is None:
            body = {
                "at": chain.stamp(self._clock.now()),
                "day": found.day_name,
                "first": found.seq - at,
                "fleet": self._fleet,
                "format": chain.HEAD_FORMAT,
                "root": merkle.root(hashes).hex(),
                "size": len(hashes),
            }
            content = chain.canonical(body)
            tree = ("head", content, self._key.sign(content))
        return audit.proof_document(
            content=found.content,
            signature=found.signature,
            index=at,
            path=merkle.audit_path(hashes, at),
            tree=tree,
        )

    def _row(self, record: Record, content: bytes, subject: str) -> dict[str, object]:
        return {
            "seq": record.seq,
            "at": record.at,
            "day": record.day.isoformat(),
            "kind": record.kind.value,
            "subject": subject,
            "content": content.decode(),
            "signature": self._key.sign(content),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Which records an export has."""

    first: int
    count: int
    last_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    seq: int
    content: bytes
    signature: bytes
    day_name: str
    leaves: list[bytes]
    place: int
    day: tuple[str, bytes, bytes] | None


def _head(connection: Connection) -> Head:
    """Return where the stored chain ends: its last record, and the tree of its day.

    What was meddled with stops nobody from going on: fleets are run by the other tables, and whoever checks
    an export is told where the chain is broken.
    """
    table = schema.records
    last = connection.execute(select(table.c.seq, table.c.day).order_by(table.c.seq.desc()).limit(1)).first()
    if last is None:
        return Head()
    query = select(table.c.seq, table.c.at, table.c.kind, table.c.content).where(table.c.day == last.day)
    head, begun = Head(), False
    for row in connection.execute(query.order_by(table.c.seq)):
        if begun and row.seq != head.next_seq:
            log.error("a record of the ledger is missing", extra={"seq": head.next_seq})
        at = row.at if row.at.tzinfo else row.at.replace(tzinfo=UTC)
        # Of a record that is there the end of the chain needs no more than this and its bytes.
        record = Record(seq=row.seq, at=at, fleet="", kind=Kind(row.kind), previous="", body={})
        head, begun = chain.advanced(head, record, row.content.encode()), True
    return head


def _range(connection: Connection, since: datetime | None, until: datetime | None) -> Export:
    table = schema.records
    query = select(table.c.seq, table.c.content).order_by(table.c.seq)
    if since is not None:
        query = query.where(table.c.at >= since)
    if until is not None:
        query = query.where(table.c.at < until)
    first = connection.execute(query.limit(1)).first()
    if first is None:
        return Export(first=0, count=0, last_hash=chain.GENESIS)
    last = connection.execute(query.order_by(None).order_by(table.c.seq.desc()).limit(1)).first()
    assert last is not None  # the first one was found
    return Export(
        first=first.seq,
        count=last.seq - first.seq + 1,
        last_hash=chain.content_hash(last.content.encode()),
    )


def _found(connection: Connection, subject: str) -> _Found | None:
    table = schema.records
    query = select(table).where(table.c.subject == subject, table.c.kind != Kind.DAY.value)
    row = connection.execute(query.order_by(table.c.seq.desc()).limit(1)).first()
    if row is None:
        return None
    query = select(table.c.seq, table.c.content).where(table.c.day == row.day)
    query = query.where(table.c.kind != Kind.DAY.value).order_by(table.c.seq)
    leaves, place = [], 0
    for seq, content in connection.execute(query):
        place += seq < row.seq
        leaves.append(merkle.leaf_hash(content.encode()))
    after = select(table).where(table.c.kind == Kind.DAY.value, table.c.seq > row.seq).order_by(table.c.seq)
    day = connection.execute(after.limit(1)).first()
    return _Found(
        seq=row.seq,
        content=row.content.encode(),
        signature=row.signature,
        day_name=row.day,
        leaves=leaves,
        place=place,
        day=("record", day.content.encode(), day.signature) if day is not None else None,
    )
