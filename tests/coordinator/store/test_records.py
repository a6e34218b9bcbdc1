"""The chain on disk: with what it is about or not at all, over restarts, and never twice the same number."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update

from coordinator.core import audit
from coordinator.core.chain import Kind
from coordinator.model.decision import Decision, DecisionKind
from coordinator.store import schema
from coordinator.store.database import Database, file_url
from coordinator.store.history import DecisionStore
from coordinator.store.records import Mark, Recorder
from sterna import pki
from sterna.clock import FakeClock
from sterna.errors import TransientError
from sterna.signing import SigningKey, Verify, load_signing_key, load_verifier

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(file_url(tmp_path / "coordinator.db"))
    yield database
    database.close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[SigningKey, Verify]:
    private, public = pki.make_signing_key(tmp_path_factory.mktemp("keys"), "ledger-key")
    return load_signing_key(private), load_verifier(public)


def recorder(database: Database, key: SigningKey, now: datetime = NOW) -> Recorder:
    return Recorder(database=database, key=key, fleet="tern", clock=FakeClock(now))


def bodies(*names: str) -> list[tuple[Kind, str, dict[str, object]]]:
    return [(Kind.DECISION, name, {"job": name}) for name in names]


async def exported(recorder: Recorder, since: datetime | None = None, until: datetime | None = None) -> bytes:
    export = await recorder.export(since, until)
    lines = []
    first = export.first
    while page := (await recorder.page(export, first) if export.count else []):
        lines += page
        first += len(page)
        if first >= export.first + export.count:
            break
    return b"".join(lines) + recorder.seal(export)


def checked(export: bytes, verify: Verify) -> audit.Report:
    return audit.audit(audit.read_lines([export]), verify)


async def test_a_chain_goes_on_over_restarts_and_days(
    database: Database, keys: tuple[SigningKey, Verify]
) -> None:
    key, verify = keys
    assert checked(await exported(recorder(database, key)), verify).fault == ""
    for day in range(3):
        for again in range(2):
            books = recorder(database, key, NOW + timedelta(days=day, hours=again))
            await books.add(bodies(f"{day}-{again}-a", f"{day}-{again}-b"))
    report = checked(await exported(books), verify)
    assert (report.fault, report.records) == ("", 14)
    assert [(one.size, one.checked) for one in report.days] == [(4, True), (4, True)]
    assert books.mark == Mark(seq=13, hash=report.last_hash)
    assert await books.holds(Mark(seq=13, hash=report.last_hash))
    assert not await books.holds(Mark(seq=13, hash="0" * 64))
    assert not await books.holds(Mark(seq=14, hash=report.last_hash))
    second = checked(await exported(books, NOW + timedelta(days=1), NOW + timedelta(days=2)), verify)
    # Noon to noon: the rest of the second day, its root, and nothing of the third before noon.
    assert (second.fault, second.first, second.records) == ("", 5, 5)


async def test_more_records_than_a_page(
    database: Database, keys: tuple[SigningKey, Verify], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.store.records.PAGE", 3)
    key, verify = keys
    books = recorder(database, key)
    await books.add(bodies(*"abcdefgh"))
    assert checked(await exported(books), verify).records == 8


async def test_what_is_not_stored_is_not_signed(database: Database, keys: tuple[SigningKey, Verify]) -> None:
    key, verify = keys
    books = recorder(database, key)
    await books.add(bodies("a"))
    row = {"decision_id": "x", "job_id": "j", "at": NOW, "kind": "stay", "body": "{}"}
    for _ in range(2):
        # The second time the id is there already.
        try:
            await books.add(
                bodies("b"), lambda connection: connection.execute(insert(schema.decisions), [row])
            )
        except TransientError:
            break
    await books.add(bodies("c"))
    report = checked(await exported(books), verify)
    assert (report.fault, report.records) == ("", 3)


async def test_a_decision_has_its_record_in_the_same_transaction(
    database: Database, keys: tuple[SigningKey, Verify]
) -> None:
    key, verify = keys
    books = recorder(database, key)
    store = DecisionStore(database, books)
    decision = Decision(
        job_id="j",
        decided_at=NOW,
        policy="sterna",
        kind=DecisionKind.MIGRATE,
        source_site="a",
        target_site="b",
        reason="sun",
        alternatives=(),
        predicted_s=float("inf"),
        window_end_at=NOW,
    )
    await store.add({})
    assert books.mark is None
    await store.add({"d1": decision})
    export = await exported(books)
    assert checked(export, verify).fault == ""
    body = json.loads(export.splitlines()[0])["record"]["body"]
    assert (body["decision_id"], body["does"], body["target"]) == ("d1", "migrate", "b")
    assert body["predicted_s"] is None
    assert await store.last("j") == ("d1", decision)


@pytest.mark.parametrize("closed", [True, False])
async def test_a_proof(database: Database, keys: tuple[SigningKey, Verify], closed: bool) -> None:
    key, verify = keys
    books = recorder(database, key)
    await books.add(bodies(*"abcde"))
    if closed:
        books = recorder(database, key, NOW + timedelta(days=1))
        await books.add(())
    assert await books.prove("nothing") is None
    for name in "abcde":
        proof = await books.prove(name)
        assert proof is not None
        got = audit.audit_proof(proof, verify)
        assert (got.fault, got.day_signed, got.day) == ("", closed, "2030-06-01")
        assert got.record is not None and got.record.body["job"] == name


async def test_a_chain_that_was_meddled_with_goes_on_and_is_found(
    database: Database, keys: tuple[SigningKey, Verify], caplog: pytest.LogCaptureFixture
) -> None:
    key, verify = keys
    books = recorder(database, key)
    await books.add(bodies(*"abcde"))
    table = schema.records
    content = '{"changed":1}'
    await database.run(lambda c: c.execute(update(table).where(table.c.seq == 2).values(content=content)))
    await recorder(database, key).add(bodies("f"))
    assert checked(await exported(books), verify).fault.startswith("record 2: its signature")
    await database.run(lambda c: c.execute(delete(table).where(table.c.seq == 2)))
    again = recorder(database, key)
    assert "a record of the ledger is missing" in caplog.text
    await again.add(bodies("g"))
    fault = checked(await exported(again), verify).fault
    assert fault == "record 2: is missing: record 3 stands in its place"


async def test_a_store_of_an_older_copy_is_a_fork(tmp_path: Path, keys: tuple[SigningKey, Verify]) -> None:
    key, verify = keys
    reports = []
    for name, later in (("kept", "bcd"), ("restored", "xyz")):
        database = Database(file_url(tmp_path / f"{name}.db"))
        books = recorder(database, key)
        await books.add(bodies("a"))
        await books.add(bodies(*later))
        reports.append(checked(await exported(books), verify))
        database.close()
    assert [one.fault for one in reports] == ["", ""]
    assert audit.fork(*reports).startswith("record 1: is not what it was")


def test_a_store_of_an_earlier_version_gets_the_indexes_that_came_since(tmp_path: Path) -> None:
    url = file_url(tmp_path / "old.db")
    old = Database(url)
    schema.records.drop(old._engine)
    old.run_now(lambda connection: connection.exec_driver_sql("DROP INDEX telemetry_by_time"))
    old.close()
    new = Database(url)
    found = new.run_now(
        lambda connection: connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE name IN ('telemetry_by_time', 'records') ORDER BY name"
        ).fetchall()
    )
    assert found == [("records",), ("telemetry_by_time",)]
    new.close()
