"""What an auditor does with an export or a proof: check every byte, and name the first record that is wrong.

Needs no store and no secret: only the bytes, and somebody who checks signatures with the public key.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from coordinator.core import chain, merkle
from coordinator.core.chain import Head, Kind, Record

Verify = Callable[[bytes, bytes], bool]
"""Tells whether a signature (first) is that of a content (second)."""


class FaultError(Exception):
    """What is wrong, and where; never leaves this module."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place}: {why}")
        self.place = place
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A day with its root. `checked` False: it began before the export, so that leaves are missing."""

    day: date
    size: int
    root: str
    checked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an export holds. `fault` "": all of it is as it was signed; else where and why not."""

    fault: str
    records: int
    first: int | None
    last: int | None
    last_hash: str
    fleet: str
    days: tuple[Day, ...]
    hashes: tuple[str, ...] = ()
    """Of every record, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofReport:
    """What a proof shows. `day_signed` False: the day was not over, its root is that of so far."""

    fault: str
    record: Record | None = None
    day: str = ""
    day_signed: bool = False


def audit(lines: Iterable[bytes], verify: Verify) -> Report:
    """Check an export from its first byte to its last.

    Parameters
    ----------
    lines : iterable of bytes
        The file's lines with their ends.
    verify : callable
        Checks signatures.
    """
    book = _Book(verify)
    fault = ""
    try:
        for line in lines:
            book.take(line)
        book.end()
    except FaultError as error:
        fault = str(error)
    head = book.head
    return Report(
        fault=fault,
        records=len(book.hashes),
        first=book.first,
        last=head.next_seq - 1 if book.hashes else None,
        last_hash=head.previous,
        fleet=book.fleet,
        days=tuple(book.days),
        hashes=tuple(book.hashes),
    )


def fork(older: Report, newer: Report) -> str:
    """Return where two exports of one chain contradict each other; "" where they do not.

    Parameters
    ----------
    older, newer : Report
        Both without fault; `older` was exported first.
    """
    if older.fleet and newer.fleet and older.fleet != newer.fleet:
        return f"one is of fleet {older.fleet}, the other of {newer.fleet}"
    if older.first is None or older.last is None:
        return ""
    if newer.first is None or newer.last is None:
        return f"record {older.first}: was there, and is not any more"
    for seq in range(max(older.first, newer.first), min(older.last, newer.last) + 1):
        if older.hashes[seq - older.first] != newer.hashes[seq - newer.first]:
            return f"record {seq}: is not what it was: the chain was begun anew from an older copy"
    if newer.last < older.last:
        return f"record {newer.last + 1}: was there, and is not any more: the chain was cut"
    return ""


def audit_proof(document: bytes, verify: Verify) -> ProofReport:
    """Check that a record is in the tree of its day.

    Parameters
    ----------
    document : bytes
        One line, as `proof_document` makes it.
    verify : callable
        Checks signatures.
    """
    try:
        return _proof(document, verify)
    except FaultError as error:
        return ProofReport(fault=str(error))


class _Book:
    """An export as far as it was read."""

    def __init__(self, verify: Verify) -> None:
        self._verify = verify
        self._sealed = False
        self._whole_day = False
        self.head = Head()
        self.first: int | None = None
        self.fleet = ""
        self.hashes: list[str] = []
        self.days: list[Day] = []

    @property
    def _place(self) -> str:
        return f"record {self.head.next_seq}" if self.first is not None else "the first line"

    def take(self, line: bytes) -> None:
        if self._sealed:
            raise FaultError("after the seal", "there is more, and nothing may be")
        document = _parsed(line, self._place)
        if set(document) == {"seal", "signature"}:
            self._seal(document)
            return
        record, content = _record(document, self._place, self._verify)
        if self.first is None:
            self.first, self.fleet = record.seq, record.fleet
            self.head = Head(next_seq=record.seq, previous=record.previous)
            self._whole_day = record.seq == 0
            if record.seq == 0 and record.previous != chain.GENESIS:
                raise FaultError("record 0", "names a record before it")
        self._follows(record)
        self.hashes.append(chain.content_hash(content))
        self.head = chain.advanced(self.head, record, content)

    def _follows(self, record: Record) -> None:
        head, place = self.head, self._place
        if record.seq != head.next_seq:
            raise FaultError(place, f"is missing: record {record.seq} stands in its place")
        if record.previous != head.previous:
            raise FaultError(place, "does not hold the hash of the record before it")
        if record.fleet != self.fleet:
            raise FaultError(place, f"is of fleet {record.fleet}, the first is of {self.fleet}")
        if head.at is not None and record.at < head.at:
            raise FaultError(place, "is earlier than the record before it")
        if record.kind is Kind.DAY:
            self._close_day(record)
        elif head.open_day is not None and record.day != head.open_day:
            raise FaultError(place, f"is of a new day, and {head.open_day} has no root")

    def _close_day(self, record: Record) -> None:
        stated = record.body
        checked = self._whole_day
        if checked and (self.head.open_day is None or dict(stated) != chain.day_body(self.head)):
            raise FaultError(self._place, "its root is not that of the day's records")
        try:
            day = Day(
                day=date.fromisoformat(stated["day"]),
                size=int(stated["size"]),
                root=str(stated["root"]),
                checked=checked,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FaultError(self._place, "is no root of a day") from error
        self.days.append(day)
        self._whole_day = True

    def _seal(self, document: dict[str, Any]) -> None:
        stated = _signed(document, "seal", "the seal", self._verify)
        wanted = seal_body(
            fleet=self.fleet or str(stated.get("fleet", "")),
            first=self.first if self.first is not None else 0,
            count=len(self.hashes),
            last_hash=self.head.previous,
            at=str(stated.get("at", "")),
        )
        if stated != wanted:
            said = f"{stated.get('count')} records, the last {str(stated.get('last_hash'))[:16]}…"
            raise FaultError(
                self._place, f"is missing or another: the seal is of {said}; {len(self.hashes)} are here"
            )
        self._sealed = True

    def end(self) -> None:
        if not self._sealed:
            raise FaultError(self._place, "is missing: the export ends here, without its seal")


def seal_body(*, fleet: str, first: int, count: int, last_hash: str, at: str) -> dict[str, Any]:
    """Return what is signed at the end of an export: how much of which chain it is."""
    return {
        "at": at,
        "count": count,
        "first": first,
        "fleet": fleet,
        "format": chain.SEAL_FORMAT,
        "last_hash": last_hash,
    }


def record_line(content: bytes, signature: bytes) -> bytes:
    """Return the line of an export that holds a record."""
    return _line("record", content, signature)


def seal_line(content: bytes, signature: bytes) -> bytes:
    """Return the last line of an export."""
    return _line("seal", content, signature)


def _line(name: str, content: bytes, signature: bytes) -> bytes:
    # The content is canonical JSON already, and "record" and "seal" sort before "signature".
    return b'{"%s":%s,"signature":"%s"}\n' % (name.encode(), content, signature.hex().encode())


def proof_document(
    *, content: bytes, signature: bytes, index: int, path: Iterable[bytes], tree: tuple[str, bytes, bytes]
) -> bytes:
    """Return the proof that a record is in the tree of its day.

    Parameters
    ----------
    content, signature : bytes
        Of the record.
    index : int
        Its place among the leaves of the day, from 0.
    path : iterable of bytes
        As `merkle.audit_path` gives it.
    tree : tuple
        Who vouches for the root: ``record`` (that of the day) or ``head`` (of a day that is not over), its
        content and its signature.
    """
    name, tree_content, tree_signature = tree
    document = {
        "format": chain.PROOF_FORMAT,
        "index": index,
        "path": [one.hex() for one in path],
        "record": json.loads(content),
        "signature": signature.hex(),
        "tree": {name: json.loads(tree_content), "signature": tree_signature.hex()},
    }
    return chain.canonical(document) + b"\n"


def _proof(document: bytes, verify: Verify) -> ProofReport:
    proof = _parsed(document, "the proof")
    if set(proof) != {"format", "index", "path", "record", "signature", "tree"}:
        raise FaultError("the proof", "is not one")
    if proof["format"] != chain.PROOF_FORMAT:
        raise FaultError("the proof", f"is of the format {proof['format']}")
    record, content = _record(
        {"record": proof["record"], "signature": proof["signature"]}, "the record", verify
    )
    tree = proof["tree"]
    if not isinstance(tree, dict) or set(tree) not in ({"record", "signature"}, {"head", "signature"}):
        raise FaultError("the tree", "is neither a day's record nor a head")
    if "record" in tree:
        root_record, _ = _record(tree, "the day's record", verify)
        stated, fleet = dict(root_record.body), root_record.fleet
        if root_record.kind is not Kind.DAY:
            raise FaultError("the day's record", "is of another kind")
    else:
        stated = _signed(tree, "head", "the head", verify)
        fleet = str(stated.get("fleet"))
    if fleet != record.fleet or stated.get("day") != record.day.isoformat() or not record.is_leaf:
        raise FaultError("the tree", "is of another day or fleet than the record")
    _check_path(proof, stated, record, content)
    return ProofReport(fault="", record=record, day=str(stated["day"]), day_signed="record" in tree)


def _check_path(proof: dict[str, Any], stated: dict[str, Any], record: Record, content: bytes) -> None:
    try:
        index, size, first = (int(one) for one in (proof["index"], stated["size"], stated["first"]))
        path = [bytes.fromhex(one) for one in proof["path"]]
        wanted = bytes.fromhex(stated["root"])
    except (KeyError, TypeError, ValueError) as error:
        raise FaultError("the path", "is not readable") from error
    if index != record.seq - first:
        raise FaultError("the path", "is of another place than the record's")
    if merkle.root_from_path(merkle.leaf_hash(content), index, size, path) != wanted:
        raise FaultError("the path", "does not lead from the record to the root")


def _record(document: dict[str, Any], place: str, verify: Verify) -> tuple[Record, bytes]:
    plain = _signed(document, "record", place, verify)
    try:
        record = Record(
            seq=plain["seq"],
            at=datetime.fromisoformat(plain["at"]),
            fleet=plain["fleet"],
            kind=Kind(plain["kind"]),
            previous=plain["previous"],
            body=plain["body"],
        )
        same = record.plain() == plain and isinstance(record.seq, int)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FaultError(place, "has not the fields of a record") from error
    if not same:
        raise FaultError(place, "is of another format")
    return record, chain.canonical(plain)


def _signed(document: dict[str, Any], name: str, place: str, verify: Verify) -> dict[str, Any]:
    """Return what is signed, if the signature is good."""
    content, signature = document.get(name), document.get("signature")
    if set(document) != {name, "signature"} or not isinstance(content, dict):
        raise FaultError(place, "is no record with a signature")
    try:
        good = isinstance(signature, str) and verify(bytes.fromhex(signature), chain.canonical(content))
    except ValueError:
        good = False
    # Hex may be written in capitals: the bytes of the file are to be those that were exported.
    if not good or signature != str(signature).lower():
        raise FaultError(place, "its signature is not that of the key")
    return content


def _parsed(line: bytes, place: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
        same = chain.canonical(document) + b"\n" == line
    except (ValueError, RecursionError) as error:
        raise FaultError(place, "is no JSON") from error
    if not isinstance(document, dict) or not same:
        raise FaultError(place, "is not written as it was exported")
    return document


def read_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines with their ends from pieces of a file."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest
