"""The source of a job is cut off for longer than its lease while the job runs, and comes back: one owner."""

import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.simulator import steplog
from agent.simulator.evidence import digest
from sterna.v1 import fleet_pb2, job_pb2
from sterna.v1 import operator_service_pb2 as api
from tests.faults.proxy import Proxy, proxy_to
from tests.ports import free_port
from tests.system.daemons import of_folder, until
from tests.system.harness import Admin, System, Training, reference_digest

pytestmark = [pytest.mark.long, pytest.mark.procs]

LEASE_S = 4.0
LEASES = {"lease": {"ttl_s": LEASE_S, "skew_s": 1.0, "kill_grace_s": 2.0}}
OVER_WITHIN_S = LEASE_S + 30.0
STAY = Training(name="stay", home="east", steps=450, seed=8, step_s=0.1)
LEAVE = Training(
    name="leave",
    home="east",
    steps=250,
    seed=9,
    step_s=0.1,
    on_partition=job_pb2.ON_PARTITION_STOP,
    stop_grace_s=3,
)


@asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[tuple[System, Proxy]]:
    """Two sites; between west and the coordinator lies a link that can be cut."""
    port = free_port()
    async with proxy_to(port) as link:
        west = {"coordinator": {"address": link.address, "backoff_max_s": 2.0}}
        system = System(
            folder=folder, sites=("west", "east"), coordinator=LEASES, agents={"west": west}, port=port
        )
        try:
            system.start()
            yield system, link
        finally:
            system.daemons.end_all()


def cut(link: Proxy) -> None:
    """Cut the link: what is on its way is lost, and nobody gets through any more."""
    link.faults.black_hole = link.faults.refuse = True
    link.reset()


def heal(link: Proxy) -> None:
    """Mend it."""
    link.faults.black_hole = link.faults.refuse = False


async def moved_west(admin: Admin, training: Training) -> str:
    """Start a job in the east and move it west, so that both sites have a checkpoint of it."""
    job_id = await admin.submit(training)
    await admin.trained(job_id, training, 25)
    await admin.move(job_id, "west")

    async def there() -> bool:
        job = await admin.job(job_id)
        return job is not None and job.owner_site == "west" and not job.migration_id

    await admin.until(there, within_s=30, what=f"{job_id} in the west")
    return job_id


async def owned_by(admin: Admin, job_id: str, site: str, *, within_s: float) -> fleet_pb2.Job:
    """Wait until a job runs at a site, and nowhere else."""

    async def look() -> fleet_pb2.Job | None:
        job = await admin.job(job_id)
        alive = [one.site for one in admin.system.trainers(job_id)]
        return job if job is not None and job.owner_site == site and alive == [site] else None

    return await admin.until(look, within_s=within_s, what=f"{job_id} at {site} alone")


async def ended_once(admin: Admin, job_id: str, training: Training) -> None:
    """Wait for the end; never two trainers at once, and the bits of an undisturbed run."""
    job = await admin.ended(job_id, within_s=90)
    assert job.state == fleet_pb2.JOB_STATE_COMPLETED, job.message
    entries = admin.system.entries(training)
    assert steplog.double_runs(entries) == 0, "two trainers ran at once"
    assert {entry.step for entry in entries} == set(range(1, training.steps + 1))
    assert not admin.system.trainers(job_id)
    assert digest(admin.system.final(training)) == reference_digest(training, admin.system.folder)


async def test_with_both_policies(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (system, link), system.admin() as admin:
        await admin.connected()
        stay_id, leave_id = [await moved_west(admin, training) for training in (STAY, LEAVE)]
        (stayed,) = system.trainers(stay_id)
        (left,) = system.trainers(leave_id)
        assert (stayed.site, left.site) == ("west", "west")

        cut(link)
        # The lease ends it in the west; only then may the east have it, from the copy that it has kept.
        restarted = await owned_by(admin, leave_id, "east", within_s=OVER_WITHIN_S)
        assert restarted.epoch > left.epoch
        assert [one.pid for one in system.trainers(stay_id)] == [stayed.pid], "silence ends nothing"
        job = await admin.job(stay_id)
        assert job is not None and job.owner_site == "west"

        heal(link)
        await admin.connected()
        await owned_by(admin, leave_id, "east", within_s=10)
        assert [one.pid for one in system.trainers(stay_id)] == [stayed.pid], "nor does the return"
        await ended_once(admin, stay_id, STAY)
        await ended_once(admin, leave_id, LEAVE)
    assert {entry.pid for entry in system.entries(STAY) if entry.site == "west"} == {stayed.pid}


async def test_a_fenced_site_that_comes_back_lets_go(tmp_path: Path) -> None:
    async with fleet(tmp_path) as (system, _), system.admin() as admin:
        await admin.connected()
        job_id = await moved_west(admin, STAY)
        (running,) = system.trainers(job_id)
        # The power of the whole site fails: agent, shim and trainer at once.
        system["west"].kill()
        for pid in of_folder(system.folder / "state-west"):
            _kill(pid)
        await until(lambda: not system.trainers(job_id), within_s=10, what="the end of west")

        request = api.FenceSiteRequest(request_id=uuid.uuid4().hex, site_id="west", confirm="west")
        answer = await admin.stub.FenceSite(request, timeout=10)
        assert list(answer.job_ids) == [job_id]
        restarted = await owned_by(admin, job_id, "east", within_s=20)
        assert restarted.epoch > running.epoch

        system["west"].start()
        await admin.connected()
        await admin.trained(job_id, STAY, max(entry.step for entry in system.entries(STAY)) + 20)
        (alone,) = system.trainers(job_id)
        assert alone.site == "east"
        await ended_once(admin, job_id, STAY)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
