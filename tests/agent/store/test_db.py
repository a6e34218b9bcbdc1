import asyncio
import sqlite3
from pathlib import Path

import pytest

from agent.store.db import Database, Migration
from sterna.errors import PermanentError

THINGS = Migration("things", 1, "CREATE TABLE things (id INTEGER PRIMARY KEY, word TEXT NOT NULL) STRICT;")
COLOURS = Migration(
    "things",
    2,
    "ALTER TABLE things ADD COLUMN colour TEXT;\nCREATE INDEX things_colour ON things (colour); ",
)


def add(word: str):
    return lambda connection: connection.execute("INSERT INTO things (word) VALUES (?)", (word,)).rowcount


def words(connection: sqlite3.Connection) -> list[str]:
    return [row["word"] for row in connection.execute("SELECT word FROM things ORDER BY id")]


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    async with Database(path, [THINGS]) as db:
        assert await db.run(add("tern")) == 1
        assert await db.run(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"
        assert await db.run(lambda c: c.execute("PRAGMA synchronous").fetchone()[0]) == 2
    async with Database(path, [THINGS, COLOURS]) as db:
        assert await db.run(words) == ["tern"]
        assert db.quarantined is None
        await db.run(lambda c: c.execute("UPDATE things SET colour = 'white'").rowcount)


async def test_a_failing_transaction_keeps_nothing(tmp_path: Path) -> None:
    async with Database(tmp_path / "agent.db", [THINGS]) as db:

        def half(connection: sqlite3.Connection) -> None:
            add("lost")(connection)
            raise ValueError("on the way")

        with pytest.raises(ValueError, match="on the way"):
            await db.run(half)
        with pytest.raises(PermanentError, match="NOT NULL"):
            await db.run(lambda c: c.execute("INSERT INTO things (word) VALUES (NULL)").rowcount)
        with pytest.raises(PermanentError, match="no such table"):
            await db.run(lambda c: c.execute("SELECT * FROM absent").fetchall())
        assert await db.run(words) == []


async def test_transactions_are_serial_under_concurrency(tmp_path: Path) -> None:
    async with Database(tmp_path / "agent.db", [THINGS]) as db:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(db.run(add(f"{number}")))
        assert sorted(await db.run(words), key=int) == [f"{n}" for n in range(20)]


@pytest.mark.parametrize("damage", [b"this is no database, it is a letter" * 50, None])
async def test_a_corrupt_file_is_put_aside_and_a_fresh_one_started(
    tmp_path: Path, damage: bytes | None
) -> None:
    path = tmp_path / "agent.db"
    async with Database(path, [THINGS]) as db:
        for number in range(200):
            await db.run(add(f"word {number}" * 20))
    if damage is None:
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        damage = bytes(content)
    path.write_bytes(damage)
    async with Database(path, [THINGS]) as db:
        assert db.quarantined == tmp_path / "agent.db.corrupt-1"
        assert db.quarantined.read_bytes()[:35] == damage[:35]
        assert await db.run(words) == []
        await db.run(add("fresh"))
    path.write_bytes(b"again" * 1000)
    async with Database(path, [THINGS]) as db:
        assert db.quarantined == tmp_path / "agent.db.corrupt-2"


async def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    async with Database(tmp_path / "agent.db") as first:
        with pytest.raises(PermanentError, match="in use by another process"):
            await Database(tmp_path / "agent.db").open()
        await first.migrate([THINGS])
        await first.migrate([THINGS])
        assert await first.run(words) == []
    with pytest.raises(PermanentError, match="not open"):
        await first.run(words)


async def test_a_failed_migration_leaves_the_old_tables(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    broken = Migration("things", 2, "CREATE TABLE extra (a TEXT); CREATE TABLE things (a TEXT);")
    async with Database(path, [THINGS]) as db:
        await db.run(add("tern"))
    with pytest.raises(PermanentError, match="already exists"):
        await Database(path, [THINGS, broken]).open()
    with pytest.raises(PermanentError, match="follows"):
        await Database(path, [Migration("things", 3, "SELECT 1;")]).open()
    async with Database(path, [THINGS, COLOURS]) as db:
        assert await db.run(words) == ["tern"]
        assert (
            await db.run(lambda c: c.execute("SELECT 1 FROM sqlite_master WHERE name='extra'").fetchall())
            == []
        )
    with pytest.raises(PermanentError, match="newer release"):
        await Database(path, [THINGS]).open()
