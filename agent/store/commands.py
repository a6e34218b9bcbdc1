"""Tables of the grid's commands: what was accepted, what was last seen, what must still be acknowledged.

Acceptance is one transaction: the sequence, the command and its ack are on the disk together or not at all.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

from agent.core.breach import BreachTally
from agent.core.commands import LastSeen
from agent.core.gridmemory import GridMemory
from agent.core.limits import CommandStatus, Doubt, HeldCommand, Timeline, resume
from agent.model.grid import Ack, AckStatus, OperatorConfig
from agent.model.limits import LimitCommand, LimitKind
from agent.store.db import Database, Migration
from sterna.errors import PermanentError

MAX_PENDING_ACKS = 1000
"""An operator that is away for long gets the newest; its own retained limit tells it the rest."""

MIGRATIONS = (
    Migration(
        "grid",
        1,
        """
        CREATE TABLE grid_command (
            source TEXT NOT NULL, sequence INTEGER NOT NULL, command_id TEXT NOT NULL, kind TEXT NOT NULL,
            issued_at TEXT NOT NULL, start_at TEXT NOT NULL, end_at TEXT, value_w REAL, ramp_s REAL NOT NULL,
            reason TEXT NOT NULL, accepted_at TEXT NOT NULL, accepted_boot_s REAL NOT NULL,
            start_boot_s REAL NOT NULL, end_boot_s REAL, boot_id TEXT NOT NULL, status TEXT NOT NULL,
            PRIMARY KEY (source, sequence)
        ) STRICT;
        CREATE TABLE grid_source (
            source TEXT PRIMARY KEY, sequence INTEGER NOT NULL, command_id TEXT NOT NULL, digest TEXT NOT NULL
        ) STRICT;
        CREATE TABLE grid_config (
            source TEXT PRIMARY KEY, failsafe_import_w REAL, failsafe_min_s REAL, heartbeat_timeout_s REAL
        ) STRICT;
        CREATE TABLE grid_breach (
            only INTEGER PRIMARY KEY CHECK (only = 1), samples INTEGER NOT NULL, episodes INTEGER NOT NULL,
            worst_excess_w REAL NOT NULL
        ) STRICT;
        CREATE TABLE grid_ack (
            number INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, command_id TEXT NOT NULL,
            sequence INTEGER, status TEXT NOT NULL, at TEXT NOT NULL, reason TEXT NOT NULL, applied_w REAL
        ) STRICT;
        """,
    ),
    Migration("grid", 2, "ALTER TABLE grid_config ADD COLUMN issued_at TEXT"),
    Migration(
        "grid",
        3,
        """
        ALTER TABLE grid_breach RENAME TO grid_breach_of_import;
        CREATE TABLE grid_breach (
            kind TEXT PRIMARY KEY, samples INTEGER NOT NULL, episodes INTEGER NOT NULL,
            worst_excess_w REAL NOT NULL
        ) STRICT;
        INSERT INTO grid_breach
            SELECT 'IMPORT_CAPACITY_LIMIT', samples, episodes, worst_excess_w FROM grid_breach_of_import;
        DROP TABLE grid_breach_of_import;
        """,
    ),
    Migration("grid", 4, "ALTER TABLE grid_command ADD COLUMN doubt TEXT NOT NULL DEFAULT ''"),
)


class CommandStore:
    """The grid's tables.

    Parameters
    ----------
    db : Database
        Opened with `MIGRATIONS` among its migrations.
    boot_id : str
        Of this boot; tells whether stored boot times still hold.
    """

    def __init__(self, db: Database, *, boot_id: str) -> None:
        self._db = db
        self._boot_id = boot_id

    async def recover(self, now: datetime, now_boot_s: float, *, calendar_kept: bool) -> GridMemory:
        """Read everything back, commands placed on this boot's clock with their remaining time."""
        return await self._db.run(
            lambda connection: self._recover(connection, now, now_boot_s, calendar_kept)
        )

    async def accept(
        self, held: HeldCommand, digest: str, ack: Ack, after: HeldCommand | None = None
    ) -> None:
        """Store an accepted command with its sequence and its ack, durably, all or nothing.

        Parameters
        ----------
        held, digest, ack
            The command, what identifies its content, and the answer to it.
        after : HeldCommand or None
            What follows when its time is over: then the two replace all that their source has said.

        Raises
        ------
        PermanentError
            The sequence is not above the last stored one; nothing was changed.
        TransientError
            The disk refused; nothing was changed.
        """
        await self._db.run(lambda connection: self._accept(connection, held, digest, ack, after))

    async def advance(
        self, moved: Sequence[HeldCommand], gone: Sequence[HeldCommand], acks: Sequence[Ack]
    ) -> None:
        """Store commands that have changed, with their acks, and forget those that can never speak again."""

        def work(connection: sqlite3.Connection) -> None:
            for held in moved:
                self._put_command(connection, held)
            for held in gone:
                connection.execute(
                    "DELETE FROM grid_command WHERE source = ? AND sequence = ?",
                    (held.command.source, held.command.sequence),
                )
            _put_acks(connection, acks)

        await self._db.run(work)

    async def keep_config(self, source: str, config: OperatorConfig) -> None:
        """Store what an operator has set; its former settings are replaced."""
        issued_at = None if config.issued_at is None else config.issued_at.isoformat()
        row = (
            source,
            config.failsafe_import_w,
            config.failsafe_min_s,
            config.heartbeat_timeout_s,
            issued_at,
        )
        await self._db.write("INSERT OR REPLACE INTO grid_config VALUES (?, ?, ?, ?, ?)", row)

    async def keep_tally(self, kind: LimitKind, tally: BreachTally) -> None:
        """Store how often limits of a kind were broken."""
        row = (kind.value, tally.samples, tally.episodes, tally.worst_excess_w)
        await self._db.write("INSERT OR REPLACE INTO grid_breach VALUES (?, ?, ?, ?)", row)

    async def pending_acks(self, source: str, most: int) -> list[tuple[int, Ack]]:
        """Return the oldest acks that were not yet delivered, with their numbers."""

        def work(connection: sqlite3.Connection) -> list[tuple[int, Ack]]:
            rows = connection.execute(
                "SELECT * FROM grid_ack WHERE source = ? ORDER BY number LIMIT ?", (source, most)
            )
            return [(row["number"], _ack(row)) for row in rows]

        return await self._db.run(work)

    async def drop_acks(self, numbers: Iterable[int]) -> None:
        """Forget acks that were delivered."""
        await self._db.write("DELETE FROM grid_ack WHERE number = ?", *[(number,) for number in numbers])

    def _accept(
        self,
        connection: sqlite3.Connection,
        held: HeldCommand,
        digest: str,
        ack: Ack,
        after: HeldCommand | None,
    ) -> None:
        command = held.command
        key = (command.source, command.sequence, command.command_id, digest)
        taken = connection.execute(
            "INSERT INTO grid_source VALUES (?, ?, ?, ?) ON CONFLICT (source) DO UPDATE SET"
            " sequence = excluded.sequence, command_id = excluded.command_id, digest = excluded.digest"
            " WHERE excluded.sequence > grid_source.sequence",
            key,
        ).rowcount
        if taken != 1:
            raise PermanentError(f"grid command {command.command_id}: sequence {command.sequence} is stale")
        if after is not None:
            connection.execute("DELETE FROM grid_command WHERE source = ?", (command.source,))
            self._put_command(connection, after)
        self._put_command(connection, held)
        _put_acks(connection, [ack])

    def _put_command(self, connection: sqlite3.Connection, held: HeldCommand) -> None:
        command = held.command
        connection.execute(
            "INSERT OR REPLACE INTO grid_command VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                command.source,
                command.sequence,
                command.command_id,
                command.kind.value,
                command.issued_at.isoformat(),
                command.start_at.isoformat(),
                None if command.end_at is None else command.end_at.isoformat(),
                command.value_w,
                command.ramp_s,
                command.reason,
                held.accepted_at.isoformat(),
                held.accepted_boot_s,
                held.start_boot_s,
                held.end_boot_s,
                self._boot_id,
                held.status.value,
                held.doubt.value,
            ),
        )

    def _recover(
        self, connection: sqlite3.Connection, now: datetime, now_boot_s: float, calendar_kept: bool
    ) -> GridMemory:
        held = []
        for row in connection.execute("SELECT * FROM grid_command ORDER BY source, sequence").fetchall():
            before, same_boot = _held(row), row["boot_id"] == self._boot_id
            after = resume(before, now, now_boot_s, same_boot=same_boot, calendar_kept=calendar_kept)
            held.append(after)
            if after != before:
                self._put_command(connection, after)
        return GridMemory(
            timeline=Timeline(held=tuple(held)),
            last_seen={
                row["source"]: LastSeen(
                    sequence=row["sequence"], command_id=row["command_id"], digest=row["digest"]
                )
                for row in connection.execute("SELECT * FROM grid_source")
            },
            configs={
                row["source"]: OperatorConfig(
                    failsafe_import_w=row["failsafe_import_w"],
                    failsafe_min_s=row["failsafe_min_s"],
                    heartbeat_timeout_s=row["heartbeat_timeout_s"],
                    issued_at=None if row["issued_at"] is None else datetime.fromisoformat(row["issued_at"]),
                )
                for row in connection.execute("SELECT * FROM grid_config")
            },
            tallies={
                LimitKind(row["kind"]): BreachTally(
                    samples=row["samples"], episodes=row["episodes"], worst_excess_w=row["worst_excess_w"]
                )
                for row in connection.execute("SELECT * FROM grid_breach")
            },
        )


