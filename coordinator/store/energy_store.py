"""The energy ledger on disk: who drew where when (stays), what is to be booked, and what was.

What a slot holds is reckoned by `coordinator.core.energy_ledger`; here is where its figures come from and
where they go.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from coordinator.core.energy_ledger import Booked, Entry, MeterSample, Stay, weights
from coordinator.core.ledger import PowerSample
from coordinator.core.stays import draws_at, moves
from coordinator.model.fleet import FleetState
from coordinator.model.site import Quality
from coordinator.store import schema
from coordinator.store.database import Database

_SEEN, _UNTIL = "energy_telemetry_seq", "energy_slots_until"
_FIGURES = tuple(one.name for one in fields(Entry))
_MOST_W = 1e12
_KNOWN = frozenset({Quality.OK.value, Quality.ESTIMATED.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One stretch of time at one site; what the ledger is booked by."""

    site_id: str
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a slot is reckoned from. `booked_samples`: from how many it was before; None: it was not."""

    samples: tuple[MeterSample, ...]
    stays: tuple[Stay, ...]
    booked_samples: int | None


class EnergyStore:
    """The tables of the energy ledger.

    Parameters
    ----------
    database : Database
        Where.
    slot_s : float
        Length of a slot; whole slots make a day.
    """

    def __init__(self, database: Database, *, slot_s: float) -> None:
        self._database = database
        self._slot = timedelta(seconds=slot_s)

    async def adopt(self, state: FleetState) -> None:
        """Open the stays of jobs that drew before there was a ledger."""
        await self._database.run(lambda connection: _adopt(connection, state))

    async def due(self, sites: Iterable[str], ended_before: datetime, limit: int) -> tuple[Slot, ...]:
        """Return slots to be booked, the oldest first: those that ended, and those that late samples touched.

        Parameters
        ----------
        sites : iterable of str
            The configured sites: a slot of silence is booked too, as unmetered.
        ended_before : datetime
            Slots that end later wait.
        limit : int
            How many at most.
        """
        names = sorted(sites)
        return await self._database.run(lambda connection: self._due(connection, names, ended_before, limit))

    async def sources(self, slot: Slot, hold_s: float) -> Sources:
        """Return the samples and stays of a slot; a sample before it may reach into it."""
        return await self._database.run(lambda connection: _sources(connection, slot, hold_s))

    def booking(self, slot: Slot, entries: Mapping[str, Entry], samples: int) -> Callable[[Connection], None]:
        """Return what books a slot, in place of what was booked of it before, in somebody's transaction."""
        return lambda connection: _book(connection, slot, entries, samples)

    async def book(self, slot: Slot, entries: Mapping[str, Entry], samples: int) -> None:
        """Book a slot."""
        await self._database.run(self.booking(slot, entries, samples))

    async def drop(self, slot: Slot) -> None:
        """Leave a slot as it is booked."""
        await self._database.run(lambda connection: _not_due(connection, slot))

    async def rows(
        self, *, site_id: str, job_id: str, since: datetime | None, until: datetime | None
    ) -> tuple[Booked, ...]:
        """Return what was booked, by site and job.

        Parameters
        ----------
        site_id, job_id : str
            Only of these; "": of all.
        since, until : datetime or None
            Slots that reach into the interval count whole; None: no bound.
        """
        table = schema.energy
        sums = [func.sum(table.c[name]).label(name) for name in _FIGURES]
        query = select(table.c.site_id, table.c.job_id, *sums).group_by(table.c.site_id, table.c.job_id)
        query = query.order_by(table.c.site_id, table.c.job_id)
        if site_id:
            query = query.where(table.c.site_id == site_id)
        if job_id:
            query = query.where(table.c.job_id == job_id)
        if since is not None:
            query = query.where(table.c.end_at > since)
        if until is not None:
            query = query.where(table.c.start_at < until)
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return tuple(
            Booked(
                site_id=row.site_id,
                job_id=row.job_id,
                entry=Entry(**{name: row._mapping[name] for name in _FIGURES}),
            )
            for row in rows
        )

    async def span(self) -> tuple[datetime, datetime] | None:
        """Return from when to when something is booked; None: nothing is."""
        table = schema.energy
        query = select(func.min(table.c.start_at), func.max(table.c.end_at))
        first, last = await self._database.run(lambda connection: connection.execute(query).one())
        return (_aware(first), _aware(last)) if first is not None else None

    def _due(
        self, connection: Connection, sites: list[str], ended_before: datetime, limit: int
    ) -> tuple[Slot, ...]:
        _mark_due(connection, [*self._touched(connection), *self._ended(connection, sites, ended_before)])
        table = schema.energy_due
        query = select(table).where(table.c.start_at <= ended_before - self._slot)
        rows = connection.execute(query.order_by(table.c.start_at, table.c.site_id).limit(limit)).all()
        return tuple(self._slot_of(row.site_id, _aware(row.start_at)) for row in rows)

    def _touched(self, connection: Connection) -> list[tuple[str, datetime]]:
        """Return the slots of telemetry that came since the last time."""
        table = schema.telemetry
        seen = int(_mark(connection, _SEEN) or 0)
        query = select(
            table.c.site_id,
            func.min(table.c.measured_at),
            func.max(table.c.measured_at),
            func.max(table.c.seq),
        )
        rows = connection.execute(query.where(table.c.seq > seen).group_by(table.c.site_id)).all()
        if rows:
            _set_mark(connection, _SEEN, str(max(seq for _, _, _, seq in rows)))
        return [
            (site_id, start_at)
            for site_id, first, last, _ in rows
            for start_at in self._starts(_aware(first), _aware(last))
        ]

    def _ended(
        self, connection: Connection, sites: list[str], ended_before: datetime
    ) -> list[tuple[str, datetime]]:
        """Return the slots that ended since the last time, of every site."""
        stored = _mark(connection, _UNTIL)
        since = datetime.fromisoformat(stored) if stored is not None else self._floor(ended_before)
        until = self._floor(ended_before)
        if stored is None or until > since:
            _set_mark(connection, _UNTIL, until.isoformat())
        return [(site, at) for at in self._starts(since, until) if at < until for site in sites]

    def _starts(self, first: datetime, last: datetime) -> Iterable[datetime]:
        at = self._floor(first)
        while at <= last:
            yield at
            at += self._slot

    def _floor(self, at: datetime) -> datetime:
        return at - (at - datetime(1970, 1, 1, tzinfo=UTC)) % self._slot

    def _slot_of(self, site_id: str, start_at: datetime) -> Slot:
        return Slot(site_id=site_id, start_at=start_at, end_at=start_at + self._slot)


