"""What was learnt of each site, kept as bytes. What they mean is `coordinator.forecast.stored`'s."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from coordinator.store import schema
from coordinator.store.database import Database


class MemoryStore:
    """The last memory of each site.

    Parameters
    ----------
    database : Database
        Where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, site_id: str) -> bytes | None:
        """Return a site's memory; None without one."""
        query = select(schema.memories.c.body).where(schema.memories.c.site_id == site_id)
        return await self._database.run(lambda connection: connection.execute(query).scalar())

    async def put(self, memories: Mapping[str, bytes], at: datetime) -> None:
        """Keep memories in place of those before, all or none."""
        rows = [{"site_id": site_id, "at": at, "body": body} for site_id, body in memories.items()]
        if rows:
            await self._database.run(lambda connection: _replace(connection, rows))


def _replace(connection: Connection, rows: list[dict[str, object]]) -> None:
    names = [row["site_id"] for row in rows]
    connection.execute(delete(schema.memories).where(schema.memories.c.site_id.in_(names)))
    connection.execute(insert(schema.memories), rows)
