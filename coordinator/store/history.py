"""What is kept beside the fleet, bounded: decisions whole, and telemetry sample by sample."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from math import isfinite
from typing import Any

from sqlalchemy import Column, Connection, RowMapping, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from coordinator.core.chain import Kind, stamp
from coordinator.model.decision import Decision
from coordinator.model.site import GpuSample, Quality, SiteSample
from coordinator.store import schema
from coordinator.store.database import Database
from coordinator.store.documents import read, write
from coordinator.store.records import Recorder

_SAMPLE_COLUMNS = (
    "sequence",
    "measured_at",
    "historical",
    "grid_w",
    "generation_w",
    "available_w",
    "battery_w",
    "compute_w",
    "site_load_w",
    "surplus_w",
)


class DecisionStore:
    """Decisions, newest last. Whoever stores decides which ones are news.

    Parameters
    ----------
    database : Database
        Where.
    recorder : Recorder or None
        Signs a record of each, in the same transaction; None: nobody does.
    """

    def __init__(self, database: Database, recorder: Recorder | None = None) -> None:
        self._database = database
        self._recorder = recorder

    async def add(self, decisions: Mapping[str, Decision]) -> None:
        """Store decisions by their ids."""
        rows = [
            {
                "decision_id": decision_id,
                "job_id": decision.job_id,
                "at": decision.decided_at,
                "kind": decision.kind.value,
                "body": write(decision),
            }
            for decision_id, decision in decisions.items()
        ]
        if not rows:
            return
        if self._recorder is None:
            await self._database.run(lambda connection: connection.execute(insert(schema.decisions), rows))
            return
        signed = [
            (Kind.DECISION, str(row["decision_id"]), decision_body(decision, row))
            for decision, row in zip(decisions.values(), rows, strict=True)
        ]
        await self._recorder.add(
            signed, lambda connection: connection.execute(insert(schema.decisions), rows)
        )

    async def last(self, job_id: str) -> tuple[str, Decision] | None:
        """Return the id and value of a job's last decision; None before the first."""
        table = schema.decisions
        query = select(table.c.decision_id, table.c.body).where(table.c.job_id == job_id)
        query = query.order_by(table.c.seq.desc()).limit(1)
        row = await self._database.run(lambda connection: connection.execute(query).first())
        return (row.decision_id, read(row.body, Decision)) if row is not None else None

    async def trim(self, keep_per_job: int) -> int:
        """Drop all but the newest decisions of each job; return how many went."""
        columns = schema.decisions.c
        return await self._database.run(lambda one: _trim(one, columns.job_id, columns.seq, keep_per_job))


def decision_body(decision: Decision, row: Mapping[str, object]) -> dict[str, Any]:
    """Return what is signed of a decision: what was decided and why, and the hash of all that it weighed.

    Parameters
    ----------
    decision : Decision
        The decision.
    row : mapping
        What is stored of it: `decision_id` and `body`.
    """
    predicted_s, window = decision.predicted_s, decision.window_end_at
    return {
        "decided_at": stamp(decision.decided_at),
        "decision_id": row["decision_id"],
        "does": decision.kind.value,
        "job": decision.job_id,
        "policy": decision.policy,
        "predicted_s": predicted_s if predicted_s is not None and isfinite(predicted_s) else None,
        "reason": decision.reason,
        "sha256": sha256(str(row["body"]).encode()).hexdigest(),
        "source": decision.source_site,
        "target": decision.target_site,
        "window_end_at": stamp(window) if window is not None else None,
    }


class TelemetryStore:
    """Samples of every site, each stored once.

    Parameters
    ----------
    database : Database
        Where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, samples: Mapping[str, Sequence[SiteSample]]) -> None:
        """Store samples by site; those that are there already change nothing."""
        rows = [_sample_row(site_id, sample) for site_id, some in samples.items() for sample in some]
        if rows:
            await self._database.run(lambda connection: _insert_once(connection, rows))

    async def since(self, site_id: str, at: datetime, limit: int = 100_000) -> tuple[SiteSample, ...]:
        """Return a site's samples measured at or after an instant, in order of time."""
        table = schema.telemetry
        query = select(table).where(table.c.site_id == site_id, table.c.measured_at >= at)
        query = query.order_by(table.c.measured_at).limit(limit)
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        return tuple(_sample(row._mapping) for row in rows)

    async def surplus_before(
        self, site_id: str, seq: int | None, limit: int
    ) -> tuple[tuple[int, datetime, float | None], ...]:
        """Return a page of a site's surplus, the last stored first.

        Parameters
        ----------
        site_id : str
            The site.
        seq : int or None
            The last number of the page before; None: the first page.
        limit : int
            Rows of a page.

        Returns
        -------
        tuple
            Number, instant and watts of each sample; None where the surplus was unknown or doubtful.
        """
        table = schema.telemetry
        query = select(table.c.seq, table.c.measured_at, table.c.quality, table.c.surplus_w)
        query = query.where(table.c.site_id == site_id)
        if seq is not None:
            query = query.where(table.c.seq < seq)
        query = query.order_by(table.c.seq.desc()).limit(limit)
        rows = await self._database.run(lambda connection: connection.execute(query).all())
        good = Quality.OK.value
        return tuple(
            (number, _aware(at), surplus_w if quality == good else None)
            for number, at, quality, surplus_w in rows
        )

    async def trim(self, keep_per_site: int) -> int:
        """Drop all but the newest samples of each site; return how many went."""
        columns = schema.telemetry.c
        return await self._database.run(lambda one: _trim(one, columns.site_id, columns.seq, keep_per_site))


def _insert_once(connection: Connection, rows: list[dict[str, object]]) -> None:
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(schema.telemetry).on_conflict_do_nothing(), rows)


def _sample_row(site_id: str, sample: SiteSample) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(sample, name) for name in _SAMPLE_COLUMNS}
    return row | {"site_id": site_id, "quality": sample.quality.value, "gpus": write(sample.gpus)}


def _sample(row: RowMapping) -> SiteSample:
    values = {name: row[name] for name in _SAMPLE_COLUMNS}
    measured_at = row["measured_at"]
    assert isinstance(measured_at, datetime)
    values["measured_at"] = _aware(measured_at)
    gpus = read(str(row["gpus"]), tuple[GpuSample, ...])
    return SiteSample(**values, quality=Quality(row["quality"]), gpus=gpus)


def _aware(at: datetime) -> datetime:
    # SQLite has no zones: what went in as UTC comes out bare.
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _trim(connection: Connection, group: Column[str], seq: Column[int], keep: int) -> int:
    dropped = 0
    crowded = select(group).group_by(group).having(func.count() > keep)
    for (name,) in connection.execute(crowded).all():
        newest = select(seq).where(group == name).order_by(seq.desc()).limit(1).offset(keep - 1)
        oldest_kept = connection.execute(newest).scalar_one()
        gone = connection.execute(delete(group.table).where(group == name, seq < oldest_kept))
        dropped += gone.rowcount
    return dropped