def follow(connection: Connection, before: FleetState, after: FleetState, at: datetime) -> None:
    """Note who draws where, in the transaction that changes the fleet."""
    table = schema.stays
    for move in moves(before, after):
        if move.left is not None:
            ended = update(table).where(table.c.job_id == move.job_id, table.c.end_at.is_(None))
            connection.execute(ended.values(end_at=at))
        if move.reached is not None:
            _open(connection, move.job_id, move.reached, move.power_w, at)


def _adopt(connection: Connection, state: FleetState) -> None:
    table = schema.stays
    query = select(table.c.job_id).where(table.c.end_at.is_(None))
    known = {row.job_id for row in connection.execute(query)}
    for job_id, job in state.jobs.items():
        site_id = draws_at(state, job)
        if site_id is not None and job_id not in known and job.grant is not None:
            _open(connection, job_id, site_id, job.spec.power_w, job.running_since or job.grant.granted_at)


def _open(connection: Connection, job_id: str, site_id: str, power_w: float, at: datetime) -> None:
    row = {"job_id": job_id, "site_id": site_id, "power_w": power_w, "start_at": at, "end_at": None}
    connection.execute(insert(schema.stays).values(row))


def _sources(connection: Connection, slot: Slot, hold_s: float) -> Sources:
    table = schema.telemetry
    query = select(table.c.measured_at, table.c.quality, table.c.surplus_w, table.c.compute_w)
    reach = slot.start_at - timedelta(seconds=hold_s)
    query = query.where(
        table.c.site_id == slot.site_id, table.c.measured_at >= reach, table.c.measured_at < slot.end_at
    )
    rows = connection.execute(query.order_by(table.c.measured_at, table.c.seq)).all()
    booked = select(schema.energy.c.samples).where(
        schema.energy.c.site_id == slot.site_id, schema.energy.c.start_at == slot.start_at
    )
    return Sources(
        samples=tuple(
            _sample(_aware(at), quality, surplus, compute) for at, quality, surplus, compute in rows
        ),
        stays=_stays(connection, slot),
        booked_samples=connection.execute(booked.limit(1)).scalar(),
    )


