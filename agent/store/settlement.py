"""Tables of the settlement: one record per interval, what events are settled at, and the ledger between.

A record is written once, with a digest of what was written. Only one that says that nothing was measured
gives way, to one that was: a calendar that had run ahead leaves such records in the future. Nothing here is
ever thinned or deleted.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from agent.core.settlement import SiteLedger
from agent.core.settlement_events import Interval, binding
from agent.model.settlement import SettledBaseline, SettlementRecord
from agent.store.db import Database, Migration
from sterna.errors import ConfigError, CorruptError, TransientError

log = logging.getLogger(__name__)

TABLES = ("settlement_record", "settlement_baseline")
"""Carried over when the store is found corrupt."""
MIGRATIONS = (
    Migration(
        "settlement",
        1,
        """
        CREATE TABLE settlement_record (
            start_s INTEGER PRIMARY KEY, length_s REAL NOT NULL, measured INTEGER NOT NULL, import_wh REAL,
            source TEXT NOT NULL, command_id TEXT NOT NULL, counterfactual_w REAL, record BLOB NOT NULL,
            digest BLOB NOT NULL
        ) STRICT;
        CREATE TABLE settlement_baseline (
            start_s INTEGER NOT NULL, method TEXT NOT NULL, baseline BLOB NOT NULL,
            PRIMARY KEY (start_s, method)
        ) STRICT;
        CREATE TABLE settlement_ledger (
            only INTEGER PRIMARY KEY CHECK (only = 1), boot_id TEXT NOT NULL, ledger BLOB NOT NULL
        ) STRICT;
        """,
    ),
)
_RECORDS = (
    "SELECT start_s, record, digest FROM settlement_record"
    " WHERE start_s >= ? AND start_s < ? ORDER BY start_s"
)
_BASELINES = (
    "SELECT baseline FROM settlement_baseline WHERE start_s >= ? AND start_s < ? ORDER BY start_s, method"
)


class SettlementStore:
    """The settlement's tables.

    Parameters
    ----------
    db : Database
        Opened with `MIGRATIONS` among its migrations.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def recover(self) -> tuple[SiteLedger, str] | None:
        """Return the ledger as last kept and the boot that it was kept under; None: there is none."""

        def work(connection: sqlite3.Connection) -> tuple[SiteLedger, str] | None:
            row = connection.execute("SELECT * FROM settlement_ledger").fetchone()
            if row is None:
                return None
            return msgspec.json.decode(row["ledger"], type=SiteLedger), row["boot_id"]

        try:
            return await self._db.run(work)
        except msgspec.MsgspecError as error:
            raise CorruptError(f"the settlement's ledger cannot be read: {error}") from error

    async def keep(self, records: Sequence[SettlementRecord], ledger: SiteLedger, boot_id: str) -> None:
        """Store records and the ledger that goes on after them, together or not at all."""
        rows = [_row(record) for record in records]
        body = msgspec.json.encode(ledger)

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO settlement_record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (start_s)"
                " DO UPDATE SET length_s = excluded.length_s, measured = 1, import_wh = excluded.import_wh,"
                " source = excluded.source, command_id = excluded.command_id,"
                " counterfactual_w = excluded.counterfactual_w, record = excluded.record,"
                " digest = excluded.digest"
                " WHERE settlement_record.measured = 0 AND excluded.measured = 1",
                rows,
            )
            connection.execute("INSERT OR REPLACE INTO settlement_ledger VALUES (1, ?, ?)", (boot_id, body))

        await self._db.run(work)

    async def settle(self, lines: Iterable[SettledBaseline]) -> None:
        """Store what events are settled at; what is settled already stays as it is."""
        rows = [(_seconds(line.start_at), line.method, msgspec.json.encode(line)) for line in lines]
        await self._db.write("INSERT OR IGNORE INTO settlement_baseline VALUES (?, ?, ?)", *rows)

    async def intervals(self, from_at: datetime, until_at: datetime) -> tuple[Interval, ...]:
        """Return what settling needs of the records that begin within a stretch of time, in order."""

        def work(connection: sqlite3.Connection) -> tuple[Interval, ...]:
            rows = connection.execute(
                "SELECT start_s, length_s, import_wh, source, command_id, counterfactual_w"
                " FROM settlement_record WHERE start_s >= ? AND start_s < ? ORDER BY start_s",
                (_seconds(from_at), _seconds(until_at)),
            )
            return tuple(
                Interval(
                    start_at=datetime.fromtimestamp(row["start_s"], UTC),
                    length_s=row["length_s"],
                    import_wh=row["import_wh"],
                    source=row["source"],
                    command_id=row["command_id"],
                    counterfactual_w=row["counterfactual_w"],
                )
                for row in rows
            )

        return await self._db.run(work)

    async def settled(self, from_at: datetime, until_at: datetime) -> frozenset[tuple[datetime, str]]:
        """Return which intervals are settled by which method."""

        def work(connection: sqlite3.Connection) -> frozenset[tuple[datetime, str]]:
            rows = connection.execute(
                "SELECT start_s, method FROM settlement_baseline WHERE start_s >= ? AND start_s < ?",
                (_seconds(from_at), _seconds(until_at)),
            )
            return frozenset((datetime.fromtimestamp(row[0], UTC), row[1]) for row in rows)

        return await self._db.run(work)

    async def records(self, from_at: datetime, until_at: datetime) -> tuple[SettlementRecord, ...]:
        """Return the records that begin within a stretch of time, in order."""
        return await self._db.run(lambda connection: _records(connection, from_at, until_at))


