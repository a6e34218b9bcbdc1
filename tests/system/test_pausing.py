"""Pauses for surplus on the shipped daemons: by order, over restarts of both sides, and never for ever."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sterna.v1 import fleet_pb2
from sterna.v1 import operator_service_pb2 as api
from tests.brokers import Broker
from tests.ports import free_port
from tests.system.dso import metered, plant_argv
from tests.system.harness import Admin, System, Training

pytestmark = [pytest.mark.procs, pytest.mark.broker, pytest.mark.long]

HOLD_S = 15.0
PATIENT = Training(name="patient", home="west", steps=10**7, step_s=0.1, work_s=3600.0)
HEAVY_W = 3000.0


@pytest.fixture
def site(tmp_path: Path, broker: Broker) -> Iterator[System]:
    port = free_port()
    planner = {"policy": "sterna", "hold_back_s": 40_000.0, "hold_s": HOLD_S, "least_run_s": 0.0}
    system = System(
        folder=tmp_path,
        sites=("west",),
        agents={"west": metered(tmp_path, "west", port, broker)},
        coordinator={"planner": planner},
    )
    system.daemons.add("plant", *plant_argv(tmp_path, "west", port))
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


def heavy(name: str) -> Training:
    """A job that waits for nobody and takes all the surplus there is."""
    return Training(name=name, home="west", steps=10**7, step_s=0.1, power_w=HEAVY_W)


def stands_still(system: System, job_id: str) -> bool:
    """Whether the one process of a job is stopped, seen in the machine's process table."""
    alive = system.trainers(job_id)
    return len(alive) == 1 and _state(alive[0].pid) == "T"


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def paused(admin: Admin, job_id: str, *, within_s: float = 40.0) -> fleet_pb2.Job:
    """Wait until a job is paused for surplus, and says so."""

    async def look() -> fleet_pb2.Job | None:
        job = await admin.job(job_id)
        said = job is not None and job.message.startswith("paused for surplus; goes on by ")
        still = stands_still(admin.system, job_id)
        return job if said and job and job.state == fleet_pb2.JOB_STATE_PAUSED and still else None

    return await admin.until(look, within_s=within_s, what="a pause for surplus")


async def goes_on(admin: Admin, job_id: str, training: Training, *, within_s: float) -> None:
    """Wait until a job does new steps."""
    before = admin.system.entries(training)[-1].step
    await admin.trained(job_id, training, before + 5, within_s=within_s)


async def still_while(admin: Admin, training: Training, other: Training, other_id: str) -> None:
    """See that a job does nothing while another one does twenty steps."""
    before = admin.system.entries(training)[-1].step
    seen = max((one.step for one in admin.system.entries(other)), default=0)
    await admin.trained(other_id, other, seen + 20, within_s=60)
    assert admin.system.entries(training)[-1].step <= before + 1


async def test_a_job_pauses_for_surplus_and_goes_on(site: System) -> None:
    first, second = heavy("first"), heavy("second")
    async with site.admin() as admin:
        await admin.connected()
        patient = await admin.submit(PATIENT)
        await admin.trained(patient, PATIENT, 5, within_s=60)
        busy = await admin.submit(first)
        await paused(admin, patient)
        explained = await admin.stub.ExplainJob(api.ExplainJobRequest(job_id=patient), timeout=10)
        assert explained.decision.reason.startswith("held back for surplus, with ")
        await still_while(admin, PATIENT, first, busy)

        site["west"].kill()
        site["west"].start()
        await admin.connected()
        await paused(admin, patient)
        site["coordinator"].kill()
        site["coordinator"].start()
        await admin.connected()
        await paused(admin, patient)
        await still_while(admin, PATIENT, first, busy)
        (one,) = site.trainers(patient)
        assert one.epoch == 1, "nothing was started anew"

        await admin.stub.CancelJob(api.CancelJobRequest(request_id="c", job_id=busy), timeout=10)
        await goes_on(admin, patient, PATIENT, within_s=60)
        await admin.submit(second)
        await paused(admin, patient, within_s=60)
        site["coordinator"].kill()
        await goes_on(admin, patient, PATIENT, within_s=HOLD_S + 45)
