"""Jobs slowed to the surplus on the shipped daemons: by order, over restarts of both, and never for ever."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterna.v1 import job_pb2
from tests.brokers import Broker
from tests.ports import free_port
from tests.system.dso import BASE_LOAD_W, metered, plant_argv
from tests.system.harness import IDLE_W, Admin, System, Training

pytestmark = [pytest.mark.procs, pytest.mark.broker, pytest.mark.long]

HOLD_S = 10.0
POWER_W = 800.0
SLOW_W = 600.0
SLOWED = "slowed to 600 of 800 W"
JOBS = tuple(
    Training(
        name=name,
        home="west",
        steps=10**7,
        step_s=0.1,
        power_w=POWER_W,
        slow=job_pb2.SlowRange(power_frac=0.5, speed_frac=0.75),
    )
    for name in ("one", "two")
)


@pytest.fixture
def site(tmp_path: Path, broker: Broker) -> Iterator[System]:
    port = free_port()
    system = System(
        folder=tmp_path,
        sites=("west",),
        agents={"west": metered(tmp_path, "west", port, broker)},
        coordinator={"planner": {"policy": "sterna", "hold_s": HOLD_S}},
    )
    system.daemons.add("plant", *plant_argv(tmp_path, "west", port, pv_w=6000.0))
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


def dim(site: System) -> None:
    """Have the plant give less than both jobs would draw beside its own load."""
    limit = {"limit_generation_w": BASE_LOAD_W + len(JOBS) * SLOW_W}
    (site.folder / "west-faults.json").write_text(json.dumps(limit))


def bright(site: System) -> None:
    """Have it give all that the sun allows."""
    (site.folder / "west-faults.json").unlink()


def drawn_w(site: System) -> float:
    """Return what the GPU draws."""
    return float((site.folder / "west-compute-w").read_text())


def is_covered(compute_w: float) -> bool:
    """Tell whether a draw is what the surplus covers; the cap of this GPU has its idle draw in it."""
    return compute_w == pytest.approx(len(JOBS) * SLOW_W, abs=1.1 * IDLE_W)


async def slowed(admin: Admin, job_id: str, *, before: str = "") -> str:
    """Wait until both jobs draw what the surplus covers, by the site's meters too; return what one says.

    `before`: what it said then; it must have been renewed.
    """

    async def look() -> str:
        there, job = await admin.site("west"), await admin.job(job_id)
        if there is None or job is None or job.message == before or not job.message.startswith(SLOWED):
            return ""
        covered = is_covered(drawn_w(admin.system)) and is_covered(there.telemetry.compute_w)
        return job.message if covered else ""

    return str(await admin.until(look, within_s=60.0, what="jobs on the surplus alone"))


async def at_full_power(admin: Admin, *, within_s: float = 60.0) -> None:
    """Wait until the GPU draws all that the jobs do at full power."""
    full_w = IDLE_W + len(JOBS) * POWER_W
    await admin.until(
        lambda: drawn_w(admin.system) == pytest.approx(full_w), within_s=within_s, what="full power"
    )


async def test_jobs_draw_the_surplus_that_is_there(site: System) -> None:
    async with site.admin() as admin:
        await admin.connected()
        one, two = [await admin.submit(training) for training in JOBS]
        await at_full_power(admin)

        dim(site)
        await slowed(admin, one)
        words = f"{SLOWED} for want of surplus; at full power by "
        await admin.until(
            lambda: site.cli("jobs").count(words) == len(JOBS), within_s=30.0, what="a note on each job"
        )
        explained = site.cli("job", "explain", one)
        assert (
            f"{SLOWED}, 88% of its speed: the surplus covers 1200 of the 1600 W that jobs here" in explained
        )

        bright(site)
        await at_full_power(admin)
        await admin.until(lambda: "slowed" not in site.cli("jobs"), within_s=30.0, what="no such note")

        dim(site)
        note = await slowed(admin, two)
        site["west"].kill()
        site["west"].start()
        await slowed(admin, two, before=note)
        site["coordinator"].kill()
        await at_full_power(admin, within_s=HOLD_S + 60.0)

        site["coordinator"].start()
        await slowed(admin, one)
        epochs = [trainer.epoch for job_id in (one, two) for trainer in site.trainers(job_id)]
        assert epochs == [1, 1], "nothing was started anew"
