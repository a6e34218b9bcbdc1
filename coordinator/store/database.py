"""The coordinator's one database: SQLite in WAL mode with synchronous=FULL, or whatever the URL names.

One thread writes and reads; every call is one transaction. Nothing that was returned from is lost by a
power cut.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import SQLAlchemyError

from coordinator.store import schema
from sterna.errors import CorruptError, TransientError

log = logging.getLogger(__name__)
T = TypeVar("T")


def file_url(path: Path) -> str:
    """Return the URL of an SQLite file."""
    return f"sqlite:///{path}"


class Database:
    """A connection pool of one, behind one thread.

    Parameters
    ----------
    url : str
        As SQLAlchemy takes it, e.g. ``sqlite:////var/lib/sterna-coordinator/coordinator.db``.

    Raises
    ------
    CorruptError
        The file is no database, or of a newer version of Sterna.
    """

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            _tune_sqlite(self._engine)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            self.run_now(_prepare)
        except SQLAlchemyError as error:
            raise CorruptError(f"{self._engine.url}: not usable: {error}") from error

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, in the store's thread.

        Raises
        ------
        TransientError
            The database did not take it: full, locked, gone. Nothing of it was stored.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def run_now(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction in this thread; for the start of a process."""
        with self._engine.begin() as connection:
            return work(connection)

    def close(self) -> None:
        """Finish what was begun and let go of the file."""
        self._thread.shutdown(wait=True)
        self._engine.dispose()

    def _guarded(self, work: Callable[[Connection], T]) -> T:
        try:
            return self.run_now(work)
        except SQLAlchemyError as error:
            raise TransientError(f"store: {error}") from error


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def pragmas(connection, _record):  # type: ignore[no-untyped-def]
        # The driver is to leave transactions to the event below: its own begin too late for a write.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    # A table that was there before has not the indexes that it got since.
    for table in schema.metadata.sorted_tables:
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    query = select(schema.meta.c.value).where(schema.meta.c.key == "schema_version")
    version = connection.execute(query).scalar()
    if version is None:
        row = {"key": "schema_version", "value": str(schema.SCHEMA_VERSION)}
        connection.execute(insert(schema.meta).values(row))
    elif int(version) > schema.SCHEMA_VERSION:
        raise CorruptError(f"the store is of version {version}; this is for {schema.SCHEMA_VERSION}")
