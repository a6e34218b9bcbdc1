"""The tables of a store file: brought up to date step by step, and held against what was made."""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sterna.errors import CorruptError, PermanentError

_SCHEMA = "(schema)"
_VERSIONS = (
    "CREATE TABLE IF NOT EXISTS schema_version (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT"
)


class Migration(NamedTuple):
    """One step of one store module's tables.

    `name` is the module's part of the schema, `version` counts 1, 2, 3 … within it, `sql` holds one or more
    statements. A migration that was released is never edited; the next one follows it.
    """

    name: str
    version: int
    sql: str


def migrate(connection: sqlite3.Connection, migrations: Iterable[Migration]) -> None:
    """Apply the steps that the file has not seen, in order, all in the caller's transaction."""
    _check_schema(connection)
    connection.execute(_VERSIONS)
    known: dict[str, int] = {}
    for step in sorted(migrations):
        known[step.name] = step.version
        row = connection.execute("SELECT version FROM schema_version WHERE name = ?", (step.name,)).fetchone()
        version = row[0] if row else 0
        if step.version <= version:
            continue
        if step.version != version + 1:
            raise PermanentError(f"store: migration {step.name} {step.version} follows {version}")
        for statement in _statements(step.sql):
            connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO schema_version VALUES (?, ?)", (step.name, step.version))
    for name, newest in known.items():
        row = connection.execute("SELECT version FROM schema_version WHERE name = ?", (name,)).fetchone()
        if row[0] > newest:
            raise PermanentError(
                f"store: schema {name} {row[0]} was written by a newer release (know {newest})"
            )
    connection.execute(
        "INSERT OR REPLACE INTO schema_version VALUES (?, ?)", (_SCHEMA, _schema_sum(connection))
    )


def _check_schema(connection: sqlite3.Connection) -> None:
    """Hold the tables' text against its sum: SQLite's own check does not see a column's changed name."""
    present = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone()
    if present is None:
        return
    row = connection.execute("SELECT version FROM schema_version WHERE name = ?", (_SCHEMA,)).fetchone()
    if row is not None and row[0] != _schema_sum(connection):
        raise CorruptError("store: the tables are not those that were made")


def _schema_sum(connection: sqlite3.Connection) -> int:
    texts = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
    return zlib.crc32("\n".join(row[0] for row in texts).encode())


def _statements(sql: str) -> Iterator[str]:
    """Split a script; ``executescript`` would commit the transaction it runs in."""
    statement = ""
    for piece in sql.split(";")[:-1] if sql.rstrip().endswith(";") else sql.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip("; \n\t"):
                yield statement
            statement = ""
