"""The agent's one SQLite file: one writer thread, one transaction per call, fsynced before it returns.

Owns the file: its pragmas, its schema versions, its lock, and what happens when it is corrupt or the disk is
full. It refuses to know any table but its own; each store module brings its tables as a list of `Migration`.
"""

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from agent.store.ballast import Ballast
from agent.store.schema import Migration, migrate
from sterna.errors import CorruptError, PermanentError, TransientError

__all__ = ["Database", "Migration"]

log = logging.getLogger(__name__)

FILE_NAME = "agent.db"
"""Of the agent's store, in its state folder."""

T = TypeVar("T")

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # WAL with NORMAL may lose the last commits on power loss: an ack is a promise
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=5000",
    "PRAGMA journal_size_limit=16777216",
)
_UNREADABLE = (sqlite3.DatabaseError, CorruptError, ValueError, TypeError, LookupError)
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
# How often room is looked for again once what was set aside is used.
_ROOM_RETRIES = 50


class Database:
    """The agent's store file; use it as ``async with Database(path, MIGRATIONS) as db``.

    Parameters
    ----------
    path : pathlib.Path
        The file; its directory must exist. ``<path>.lock`` keeps a second agent out.
    migrations : iterable of Migration
        The tables of every store module that will use this database.
    checks : iterable of callable
        Each reads, at the start, what the agent cannot do without; what it raises makes the file corrupt.
    salvaged : iterable of str
        Tables whose readable rows are carried over from a corrupt file.

    Notes
    -----
    A corrupt file is renamed to ``<path>.corrupt-<n>`` and a fresh one is started: an agent without its
    memory holds the fail-safe limit, an agent that does not start obeys nothing. `quarantined` then names
    the renamed file, to be reported.

    Some room on the disk is set aside in ``<path>.reserve``. When the disk is full it is used, by everything
    that is not `spare`, and set aside again when there is room.
    """

    def __init__(
        self,
        path: Path,
        migrations: Iterable[Migration] = (),
        *,
        checks: Iterable[Callable[[sqlite3.Connection], object]] = (),
        salvaged: Iterable[str] = (),
    ) -> None:
        self.path = path
        self.quarantined: Path | None = None
        self._migrations = tuple(migrations)
        self._checks = tuple(checks)
        self._salvaged = tuple(salvaged)
        self._ballast = Ballast(path.with_name(path.name + ".reserve"))
        self._since_room = 0
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

    async def run(self, work: Callable[[sqlite3.Connection], T], *, spare: bool = False) -> T:
        """Run `work` inside one ``BEGIN IMMEDIATE`` transaction, in the writer's thread.

        Parameters
        ----------
        work : callable
            Gets the connection; must not commit, and must not return a cursor. If it raises, nothing is kept.
            On a full disk it may be run a second time.
        spare : bool
            It may wait while the disk is full, and takes none of the room set aside.

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
        return await self._in_thread(lambda: self._with_room(work, spare=spare))

    async def write(self, statement: str, *rows: Sequence[object] | Mapping[str, object]) -> int:
        """Run one statement for each row, in a transaction; return the rows it changed. Raises as `run`."""
        return await self.run(lambda connection: connection.executemany(statement, rows).rowcount)

    async def migrate(self, migrations: Iterable[Migration]) -> None:
        """Bring the tables of further store modules up to date; applied steps are skipped."""
        steps = tuple(migrations)
        await self.run(lambda connection: migrate(connection, steps))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        if self._executor is None:
            raise PermanentError(f"store {self.path} is not open")
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def _with_room(self, work: Callable[[sqlite3.Connection], T], *, spare: bool) -> T:
        """Run a transaction; on a full disk, once more with the room that was set aside."""
        if spare and not self._has_room():
            raise TransientError(f"store {self.path}: the disk is full; what is left is for others")
        try:
            return self._transaction(work)
        except TransientError as error:
            if spare or not _is_full(error) or not self._ballast.release():
                raise
        return self._transaction(work)

    def _has_room(self) -> bool:
        if self._ballast.held:
            return True
        self._since_room += 1
        return self._since_room % _ROOM_RETRIES == 0 and self._ballast.take()

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
        except UnicodeDecodeError as error:  # not even an error's text can be read
            raise CorruptError(f"store {self.path}: {error}") from error
        return result

    def _open(self) -> None:
        self._lock_fd = _lock(self.path)
        try:
            self._start()
        except TransientError as error:
            if not _is_full(error) or not self._ballast.release():
                raise
            self._start()
        self._ballast.take()

    def _start(self) -> None:
        """Open the file, or a fresh one in the place of one that is corrupt."""
        try:
            self._connection = _connect(self.path)
            self._transaction(lambda connection: migrate(connection, self._migrations))
            self._check(self._connection)
        except CorruptError:
            if self._connection is not None:
                self._connection.close()
            self.quarantined = _quarantine(self.path)
            log.exception(
                "the store was corrupt; it was put aside and a fresh one is started",
                extra={"path": str(self.path), "quarantined": str(self.quarantined)},
            )
            self._connection = _connect(self.path)
            self._transaction(lambda connection: migrate(connection, self._migrations))
            for table in self._salvaged:
                _salvage(self._connection, self.quarantined, table)

    def _check(self, connection: sqlite3.Connection) -> None:
        for check in self._checks:
            try:
                check(connection)
            except _UNREADABLE as error:
                if isinstance(error, sqlite3.Error):
                    wrapped = _wrapped(error, self.path)
                    if isinstance(wrapped, TransientError):
                        raise wrapped from error
                raise CorruptError(f"store {self.path}: what it holds cannot be read: {error}") from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def _is_full(error: TransientError) -> bool:
    """Whether the disk had no room, as far as SQLite tells: files that cannot grow fail in several ways."""
    code = getattr(error.__cause__, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _FULL


def _salvage(connection: sqlite3.Connection, aside: Path, table: str) -> None:
    """Carry over the rows of a table that can still be read, one by one, until one cannot."""
    carried = 0
    try:
        old = sqlite3.connect(f"{aside.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            for row in old.execute(f'SELECT * FROM "{table}"'):
                places = ", ".join("?" * len(row))
                connection.execute(f'INSERT OR IGNORE INTO "{table}" VALUES ({places})', row)
                carried += 1
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
            old.close()
    except _UNREADABLE as error:
        log.error("not all could be carried over", extra={"table": table, "fault": str(error)})
    log.info("carried over from the corrupt store", extra={"table": table, "rows": carried})


def _lock(path: Path) -> int:
    """Take the lock that says that this process writes the store; it ends with the process."""
    try:
        fd = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError as error:
        raise PermanentError(f"store {path}: not ours to write: give its folder to this user") from error
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
    except UnicodeDecodeError as error:
        connection.close()
        raise CorruptError(f"store {path}: {error}") from error
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


def _wrapped(error: sqlite3.Error, path: Path) -> PermanentError | TransientError:
    """Say in our words whose fault it is: damage, the machine, or our SQL."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    message = f"store {path}: {error}"
    # Without a code it is Python's own: text that is no text.
    undecodable = code is None and isinstance(error, sqlite3.OperationalError)
    if undecodable or primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptError(message)
    if isinstance(error, sqlite3.OperationalError) and primary != sqlite3.SQLITE_ERROR:
        return TransientError(message)
    return PermanentError(message)
