"""Job records, one row a job: what was intended, durable before it is done.

The record is one JSON value; a field that a newer release has added is ignored by an older one, and a field
that an older one did not write has its default.
"""

import sqlite3

import msgspec

from agent.model.records import JobRecord
from agent.store.db import Database, Migration
from sterna.errors import CorruptError

MIGRATIONS = (
    Migration(
        "jobs",
        1,
        """
        CREATE TABLE job (
            job_id TEXT PRIMARY KEY,
            highest_epoch INTEGER NOT NULL,
            phase TEXT NOT NULL,
            record TEXT NOT NULL
        ) STRICT;
        """,
    ),
)

# The guard is in the statement: whatever went wrong above it, a job's highest epoch never falls.
_SAVE = """
    INSERT INTO job VALUES (:job_id, :highest_epoch, :phase, :record)
    ON CONFLICT (job_id) DO UPDATE SET highest_epoch = :highest_epoch, phase = :phase, record = :record
    WHERE highest_epoch <= :highest_epoch
"""


class JobRecords:
    """The table of job records.

    Parameters
    ----------
    database : Database
        Open, with `MIGRATIONS` applied.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[JobRecord, ...]:
        """Return every job that was ever here, also released ones: their highest epoch matters.

        Raises
        ------
        CorruptError
            A row is not a record.
        """
        rows = await self._database.run(
            lambda connection: [tuple(row) for row in connection.execute("SELECT job_id, record FROM job")]
        )
        return tuple(_decode(job_id, text) for job_id, text in rows)

    async def save(self, record: JobRecord) -> None:
        """Replace a job's record; durable on return.

        Raises
        ------
        CorruptError
            A higher epoch was stored for the job; nothing changed.
        TransientError
            The disk does not take it now; nothing changed.
        """
        values = {
            "job_id": record.job_id,
            "highest_epoch": record.highest_epoch,
            "phase": record.phase.value,
            "record": msgspec.json.encode(record).decode(),
        }
        if await self._database.write(_SAVE, values) != 1:
            raise CorruptError(f"job {record.job_id}: epoch {record.highest_epoch} is below the stored one")


def check(connection: sqlite3.Connection) -> None:
    """Read every record; raises CorruptError on what is none, for the store to be put aside."""
    for job_id, text in connection.execute("SELECT job_id, record FROM job"):
        _decode(job_id, text)


def _decode(job_id: str, text: str) -> JobRecord:
    try:
        return msgspec.json.decode(text, type=JobRecord)
    except msgspec.MsgspecError as error:
        raise CorruptError(f"job {job_id}: stored record: {error}") from error
