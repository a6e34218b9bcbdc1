"""Events and the tables that are their fold, changed in one transaction."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, Table, delete, insert, select

from coordinator.core.fleet import fold
from coordinator.model.events import Event
from coordinator.model.fleet import FleetState, Job, LinkGoodput, Migration, Site
from coordinator.store import schema
from coordinator.store.database import Database
from coordinator.store.documents import event_kind, read, read_event, write
from coordinator.store.energy_store import follow

K = TypeVar("K")
T = TypeVar("T")
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRequest:
    """An operator's request that was answered: what it asked for and the answer, both as JSON."""

    request_id: str
    at: datetime
    content: str
    answer: str


class FleetStore:
    """The fleet on disk.

    Parameters
    ----------
    database : Database
        Where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> FleetState:
        """Return the fleet as the tables have it; at the start of a process."""
        return self._database.run_now(_load)

    async def reload(self) -> FleetState:
        """Return the fleet as the tables have it, while the process lives.

        Raises
        ------
        TransientError
            The database cannot be read now.
        """
        return await self._database.run(_load)

    def refold(self) -> FleetState:
        """Return the fleet as a fold over every stored event, for checks and repairs."""
        return self._database.run_now(lambda connection: fold(_events(connection)))

    async def append(
        self,
        events: Sequence[Event],
        before: FleetState,
        after: FleetState,
        request: StoredRequest | None = None,
    ) -> None:
        """Store events and what they changed, all or nothing.

        Parameters
        ----------
        events : sequence of Event
            In order; may be empty where a request changed nothing.
        before, after : FleetState
            The fleet before the first and after the last; what differs is written.
        request : StoredRequest or None
            The operator's request that this answers.
        """
        await self._database.run(lambda connection: _append(connection, events, before, after, request))

    async def request(self, request_id: str) -> StoredRequest | None:
        """Return an answered request; None when the id is new."""
        query = select(schema.requests).where(schema.requests.c.request_id == request_id)
        row = await self._database.run(lambda connection: connection.execute(query).first())
        if row is None:
            return None
        return StoredRequest(request_id=row.request_id, at=row.at, content=row.content, answer=row.answer)


def _load(connection: Connection) -> FleetState:
    links = _bodies(connection, schema.links, LinkGoodput)
    return FleetState(
        jobs=_bodies(connection, schema.jobs, Job),
        migrations=_bodies(connection, schema.migrations, Migration),
        sites=_bodies(connection, schema.sites, Site),
        links={(link.source, link.destination): link for link in links.values()},
    )


def _bodies(connection: Connection, table: Table, kind: type[T]) -> dict[str, T]:
    rows = connection.execute(select(table.c.key, table.c.body))
    return {row.key: read(row.body, kind) for row in rows}


def _events(connection: Connection) -> Iterator[Event]:
    query = select(schema.events.c.kind, schema.events.c.body).order_by(schema.events.c.seq)
    for row in connection.execute(query):
        yield read_event(row.kind, row.body)


def _append(
    connection: Connection,
    events: Sequence[Event],
    before: FleetState,
    after: FleetState,
    request: StoredRequest | None,
) -> None:
    if events:
        rows = [{"at": one.at, "kind": event_kind(one), "body": write(one)} for one in events]
        connection.execute(insert(schema.events), rows)
        follow(connection, before, after, events[-1].at)
    _upsert(connection, schema.jobs, [_job_row(job) for job in _changed(before.jobs, after.jobs)])
    moves = [_migration_row(one) for one in _changed(before.migrations, after.migrations)]
    _upsert(connection, schema.migrations, moves)
    sites = [{"key": site.site_id, "body": write(site)} for site in _changed(before.sites, after.sites)]
    _upsert(connection, schema.sites, sites)
    links = [
        {"key": f"{link.source}>{link.destination}", "body": write(link)}
        for link in _changed(before.links, after.links)
    ]
    _upsert(connection, schema.links, links)
    if request is not None:
        connection.execute(
            insert(schema.requests).values(
                request_id=request.request_id, at=request.at, content=request.content, answer=request.answer
            )
        )


def _changed(before: Mapping[K, T], after: Mapping[K, T]) -> list[T]:
    # Values are frozen: one that is the same object has not changed.
    return [value for key, value in after.items() if before.get(key) is not value]


def _upsert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(delete(table).where(table.c.key.in_([row["key"] for row in rows])))
        connection.execute(insert(table), [dict(row) for row in rows])


def _job_row(job: Job) -> Row:
    return {
        "key": job.job_id,
        "state": job.state.value,
        "owner_site": job.owner_site,
        "epoch": job.epoch,
        "body": write(job),
    }


def _migration_row(migration: Migration) -> Row:
    return {
        "key": migration.migration_id,
        "job_id": migration.job_id,
        "source_site": migration.source_site,
        "destination_site": migration.destination_site,
        "state": migration.state.value,
        "body": write(migration),
    }
