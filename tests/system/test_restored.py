"""A coordinator whose store comes from a backup: it does nothing before it has heard every site."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterna.v1 import operator_service_pb2 as api
from tests.system.daemons import Daemon
from tests.system.harness import Admin, System, Training
from tests.system.judging import judge

pytestmark = [pytest.mark.long, pytest.mark.procs]

WAITING = "nothing is done before these sites are heard or fenced"
HEARD = "every site has been heard since the store was restored"


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    system = System(folder=tmp_path, sites=("west", "east"))
    path = str(tmp_path / "coordinator.toml")
    system.daemons.add("restored", "sterna-coordinator", "run", "--restored", "--config", path)
    try:
        for name in ("coordinator", "west", "east"):
            system[name].start()
        yield system
    finally:
        system.daemons.end_all()


async def moved_after_the_backup(system: System, admin: Admin, training: Training) -> str:
    """Back the store up while a job is in the west, move it east, and put the backup back."""
    await admin.connected()
    job_id = await admin.submit(training)
    await admin.trained(job_id, training, 25)
    assert system["coordinator"].stop() == 0
    backup = system.folder / "backup"
    shutil.copytree(system.database.parent, backup)
    system["coordinator"].start()
    await admin.connected()
    await admin.move(job_id, "east")

    async def there() -> bool:
        job = await admin.job(job_id)
        return job is not None and job.owner_site == "east" and not job.migration_id

    await admin.until(there, within_s=30, what="the job in the east")
    system["coordinator"].kill()
    shutil.rmtree(system.database.parent)
    shutil.copytree(backup, system.database.parent)
    return job_id


async def said(admin: Admin, daemon: Daemon, sentence: str) -> None:
    await admin.until(lambda: sentence in daemon.said(), within_s=20, what=sentence)


async def test_it_waits_for_the_site_that_knows_better(system: System) -> None:
    training = Training(name="moved", home="west", steps=500, step_s=0.1)
    async with system.admin() as admin:
        job_id = await moved_after_the_backup(system, admin, training)
        (running,) = system.trainers(job_id)
        system["east"].kill()  # its job goes on; only nobody can ask it

        system["restored"].start()
        await said(admin, system["restored"], WAITING)
        await admin.connected("west")
        job = await admin.job(job_id)
        assert job is not None and job.owner_site == "west", "so the copy has it"
        assert [one.pid for one in system.trainers(job_id)] == [running.pid], "but nobody acts upon it"

        system["east"].start()
        await said(admin, system["restored"], HEARD)

        async def adopted() -> bool:
            job = await admin.job(job_id)
            return job is not None and job.owner_site == "east"

        await admin.until(adopted, within_s=20, what="the truth")
        assert [one.pid for one in system.trainers(job_id)] == [running.pid], "it was never disturbed"
        await judge(system, admin, job_id, training)


async def test_a_fenced_site_is_not_waited_for(system: System) -> None:
    training = Training(name="fenced", home="west", steps=200, step_s=0.1)
    async with system.admin() as admin:
        await admin.connected()
        job_id = await admin.submit(training)
        await admin.trained(job_id, training, 5)
        system["coordinator"].kill()
        system["east"].kill()
        system["restored"].start()
        await said(admin, system["restored"], WAITING)
        await admin.connected("west")
        request = api.FenceSiteRequest(request_id="fence-east", site_id="east", confirm="east")
        await admin.stub.FenceSite(request, timeout=10)
        await said(admin, system["restored"], HEARD)
        await judge(system, admin, job_id, training)