def _sample(at: datetime, quality: str, surplus_w: float | None, compute_w: float | None) -> MeterSample:
    known = quality in _KNOWN
    power = PowerSample(
        at=at,
        surplus_w=_plausible(surplus_w) if known else None,
        compute_w=_plausible(compute_w) if known else None,
    )
    return MeterSample(power=power, estimated=quality == Quality.ESTIMATED.value)


def _plausible(power_w: float | None) -> float | None:
    """Return what may be added up; no site draws a terawatt, and infinities would spoil every sum."""
    return power_w if power_w is not None and abs(power_w) < _MOST_W else None


def _stays(connection: Connection, slot: Slot) -> tuple[Stay, ...]:
    table = schema.stays
    query = select(table).where(table.c.site_id == slot.site_id, table.c.start_at < slot.end_at)
    query = query.where(or_(table.c.end_at.is_(None), table.c.end_at > slot.start_at))
    rows = connection.execute(query.order_by(table.c.seq)).all()
    claims = weights({row.job_id: row.power_w for row in rows})

    def offset_s(at: datetime | None) -> float:
        return (_aware(at or slot.end_at) - slot.start_at).total_seconds()

    return tuple(
        Stay(
            job_id=row.job_id,
            start_s=offset_s(row.start_at),
            end_s=offset_s(row.end_at),
            weight_w=claims[row.job_id],
        )
        for row in rows
    )


def _book(connection: Connection, slot: Slot, entries: Mapping[str, Entry], samples: int) -> None:
    table = schema.energy
    connection.execute(
        delete(table).where(table.c.site_id == slot.site_id, table.c.start_at == slot.start_at)
    )
    shared = {"site_id": slot.site_id, "start_at": slot.start_at, "end_at": slot.end_at, "samples": samples}
    rows = [
        {**shared, "job_id": job_id, **{name: getattr(entry, name) for name in _FIGURES}}
        for job_id, entry in sorted(entries.items())
    ]
    if rows:
        connection.execute(insert(table), rows)
    _not_due(connection, slot)


def _not_due(connection: Connection, slot: Slot) -> None:
    table = schema.energy_due
    connection.execute(
        delete(table).where(table.c.site_id == slot.site_id, table.c.start_at == slot.start_at)
    )


def _mark_due(connection: Connection, slots: list[tuple[str, datetime]]) -> None:
    if slots:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        rows = [{"site_id": site_id, "start_at": at} for site_id, at in sorted(set(slots))]
        connection.execute(dialect.insert(schema.energy_due).on_conflict_do_nothing(), rows)


def _mark(connection: Connection, key: str) -> str | None:
    return connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == key)).scalar()


def _set_mark(connection: Connection, key: str, value: str) -> None:
    connection.execute(delete(schema.meta).where(schema.meta.c.key == key))
    connection.execute(insert(schema.meta).values(key=key, value=value))


def _aware(at: datetime) -> datetime:
    # SQLite has no zones: what went in as UTC comes out bare.
    return at if at.tzinfo else at.replace(tzinfo=UTC)
