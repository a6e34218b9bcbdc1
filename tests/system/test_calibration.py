"""A GPU that under-reads: a real fleet with a plant on Modbus learns by how much, as jobs come and go."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterna.v1 import operator_service_pb2 as api
from tests.ports import free_port
from tests.system.dso import BASE_LOAD_W
from tests.system.harness import IDLE_W, JOB_POWER_W, System, Training

pytestmark = [pytest.mark.procs, pytest.mark.long]

TRUE_FACTOR = 1.8
DWELL_S = 30.0
"""How long a job runs and how long the site rests: what a step takes to be seen."""
ROLES = (("inverter", "generation", 1), ("grid", "grid", 2))


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    port = free_port()
    site = {
        "meters": [
            {"name": name, "role": role, "host": "127.0.0.1", "port": port, "unit_id": unit}
            for name, role, unit in ROLES
        ],
        "gpu": {
            "kind": "fake",
            "idle_w": IDLE_W,
            "max_w": IDLE_W + 4 * JOB_POWER_W,
            "power_path": str(tmp_path / "compute-w"),
            "fake_rail_frac": 1 / TRUE_FACTOR,
            "calibration": {"mode": "learn"},
        },
    }
    system = System(folder=tmp_path, sites=("west",), agents={"west": site})
    argv = ["simulate", "--site", "west", "--place", "miami", "--trace-start", "2021-06-21T17:00:00Z"]
    argv += ["--pv-w", "3000", "--base-load-w", str(BASE_LOAD_W), "--port", str(port)]
    system.daemons.add("plant", "sterna-agent", *argv, "--compute-power-path", str(tmp_path / "compute-w"))
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


async def test_a_site_learns_what_its_gpu_really_draws(system: System) -> None:
    async with system.admin() as admin:
        await admin.connected()

        async def power() -> tuple[float, float, float]:
            """Return the factor, the node's draw and the site's own load as the coordinator has them."""
            site = await admin.site("west")
            assert site is not None
            (gpu,) = site.telemetry.gpus
            return gpu.calibration_factor, site.telemetry.compute_w, site.telemetry.site_load_w

        async def begin(number: int) -> str:
            job_id = await admin.submit(Training(name=f"job-{number}", home="west", steps=10**6))
            await admin.settled(job_id)
            return job_id

        async def misled() -> bool:
            factor, _, load_w = await power()
            return factor == 1.0 and load_w > BASE_LOAD_W + 100

        first = await begin(0)
        await admin.until(misled, within_s=15.0, what="the job as a load of the house")
        await asyncio.sleep(DWELL_S)
        await admin.stub.CancelJob(api.CancelJobRequest(request_id="cancel-0", job_id=first), timeout=10)
        for number in range(1, 4):
            await asyncio.sleep(DWELL_S)
            job_id = await begin(number)
            await asyncio.sleep(DWELL_S)
            request = api.CancelJobRequest(request_id=f"cancel-{number}", job_id=job_id)
            await admin.stub.CancelJob(request, timeout=10)

        async def learnt() -> bool:
            return (await power())[0] != 1.0

        await admin.until(learnt, within_s=60.0, what="a factor")
        last = await begin(9)

        async def right() -> bool:
            factor, compute_w, load_w = await power()
            return (
                factor == pytest.approx(TRUE_FACTOR, rel=0.05)
                and compute_w == pytest.approx(IDLE_W + JOB_POWER_W, rel=0.05)
                and load_w == pytest.approx(BASE_LOAD_W, rel=0.05)
            )

        await admin.until(right, within_s=15.0, what="figures that are right")
        await admin.stub.CancelJob(api.CancelJobRequest(request_id="end", job_id=last), timeout=10)
