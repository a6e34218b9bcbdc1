"""A site that cannot read its checkpoints meters and reports all the same, takes no job, and serves again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sterna.v1 import fleet_pb2
from tests.system.harness import System, Training

pytestmark = pytest.mark.procs


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[System]:
    system = System(folder=tmp_path, sites=("harbor",))
    try:
        yield system
    finally:
        system.daemons.end_all()


async def test_it_says_so_and_takes_no_job_until_it_can(fleet: System, tmp_path: Path) -> None:
    store = tmp_path / "state-harbor" / "checkpoints"
    store.mkdir(parents=True)
    (store / "sealed").touch()  # in the place of a folder: root, too, cannot read it
    fleet.start()
    training = Training(name="t", home="harbor", steps=60)
    async with fleet.admin() as admin:
        await admin.connected("harbor")

        async def told() -> bool:
            site = await admin.site("harbor")
            return site is not None and site.telemetry.HasField("grid_w")

        await admin.until(told, within_s=30, what="telemetry")
        site = await admin.site("harbor")
        assert site is not None
        assert str(store) in site.capabilities.storage_fault
        assert (site.capabilities.slots, site.capabilities.storage_free_bytes) == (0, 0)
        job_id = await admin.submit(training)
        job = await admin.job(job_id)
        assert job is not None and job.state == fleet_pb2.JOB_STATE_QUEUED

        (store / "sealed").unlink()
        ended = await admin.ended(job_id, within_s=90)
        assert ended.state == fleet_pb2.JOB_STATE_COMPLETED
        site = await admin.site("harbor")
        assert site is not None and site.capabilities.storage_fault == ""
    assert fleet["harbor"].running