def read(
    path: Path, from_at: datetime, until_at: datetime
) -> tuple[tuple[SettlementRecord, ...], tuple[SettledBaseline, ...]]:
    """Read records and baselines from a store file, whether or not its agent runs; nothing is written.

    Raises
    ------
    ConfigError
        There is no such file, or it holds no settlement.
    TransientError
        It cannot be read now.
    CorruptError
        It is damaged.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no store")
    connection = _open_read_only(path)
    try:
        connection.execute("BEGIN")  # records and baselines of one instant
        return _records(connection, from_at, until_at), tuple(
            msgspec.json.decode(row[0], type=SettledBaseline)
            for row in connection.execute(_BASELINES, (_seconds(from_at), _seconds(until_at)))
        )
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise ConfigError(f"{path}: it holds no settlement") from error
        raise TransientError(f"{path}: {error}") from error
    except (sqlite3.DatabaseError, msgspec.MsgspecError) as error:
        raise CorruptError(f"{path}: {error}") from error
    finally:
        connection.close()


def _open_read_only(path: Path) -> sqlite3.Connection:
    """Open beside the agent where it runs; a file in a folder that we may not write is opened as it lies."""
    quoted = path.resolve().as_uri()
    idle = not path.with_name(path.name + "-wal").exists()
    for mode in ("mode=ro", "mode=ro&immutable=1") if idle else ("mode=ro",):
        connection = sqlite3.connect(f"{quoted}?{mode}", uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA busy_timeout=5000")
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            fault = error
            continue
        except sqlite3.DatabaseError as error:
            connection.close()
            raise CorruptError(f"{path}: {error}") from error
        return connection
    raise TransientError(f"{path}: {fault}") from fault


def _records(
    connection: sqlite3.Connection, from_at: datetime, until_at: datetime
) -> tuple[SettlementRecord, ...]:
    """Return the records that are what was written; one that is not is left out and told of."""
    found = []
    for start_s, body, digest in connection.execute(_RECORDS, (_seconds(from_at), _seconds(until_at))):
        if _digest(body) == digest:
            found.append(msgspec.json.decode(body, type=SettlementRecord))
        else:
            start_at = datetime.fromtimestamp(start_s, UTC).isoformat()
            log.error("a settlement record is damaged and left out", extra={"start_at": start_at})
    return tuple(found)


def _row(
    record: SettlementRecord,
) -> tuple[int, float, int, float | None, str, str, float | None, bytes, bytes]:
    source, command_id = binding(record.limits, record.length_s)
    body = msgspec.json.encode(record)
    return (
        _seconds(record.start_at),
        record.length_s,
        int(record.grid_import.known_s > 0),
        record.grid_import.energy_wh,
        source,
        command_id,
        record.counterfactual_w,
        body,
        _digest(body),
    )


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
