"""The chain of records and its audit: whatever is done to an export is found, and named."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import audit, chain, merkle
from coordinator.core.audit import Report
from coordinator.core.chain import Head, Kind, Record

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def good(signature: bytes, content: bytes) -> bool:
    try:
        KEY.public_key().verify(signature, content)
    except InvalidSignature:
        return False
    return True


def bodies(count: int, first: int = 0) -> list[tuple[Kind, dict[str, Any]]]:
    return [
        (Kind.DECISION, {"job": f"j{n}", "predicted_s": n / 7, "reason": "ein Ö"})
        for n in range(first, first + count)
    ]


def linked(head: Head, at: datetime, new: Sequence[tuple[Kind, dict[str, Any]]]) -> tuple[list[Record], Head]:
    made, head = chain.linked(head, "tern", at, new)
    return [record for record, _ in made], head


def chained(days: Sequence[int], fleet: str = "tern") -> list[Record]:
    """Return a chain with so many records on each day."""
    head, records = Head(), []
    for number, count in enumerate(days):
        made, head = chain.linked(head, fleet, NOON + number * DAY, bodies(count))
        records += [record for record, _ in made]
    return records


def exported(records: Sequence[Record], at: datetime = NOON) -> list[bytes]:
    lines = [audit.record_line(one.content(), KEY.sign(one.content())) for one in records]
    last = chain.content_hash(records[-1].content()) if records else chain.GENESIS
    body = audit.seal_body(
        fleet=records[0].fleet if records else "tern",
        first=records[0].seq if records else 0,
        count=len(records),
        last_hash=last,
        at=chain.stamp(at),
    )
    content = chain.canonical(body)
    return [*lines, audit.seal_line(content, KEY.sign(content))]


def report(lines: Sequence[bytes]) -> Report:
    return audit.audit(audit.read_lines([b"".join(lines)]), good)


@cache
def sample() -> tuple[bytes, ...]:
    return tuple(exported(chained([3, 2, 1])))


def test_a_good_export() -> None:
    got = report(sample())
    assert (got.fault, got.records, got.first, got.last, got.fleet) == ("", 8, 0, 7, "tern")
    assert [(str(one.day), one.size, one.checked) for one in got.days] == [
        ("2030-06-01", 3, True),
        ("2030-06-02", 2, True),
    ]
    records = chained([3, 2, 1])
    leaves = [merkle.leaf_hash(one.content()) for one in records[:3]]
    assert got.days[0].root == merkle.root(leaves).hex()
    # The root of a day is stamped with the midnight that ended it.
    assert (records[3].kind, records[3].at) == (Kind.DAY, NOON + timedelta(hours=12))


def test_no_records_and_a_quiet_week() -> None:
    assert report(exported([])).fault == ""
    quiet = chained([2, 0, 0, 0, 1, 0])
    assert [one.kind for one in quiet].count(Kind.DAY) == 2
    assert report(exported(quiet)).fault == ""


def test_part_of_a_chain_is_checked_as_far_as_it_goes() -> None:
    got = report(exported(chained([3, 2, 1])[1:]))
    assert (got.fault, got.first) == ("", 1)
    assert [one.checked for one in got.days] == [False, True]


def test_a_clock_that_goes_back_does_not_take_the_chain_with_it() -> None:
    records, head = linked(Head(), NOON, bodies(1))
    later, head = linked(head, NOON - DAY, bodies(1))
    closing, head = linked(head, NOON + DAY, ())
    back, head = linked(head, NOON, bodies(1))
    assert later[0].at == NOON
    # A day that has its root gets no more records.
    assert back[0].at == closing[0].at == NOON + timedelta(hours=12)
    assert report(exported([*records, *later, *closing, *back])).fault == ""


@given(st.data())
def test_any_byte_that_is_flipped_is_found(data: st.DataObject) -> None:
    whole = b"".join(sample())
    place = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
    got = audit.audit(audit.read_lines([changed]), good)
    line = whole[:place].count(b"\n")
    named = "the first line" if line == 0 else f"record {line}"
    # Without the end of a line, the record on it is the first that is wrong.
    assert got.fault.startswith((named, "after the seal", "the seal")), (got.fault, line)


@pytest.mark.parametrize("place", range(8))
def test_a_record_that_is_dropped_is_named(place: int) -> None:
    lines = [*sample()[:place], *sample()[place + 1 :]]
    wanted = f"record {place}: is missing"
    # Without its first record an export is a good part of the chain but for the seal, which says how many.
    assert report(lines).fault.startswith(wanted if place else "record 8: is missing or another")


@pytest.mark.parametrize("place", range(7))
def test_records_in_another_order_are_named(place: int) -> None:
    lines = list(sample())
    lines[place], lines[place + 1] = lines[place + 1], lines[place]
    got = report(lines).fault
    # After a first record that is out of place, the one that should follow it is not there.
    assert got.startswith(f"record {place if place else 2}: is missing"), got


@pytest.mark.parametrize("kept", range(9))
def test_an_export_that_is_cut_is_found(kept: int) -> None:
    got = report(sample()[:kept]).fault
    assert "the export ends here, without its seal" in got
    assert got.startswith(f"record {kept}:" if kept else "the first line")


def test_records_after_the_seal_or_another_seal() -> None:
    assert report([*sample(), sample()[0]]).fault.startswith("after the seal")
    shorter = exported(chained([3, 2, 1])[:5])
    assert "the seal is of 5 records" in report([*sample()[:-1], shorter[-1]]).fault


def test_a_record_of_another_key_is_no_record() -> None:
    other = Ed25519PrivateKey.generate()
    record = chained([1])[0]
    lines = [audit.record_line(record.content(), other.sign(record.content())), sample()[-1]]
    assert report(lines).fault == "the first line: its signature is not that of the key"


def resigned(place: int, **changes: Any) -> list[bytes]:
    """Return an export with a record that its own key signed otherwise."""
    records = list(chained([3, 2, 1]))
    plain = {**records[place].plain(), **changes}
    content = chain.canonical(plain)
    lines = exported(records)
    lines[place] = audit.record_line(content, KEY.sign(content))
    return lines


@pytest.mark.parametrize(
    ("place", "changes", "why"),
    [
        (4, {"at": "2030-06-01T11:00:00.000000Z"}, "is earlier"),
        (4, {"at": "2030-06-02T14:00:00+02:00"}, "is of another format"),
        (4, {"fleet": "other"}, "is of fleet other"),
        (4, {"previous": "0" * 64}, "does not hold the hash"),
        (4, {"kind": "rumour"}, "has not the fields"),
        (4, {"seq": "4"}, "is of another format"),
        (4, {"format": "sterna.ledger/2"}, "is of another format"),
        (3, {"body": {"day": "2030-06-01", "first": 0, "root": "00", "size": 3}}, "its root is not that"),
        (0, {"previous": "1" * 64}, "names a record before it"),
        (5, {"at": "2030-06-09T12:00:00.000000Z"}, "is of a new day"),
    ],
)
def test_even_the_key_cannot_sign_what_is_no_chain(place: int, changes: dict[str, Any], why: str) -> None:
    assert why in report(resigned(place, **changes)).fault


def test_a_root_that_cannot_be_read_in_an_export_that_began_within_its_day() -> None:
    records = chained([3, 1])[1:]
    plain = {**records[2].plain(), "body": {"day": "yesterday"}}
    content = chain.canonical(plain)
    lines = exported(records)
    lines[2] = audit.record_line(content, KEY.sign(content))
    assert report(lines).fault == "record 3: is no root of a day"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"7\n",
        b'{"a":NaN}\n',
        b"[" * 99_999 + b"\n",
        b"\xff\n",
        b'{"record":7,"signature":""}\n',
        b'{"record":{},"signature":"00"}\n',
        b'{"record":{},"signature":"xy"}\n',
        b'{"record":{},"signature":5}\n',
        b'{"seal":{},"signature":"00"}\n',
    ],
)
def test_what_is_no_record_is_refused(line: bytes) -> None:
    assert audit.audit([line], good).fault


def test_a_fork_is_seen_and_named() -> None:
    old = report(exported(chained([3, 2])))
    assert audit.fork(old, report(sample())) == ""
    # Restored from a copy with the first day alone, and other decisions since.
    records = chained([3])
    _, head = (0, Head())
    for one in records:
        head = chain.advanced(head, one, one.content())
    more, _ = linked(head, NOON + DAY, bodies(4, first=90))
    forked = report(exported([*records, *more]))
    assert forked.fault == ""
    assert audit.fork(old, forked).startswith("record 4: is not what it was")
    assert audit.fork(old, report(exported(records))).startswith("record 3: was there, and is not any more")
    assert audit.fork(old, report(exported([]))).startswith("record 0: was there")
    assert audit.fork(report(exported([])), old) == ""
    assert "other" in audit.fork(old, report(exported(chained([1], fleet="other"))))


def proof(index: int, *, closed: bool = True) -> dict[str, Any]:
    records = chained([5, 1])
    leaves = [merkle.leaf_hash(one.content()) for one in records[:5]]
    day = records[5]
    tree = ("record", day.content(), KEY.sign(day.content()))
    if not closed:
        body = {"day": "2030-06-01", "first": 0, "fleet": "tern", "format": chain.HEAD_FORMAT,
                "root": merkle.root(leaves).hex(), "size": 5, "at": "x"}  # fmt: skip
        tree = ("head", chain.canonical(body), KEY.sign(chain.canonical(body)))
    content = records[index].content()
    made = audit.proof_document(
        content=content,
        signature=KEY.sign(content),
        index=index,
        path=merkle.audit_path(leaves, index),
        tree=tree,
    )
    found: dict[str, Any] = json.loads(made)
    return found


def checked(document: dict[str, Any]) -> audit.ProofReport:
    return audit.audit_proof(chain.canonical(document) + b"\n", good)


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("closed", [True, False])
def test_a_proof_holds(index: int, closed: bool) -> None:
    got = checked(proof(index, closed=closed))
    assert (got.fault, got.day, got.day_signed) == ("", "2030-06-01", closed)
    assert got.record is not None and got.record.seq == index


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "sterna.proof/2"}, "is of the format"),
        ({"index": 1}, "is of another place"),
        ({"index": "x"}, "is not readable"),
        ({"path": []}, "does not lead"),
        ({"tree": {}}, "is neither"),
        ({"tree": 7}, "is neither"),
        ({"more": 1}, "is not one"),
        ({"signature": "00"}, "its signature is not"),
    ],
)
def test_a_proof_that_does_not_hold(change: dict[str, Any], why: str) -> None:
    assert why in checked({**proof(2), **change}).fault


def test_a_proof_with_the_tree_of_something_else() -> None:
    records = chained([5, 2, 1])
    other = records[8]
    assert other.kind is Kind.DAY
    tree = {"record": other.plain(), "signature": KEY.sign(other.content()).hex()}
    assert "is of another day" in checked({**proof(2), "tree": tree}).fault
    leaf = {"record": records[0].plain(), "signature": KEY.sign(records[0].content()).hex()}
    assert "is of another kind" in checked({**proof(2), "tree": leaf}).fault