def check(connection: sqlite3.Connection) -> None:
    """Read every command, source, setting and ack; raises on what is none, for the store to be put aside."""
    for row in connection.execute("SELECT * FROM grid_command"):
        _held(row)
    for row in connection.execute("SELECT * FROM grid_ack"):
        _ack(row)
    for row in connection.execute("SELECT * FROM grid_breach"):
        LimitKind(row["kind"])
    for table in ("grid_source", "grid_config"):
        connection.execute(f"SELECT * FROM {table}").fetchall()


def _held(row: sqlite3.Row) -> HeldCommand:
    command = LimitCommand(
        source=row["source"],
        command_id=row["command_id"],
        sequence=row["sequence"],
        kind=LimitKind(row["kind"]),
        issued_at=datetime.fromisoformat(row["issued_at"]),
        start_at=datetime.fromisoformat(row["start_at"]),
        end_at=None if row["end_at"] is None else datetime.fromisoformat(row["end_at"]),
        value_w=row["value_w"],
        ramp_s=row["ramp_s"],
        reason=row["reason"],
    )
    return HeldCommand(
        command=command,
        accepted_at=datetime.fromisoformat(row["accepted_at"]),
        accepted_boot_s=row["accepted_boot_s"],
        start_boot_s=row["start_boot_s"],
        end_boot_s=row["end_boot_s"],
        status=CommandStatus(row["status"]),
        doubt=Doubt(row["doubt"]),
    )


def _put_acks(connection: sqlite3.Connection, acks: Iterable[Ack]) -> None:
    for ack in acks:
        connection.execute(
            "INSERT INTO grid_ack (source, command_id, sequence, status, at, reason, applied_w)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                ack.source,
                ack.command_id,
                ack.sequence,
                ack.status.value,
                ack.at.isoformat(),
                ack.reason,
                ack.applied_w,
            ),
        )
    connection.execute(
        "DELETE FROM grid_ack WHERE number <= (SELECT max(number) FROM grid_ack) - ?", (MAX_PENDING_ACKS,)
    )


def _ack(row: sqlite3.Row) -> Ack:
    return Ack(
        source=row["source"],
        command_id=row["command_id"],
        sequence=row["sequence"],
        status=AckStatus(row["status"]),
        at=datetime.fromisoformat(row["at"]),
        reason=row["reason"],
        applied_w=row["applied_w"],
    )
