"""The newest checkpoint of a waiting job has rotted where it lies: found out as it is carried elsewhere.

The sites and their coordinator are the shipped daemons. The job waits because its lease has run out at a
site that is drained, while the only other one is full.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.simulator import steplog
from agent.simulator.evidence import digest
from sterna.v1 import fleet_pb2, job_pb2
from sterna.v1 import operator_service_pb2 as api
from tests.system.harness import Admin, System, Training, reference_digest

pytestmark = pytest.mark.procs

LEASE_S = 4.0
STUCK = Training(
    name="stuck",
    home="north",
    steps=160,
    seed=8,
    step_s=0.05,
    on_partition=job_pb2.ON_PARTITION_STOP,
    stop_grace_s=5,
)
IN_THE_WAY = Training(name="in-the-way", home="south", steps=5000, seed=9, step_s=0.1)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    one_slot = {"jobs": {"slots": 1, "checkpoint_interval_s": 0.5}}
    system = System(
        folder=tmp_path,
        sites=("north", "south"),
        coordinator={
            # Under the policy of the other tests jobs stay at home. No site of these ever lacks surplus.
            "planner": {"policy": "feasibility-aware"},
            "lease": {"ttl_s": LEASE_S, "skew_s": 1.0, "kill_grace_s": 2.0},
            "migration": {"carry_after_s": 2.0},
        },
        agents={"north": one_slot, "south": one_slot},
    )
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


async def test_it_goes_on_from_the_one_before_at_the_site_with_room(system: System) -> None:
    async with system.admin() as admin:
        await admin.connected()
        in_the_way = await admin.submit(IN_THE_WAY)
        await admin.trained(in_the_way, IN_THE_WAY, 1)
        job_id = await admin.submit(STUCK)
        await admin.trained(job_id, STUCK, 45)
        await _waits_where_there_is_no_room(system, admin, job_id)
        (_, step), (newest, newest_step) = sorted(
            system.sealed(job_id, ["north"]).items(), key=lambda one: one[1]
        )
        _rot(system, job_id, newest)

        cancel = api.CancelJobRequest(request_id=uuid.uuid4().hex, job_id=in_the_way)
        await admin.stub.CancelJob(cancel, timeout=10)
        await _says(
            admin,
            job_id,
            f"its checkpoint of step {newest_step} at north is corrupt or gone; it goes on from step {step}",
        )
        job = await admin.ended(job_id, within_s=90)
    assert job.state == fleet_pb2.JOB_STATE_COMPLETED, job.message
    entries = system.entries(STUCK)
    assert min(entry.step for entry in entries if entry.site == "south") == step + 1
    assert {entry.step for entry in entries} == set(range(1, STUCK.steps + 1))
    assert steplog.double_runs(entries) == 0
    assert digest(system.final(STUCK)) == reference_digest(STUCK, system.folder)
    said = [line for line in system["north"].said().splitlines() if "checkpoint is corrupt" in line]
    assert len(said) == 1 and newest in said[0] and "differs, in" in said[0]


async def _says(admin: Admin, job_id: str, message: str) -> None:
    """Wait until the coordinator says something of a job, which lasts for as long as it waits."""

    async def look() -> bool:
        job = await admin.job(job_id)
        return job is not None and job.message == message

    await admin.until(look, within_s=30, what=message)


async def _waits_where_there_is_no_room(system: System, admin: Admin, job_id: str) -> None:
    """Have the job's lease run out at a site that is then no place to start."""
    drain = api.DrainSiteRequest(request_id=uuid.uuid4().hex, site_id="north")
    await admin.stub.DrainSite(drain, timeout=10)
    assert system["coordinator"].stop() == 0
    await admin.until(lambda: not system.trainers(job_id), within_s=LEASE_S + 20, what="the end of the lease")
    trained = max(entry.step for entry in system.entries(STUCK))
    assert trained < STUCK.steps, "the job was too short to be cut off"
    await admin.until(
        lambda: max(system.sealed(job_id).values(), default=0) == trained,
        within_s=20,
        what=f"a sealed checkpoint of step {trained}",
    )
    system["coordinator"].start()
    await admin.connected()

    async def waits() -> bool:
        job = await admin.job(job_id)
        return job is not None and job.state == fleet_pb2.JOB_STATE_QUEUED

    await admin.until(waits, within_s=30, what="the job in the queue")


def _rot(system: System, job_id: str, checkpoint_id: str) -> None:
    """Flip a bit in the middle of a sealed checkpoint, on the disk of its site."""
    folder = system.folder / "state-north" / "checkpoints" / "sealed" / job_id / checkpoint_id
    victim = max((folder / "files").rglob("*.npz"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
