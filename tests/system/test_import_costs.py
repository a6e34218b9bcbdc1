"""What OpenADR servers tell two sites of their import changes the plan of the shipped daemons."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from agent.grid.wire import stamp
from agent.simulator.vtn import SimulatedVtn
from sterna.v1 import fleet_pb2
from tests.brokers import Broker
from tests.ports import free_port
from tests.system.dso import CLOCK, metered, plant_argv
from tests.system.harness import Admin, System, Training

pytestmark = [pytest.mark.procs, pytest.mark.broker]

SITES = ("east", "west")
SECRET = "of the tests"
Vtns = dict[str, SimulatedVtn]


@pytest.fixture
async def vtns() -> AsyncIterator[Vtns]:
    async with AsyncExitStack() as stack:
        found = {site: SimulatedVtn(client_id=f"ven-{site}", client_secret=SECRET) for site in SITES}
        for vtn in found.values():
            await vtn.start()
            stack.push_async_callback(vtn.stop)
        yield found


@pytest.fixture
def fleet(tmp_path: Path, broker: Broker, vtns: Vtns, request: pytest.FixtureRequest) -> Iterator[System]:
    """Two dark sites, each with meters on Modbus and a server of its own."""
    secret = tmp_path / "vtn-secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET)
    ports = {site: free_port() for site in SITES}
    agents = {}
    for site, port in ports.items():
        openadr = {
            "url": vtns[site].url,
            "client_id": f"ven-{site}",
            "client_secret_file": "vtn-secret",
            "poll_period_s": 1.0,
        }
        agents[site] = metered(tmp_path, site, port, broker, operator="none", openadr=openadr)
    planner = {
        "policy": "sterna",
        "objective": request.param,
        "seal_s": 1.0,
        "load_s": 1.0,
        "min_residence_s": 1.0,
    }
    system = System(folder=tmp_path, sites=SITES, agents=agents, coordinator={"planner": planner})
    for site, port in ports.items():
        system.daemons.add(f"{site}-plant", *plant_argv(tmp_path, site, port, pv_w=0.0))
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


async def tell(vtn: SimulatedVtn, payload: str, value: float) -> None:
    """Say what import costs for the next hours."""
    program = await vtn.put_program({"programName": "tariff", "objectType": "PROGRAM"})
    begins = stamp(CLOCK.now() - timedelta(minutes=1))
    interval = {"id": 0, "payloads": [{"type": payload, "values": [value]}]}
    period = {"start": begins, "duration": "PT12H"}
    event = {"programID": program, "objectType": "EVENT", "intervalPeriod": period, "intervals": [interval]}
    await vtn.put_event(event)


async def explained(fleet: System, admin: Admin, job_id: str, words: str) -> None:
    async def look() -> bool:
        return words in " ".join(fleet.cli("job", "explain", job_id).split())

    await admin.until(look, within_s=30, what=f"the plan to say: {words}")


@pytest.mark.parametrize(
    ("fleet", "payload", "dear", "cheap", "said"),
    [
        ("price", "PRICE", 0.4, 0.05, "import costs 0.05 money/kWh there and 0.4 here"),
        ("carbon", "GHG", 600.0, 60.0, "import costs 60 g/kWh there and 600 here"),
    ],
    indirect=["fleet"],
)
async def test_a_job_goes_where_import_costs_less(  # noqa: PLR0917 - two fixtures, four of a case
    fleet: System, vtns: Vtns, payload: str, dear: float, cheap: float, said: str
) -> None:
    async with fleet.admin() as admin:
        await admin.connected()
        job_id = await admin.submit(Training(name="dark", home="west", steps=10**7, step_s=0.5))
        await runs_at(admin, job_id, "west")
        await tell(vtns["west"], payload, dear)
        # What nobody tells of the east is never cheap.
        await explained(fleet, admin, job_id, "no move elsewhere passes every test")
        job = await admin.job(job_id)
        assert job is not None and job.owner_site == "west"

        await tell(vtns["east"], payload, cheap)
        await runs_at(admin, job_id, "east")
        moved = await admin.migration(job_id)
        assert moved is not None
        assert said in moved.reason
        assert len(fleet.trainers(job_id)) == 1


async def runs_at(admin: Admin, job_id: str, site_id: str) -> None:
    async def look() -> bool:
        job = await admin.job(job_id)
        return job is not None and job.owner_site == site_id and job.state == fleet_pb2.JOB_STATE_RUNNING

    await admin.until(look, within_s=60, what=f"{job_id} at {site_id}")
