from pathlib import Path

import pytest

from agent.model.jobs import JobPhase, JobSpec, OnPartition
from agent.model.orders import Fetch, Start
from agent.model.records import JobRecord, Lease, OrderKey, PendingStart
from agent.store.db import Database
from agent.store.jobs import MIGRATIONS, JobRecords
from sterna.errors import CorruptError

SPEC = JobSpec(name="t", argv=("a", "b"), env={"K": "v"}, on_partition=OnPartition.STOP, load_s=2.5)
LEASE = Lease(ttl_s=30.0, expires_s=130.0, boot_id="b")
RECORD = JobRecord(
    job_id="j",
    phase=JobPhase.STOPPING,
    spec=SPEC,
    epoch=3,
    highest_epoch=4,
    migration_id="m",
    boot_id="b",
    run_id="r",
    lease=LEASE,
    fetch=Fetch(checkpoint_id="c", holder_site="a", holder_address=None, ticket="t", max_bps=1e6),
    pending=PendingStart(epoch=4, start=Start(spec=SPEC, checkpoint_id=None, lease_ttl_s=None), lease=LEASE),
    step=7,
    applied=(OrderKey(migration_id="m", kind="stop", epoch=3),),
)


async def test_records_survive(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", MIGRATIONS) as database:
        await JobRecords(database).save(JobRecord(job_id="j"))
        await JobRecords(database).save(RECORD)
        await JobRecords(database).save(JobRecord(job_id="k"))
    async with Database(tmp_path / "a.db", MIGRATIONS) as database:
        loaded = {record.job_id: record for record in await JobRecords(database).load()}
    assert loaded == {"j": RECORD, "k": JobRecord(job_id="k")}


async def test_the_highest_epoch_never_falls(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", MIGRATIONS) as database:
        records = JobRecords(database)
        await records.save(RECORD)
        with pytest.raises(CorruptError, match="below the stored one"):
            await records.save(JobRecord(job_id="j", highest_epoch=3))
        assert await records.load() == (RECORD,)


async def test_a_broken_row_is_named(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", MIGRATIONS) as database:
        await database.run(
            lambda connection: (
                connection.execute("INSERT INTO job VALUES ('j', 1, 'X', '{\"job_id\": 1}')") and None
            )
        )
        with pytest.raises(CorruptError, match="job j: stored record"):
            await JobRecords(database).load()


async def test_fields_of_a_newer_release_are_ignored(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", MIGRATIONS) as database:
        text = '{"job_id": "j", "phase": "SEALED", "highest_epoch": 2, "of_tomorrow": [1]}'
        await database.run(
            lambda connection: (
                connection.execute("INSERT INTO job VALUES ('j', 2, 'SEALED', ?)", (text,)) and None
            )
        )
        (record,) = await JobRecords(database).load()
    assert record == JobRecord(job_id="j", phase=JobPhase.SEALED, highest_epoch=2)
