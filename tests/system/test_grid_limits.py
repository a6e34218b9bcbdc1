"""A limit of the grid over MQTT changes the plan of the shipped daemons, by meters of plants on Modbus."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from agent.grid.wire import stamp
from sterna.v1 import fleet_pb2
from tests.brokers import Broker
from tests.ports import free_port
from tests.system.dso import BASE_LOAD_W, CLOCK, dso, metered, plant_argv
from tests.system.harness import IDLE_W, JOB_POWER_W, Admin, System, Training

pytestmark = [pytest.mark.procs, pytest.mark.broker]

LEFT_W = 150.0
# Jobs of the tests seal and load in less than a second; a surplus is believed for a quarter of an hour.
PLANNER = {
    "policy": "feasibility-aware",
    "epsilon": 0.5,
    "seal_s": 1.0,
    "load_s": 1.0,
    "min_residence_s": 3600.0,
}
LIMIT_W = BASE_LOAD_W + IDLE_W + LEFT_W


@pytest.fixture
def fleet(tmp_path: Path, broker: Broker) -> Iterator[System]:
    west, east = free_port(), free_port()
    free = {**metered(tmp_path, "east", east, broker), "grid": {"operator": "none"}}
    system = System(
        folder=tmp_path,
        sites=("east", "west"),
        agents={"west": metered(tmp_path, "west", west, broker), "east": free},
        coordinator={"planner": PLANNER},
    )
    system.daemons.add("west-plant", *plant_argv(tmp_path, "west", west, pv_w=0.0))
    system.daemons.add("east-plant", *plant_argv(tmp_path, "east", east, pv_w=9000.0))
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


async def limit_seen(admin: Admin, limit_w: float | None) -> None:
    """Wait until the coordinator knows what holds at the western site, and what is drawn there."""

    async def look() -> bool:
        site = await admin.site("west")
        if site is None or not site.telemetry.HasField("grid_w"):
            return False
        status = site.grid_status
        return status.state != 0 and (status.limit_w if status.HasField("limit_w") else None) == limit_w

    await admin.until(look, within_s=30, what=f"a limit of {limit_w} W at the coordinator")


async def runs_at(admin: Admin, job_id: str, site_id: str) -> None:
    async def look() -> bool:
        job = await admin.job(job_id)
        return job is not None and job.owner_site == site_id and job.state == fleet_pb2.JOB_STATE_RUNNING

    await admin.until(look, within_s=60, what=f"{job_id} at {site_id}")


def training(name: str) -> Training:
    return Training(name=name, home="west", steps=10**7, step_s=0.5)


async def test_a_limit_sends_jobs_elsewhere_and_its_release_lets_them_come(
    fleet: System, broker: Broker
) -> None:
    async with fleet.admin() as admin, dso(broker, "west") as operator:
        await admin.connected()
        await operator.send(operator.command(LIMIT_W, rampS=0))
        await limit_seen(admin, LIMIT_W)
        elsewhere = await admin.submit(training("elsewhere"))
        await runs_at(admin, elsewhere, "east")
        told = " ".join(fleet.cli("job", "explain", elsewhere).split())
        assert "the grid limit at west leaves" in told
        assert f"the job draws {JOB_POWER_W:.0f} W; would fit with a limit of" in told

        await operator.send(operator.command(None))
        await limit_seen(admin, None)
        home = await admin.submit(training("home"))
        await runs_at(admin, home, "west")

        # The site would ask for the job to be moved away after five minutes only, and it has just come.
        await operator.send(operator.command(LIMIT_W, rampS=0))
        await runs_at(admin, home, "east")
        moved = await admin.migration(home)
        assert moved is not None
        assert "the grid limit at west leaves less than the jobs there draw" in moved.reason
        assert len(fleet.trainers(home)) == 1


async def test_a_job_has_left_when_a_limit_that_was_announced_begins(fleet: System, broker: Broker) -> None:
    async with fleet.admin() as admin, dso(broker, "west") as operator:
        await admin.connected()
        await operator.send(operator.command(None))
        await limit_seen(admin, None)
        job_id = await admin.submit(training("early"))
        await runs_at(admin, job_id, "west")

        begins_at = CLOCK.now() + timedelta(minutes=20)
        await operator.send(operator.command(LIMIT_W, start=stamp(begins_at), durationS=7200))
        await runs_at(admin, job_id, "east")
        assert CLOCK.now() < begins_at
        await limit_seen(admin, None)
        moved = await admin.migration(job_id)
        assert moved is not None
        limit = f"{LIMIT_W / 1e3:g} kW at {begins_at:%H:%M} UTC"
        assert moved.reason.startswith(f"leaves before the limit of {limit}; east")
