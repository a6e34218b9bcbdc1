"""A job in a container on the shipped daemons: it starts where its engine is, moves there alone, and ends."""

from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest

from sterna.v1 import fleet_pb2, job_pb2
from sterna.v1 import operator_service_pb2 as api
from tests.agent.jobs import engines
from tests.agent.jobs.engines import IMAGE, Rig
from tests.system.harness import Admin, System

pytestmark = [pytest.mark.procs, pytest.mark.long]

TRAINER = Path(engines.__file__).parent / "container_trainer.py"
SITES = ("ash", "birch", "cedar")  # the first has no engine


@pytest.fixture
def rig() -> Iterator[Rig]:
    with engines.podman() as found:
        if isinstance(found, str):
            pytest.skip(found)
        yield found


@pytest.fixture
def system(tmp_path: Path, rig: Rig) -> Iterator[System]:
    folders = {name: {"path": one.path} for name, one in rig.folders.items()}
    table = {
        "podman": list(rig.command),
        "arguments": list(rig.arguments),
        "init": rig.with_init,
        "mounts": folders | {"code": {"path": str(TRAINER.parent)}},
    }
    system = System(folder=tmp_path, sites=SITES, agents={one: {"containers": table} for one in SITES[1:]})
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


def _spec(**container: object) -> job_pb2.JobSpec:
    fields = {"image": IMAGE, "engine": "podman", "mounts": {"code": "/code"} | engines.python_mounts()}
    return job_pb2.JobSpec(
        name="contained",
        argv=[engines.PYTHON, "/code/container_trainer.py"],
        power_w=100.0,
        checkpoint_bytes=100,
        may_migrate=True,
        container=job_pb2.ContainerSpec(**(fields | container)),
    )


async def _submitted(admin: Admin, spec: job_pb2.JobSpec) -> str:
    answer = await admin.stub.SubmitJob(api.SubmitJobRequest(request_id=spec.name, spec=spec), timeout=10)
    return answer.job.job_id


async def _runs_at(admin: Admin, job_id: str, site: str, beyond: int) -> int:
    """Wait until the job runs at a site and has taken steps there; return the last."""

    async def look() -> int | None:
        job = await admin.job(job_id)
        there = job is not None and (job.owner_site, job.migration_id) == (site, "")
        return job.step if job is not None and there and job.step > beyond else None

    step: int = await admin.until(look, within_s=60.0, what=f"steps at {site}")
    return step


async def test_it_starts_moves_and_ends_where_its_engine_is(system: System, rig: Rig) -> None:
    async with system.admin() as admin:
        await admin.connected()
        site = await admin.site("birch")
        assert site is not None
        assert list(site.capabilities.container_engines) == ["podman"]
        job_id = await _submitted(admin, _spec())
        step = await _runs_at(admin, job_id, "birch", 5)
        explained = await admin.stub.ExplainJob(api.ExplainJobRequest(job_id=job_id), timeout=10)
        assert "the site runs no containers" in str(explained)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await admin.move(job_id, "ash")
        assert refused.value.details() == "site ash: the site runs no containers"
        await admin.move(job_id, "cedar")
        await _runs_at(admin, job_id, "cedar", step)
        (name,) = rig.listed()
        assert name.startswith(f"sterna-{job_id}-")
        (shared,) = (system.folder / "state-cedar" / "jobs" / job_id / "runs").glob("*/shared")
        (shared / "enough").touch()
        ended = await admin.ended(job_id)
        assert ended.state == fleet_pb2.JOB_STATE_COMPLETED
        assert ended.migrations == 1
    assert rig.listed() == []


async def test_one_that_no_site_can_run_waits_and_says_why(system: System) -> None:
    async with system.admin() as admin:
        await admin.connected()
        job_id = await _submitted(admin, _spec(engine="docker"))
        request = api.ExplainJobRequest(job_id=job_id)

        async def look() -> bool:
            said = str(await admin.stub.ExplainJob(request, timeout=10))
            return "the site runs no containers" in said and "the site has no docker, but podman" in said

        await admin.until(look, within_s=30.0, what="an explanation")
        job = await admin.job(job_id)
        assert job is not None and job.state == fleet_pb2.JOB_STATE_QUEUED
