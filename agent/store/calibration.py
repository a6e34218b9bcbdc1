"""What was learnt of the node's sensors beside the site's meter: a few pairs, kept over restarts."""

import logging
import sqlite3

import msgspec

from agent.core.calibration import Pair
from agent.store.db import Database, Migration

log = logging.getLogger(__name__)

MIGRATIONS = (
    Migration(
        "calibration",
        1,
        """
        CREATE TABLE calibration (
            id INTEGER PRIMARY KEY CHECK (id = 1), sensors TEXT NOT NULL, pairs BLOB NOT NULL
        ) STRICT;
        """,
    ),
)


class CalibrationStore:
    """The pairs of one set of sensors; those of another set replace them.

    Parameters
    ----------
    database : Database
        Opened, with this module's `MIGRATIONS`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, sensors: str) -> tuple[Pair, ...]:
        """Return the pairs that were learnt with these sensors; none where none can be read."""
        body = await self._database.run(lambda connection: _select(connection, sensors))
        if body is None:
            return ()
        try:
            pairs = msgspec.json.decode(body, type=tuple[Pair, ...])
        except msgspec.MsgspecError:
            log.exception("stored calibration cannot be read; it is learnt anew")
            return ()
        return tuple(pair for pair in pairs if pair.rail_w > 0 and pair.metered_w > 0)

    async def save(self, sensors: str, pairs: tuple[Pair, ...]) -> None:
        """Keep the pairs of these sensors in place of what was kept before."""
        body = msgspec.json.encode(pairs)
        await self._database.write("INSERT OR REPLACE INTO calibration VALUES (1, ?, ?)", (sensors, body))


def _select(connection: sqlite3.Connection, sensors: str) -> bytes | None:
    row = connection.execute("SELECT pairs FROM calibration WHERE sensors = ?", (sensors,)).fetchone()
    return None if row is None else bytes(row[0])
