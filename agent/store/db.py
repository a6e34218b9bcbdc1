"""The agent's one SQLite file: one writer thread, one transaction per call, fsynced before it returns.

Owns the file: its pragmas, its schema versions, its lock, and what happens when it is corrupt. It refuses to
know any table but its own; each store module brings its tables as a list of `Migration`.
"""

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from sterna.errors import CorruptError, PermanentError, TransientError

log = logging.getLogger(__name__)

T = TypeVar("T")

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # WAL with NORMAL may lose the last commits on power loss: an ack is a promise
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=5000",
    "PRAGMA journal_size_limit=16777216",
)
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


class Database:
    """The agent's store file; use it as ``async with Database(path, MIGRATIONS) as db``.

    Parameters
    ----------
    path : pathlib.Path
        The file; its directory must exist. ``<path>.lock`` keeps a second agent out.
    migrations : iterable of Migration
        The tables of every store module that will use this database.

    Notes
    -----
    A file that SQLite calls corrupt is renamed to ``<path>.corrupt-<n>`` and a fresh one is started:
    an agent without its memory holds the fail-safe limit, an agent that does not start obeys nothing.
    `quarantined` then names the renamed file, to be reported.
    """

    def __init__(self, path: Path, migrations: Iterable[Migration] = ()) -> None:
        self.path = path
        self.quarantined: Path | None = None
        self._migrations = tuple(migrations)
        self._executor: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._lock_fd: int | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Lock, open or start the file, and bring its tables up to date.

        Raises
        ------
        PermanentError
            Another process holds the file, or a newer release has written it.
        TransientError
            The disk is full or the file cannot be opened now.
        """
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            await self._in_thread(self._open)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish the transaction under way, close the file, let go of the lock."""
        if self._executor is None:
            return
        executor, self._executor = self._executor, None
        await asyncio.get_running_loop().run_in_executor(executor, self._close)
        executor.shutdown(wait=False)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` inside one ``BEGIN IMMEDIATE`` transaction, in the writer's thread.

        Parameters
        ----------
        work : callable
            Gets the connection; must not commit, and must not return a cursor. If it raises, nothing is kept.

        Returns
        -------
        object
            What `work` returned; by then the transaction is on the disk (fsynced).

        Raises
        ------
        TransientError
            The disk is full, busy or failing; nothing was kept.
        CorruptError
            The file is damaged; the next start quarantines it.

        Notes
        -----
        A caller that is cancelled while `work` runs does not undo it: the transaction still commits.
        """
        return await self._in_thread(lambda: self._transaction(work))

    async def migrate(self, migrations: Iterable[Migration]) -> None:
        """Bring the tables of further store modules up to date; applied steps are skipped."""
        steps = tuple(migrations)
        await self.run(lambda connection: _migrate(connection, steps))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        if self._executor is None:
            raise PermanentError(f"store {self.path} is not open")
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        if connection is None:
            raise PermanentError(f"store {self.path} is not open")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled back already; then there is nothing to undo.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _wrapped(error, self.path) from error
        return result

    def _open(self) -> None:
        self._lock_fd = _lock(self.path)
        try:
            self._connection = _connect(self.path)
        except CorruptError:
            self.quarantined = _quarantine(self.path)
            log.exception(
                "the store was corrupt; it was put aside and a fresh one is started",
                extra={"path": str(self.path), "quarantined": str(self.quarantined)},
            )
            self._connection = _connect(self.path)
        self._transaction(lambda connection: _migrate(connection, self._migrations))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def _lock(path: Path) -> int:
    """Take the lock that says that this process writes the store; it ends with the process."""
    fd = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise PermanentError(f"store {path} is in use by another process") from error
    return fd


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file and check that it is sound."""
    try:
        connection = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        raise _wrapped(error, path) from error
    try:
        connection.row_factory = sqlite3.Row
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise CorruptError(f"store {path}: {verdict}")
    except sqlite3.Error as error:
        connection.close()
        raise _wrapped(error, path) from error
    except CorruptError:
        connection.close()
        raise
    return connection


def _quarantine(path: Path) -> Path:
    """Rename the file and its companions out of the way; return the file's new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    return aside


def _migrate(connection: sqlite3.Connection, migrations: Iterable[Migration]) -> None:
    """Apply the steps that the file has not seen, in order, all in the caller's transaction."""
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


def _statements(sql: str) -> Iterator[str]:
    """Split a script; ``executescript`` would commit the transaction it runs in."""
    statement = ""
    for piece in sql.split(";")[:-1] if sql.rstrip().endswith(";") else sql.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip("; \n\t"):
                yield statement
            statement = ""


def _wrapped(error: sqlite3.Error, path: Path) -> PermanentError | TransientError:
    """Say in our words whose fault it is: damage, the machine, or our SQL."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    message = f"store {path}: {error}"
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptError(message)
    if isinstance(error, sqlite3.OperationalError) and primary != sqlite3.SQLITE_ERROR:
        return TransientError(message)
    return PermanentError(message)
