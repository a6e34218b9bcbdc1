"""Killed at each place of a migration where something becomes durable, once: by name, not by chance."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest

from tests.kills import boundaries
from tests.kills.boundaries import PLACES, SHIM_PLACES, Place
from tests.system.daemons import until
from tests.system.harness import CHECKPOINT_EVERY, STEP_S, Admin, System, Training
from tests.system.judging import judge
from tests.system.killing import CONVERGES_WITHIN_S, VICTIMS

pytestmark = [pytest.mark.long, pytest.mark.procs]

DIES_WITHIN_S = 30.0
STEPS = 60


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two sites and their coordinator, each of which can be armed."""
    system = System(folder=tmp_path_factory.mktemp("kills"), sites=("west", "east"))
    for name, daemon in system.daemons.members.items():
        daemon.env = boundaries.environment(system.folder, name)
    try:
        yield system
    finally:
        system.daemons.end_all()


async def begun(admin: Admin, name: str, *, step_s: float = STEP_S) -> tuple[str, Training]:
    """Start a job at the source that has a checkpoint to lose."""
    await admin.connected()
    training = Training(name=name, home="west", steps=STEPS, step_s=step_s)
    job_id = await admin.submit(training)
    await admin.trained(job_id, training, CHECKPOINT_EVERY + 2)
    return job_id, training


async def goes_well(admin: Admin, job_id: str, training: Training, sealed: dict[str, int]) -> None:
    """Wait for one owner, then for the end, with every bit in place."""
    system = admin.system
    await admin.settled(job_id, within_s=CONVERGES_WITHIN_S)
    after = system.sealed(job_id)
    assert max(after.values(), default=0) >= max(sealed.values(), default=0), "a sealed checkpoint was lost"
    await judge(system, admin, job_id, training)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
async def test_killed_at(system: System, place: Place) -> None:
    system.start()
    victim = VICTIMS[place.victim]
    async with system.admin() as admin:
        asked_for = "PLANNED" in place.name  # then the job must not end before the move is asked for again
        name = f"job-{PLACES.index(place)}"
        job_id, training = await begun(admin, name, step_s=0.5 if asked_for else STEP_S)
        boundaries.arm(system.folder, victim, place.name)
        with contextlib.suppress(grpc.aio.AioRpcError):  # a coordinator that dies of the request itself
            await admin.move(job_id, "east", request_id=f"move-{job_id}")
        died = lambda: boundaries.has_died(system.folder, victim) and not system[victim].running  # noqa: E731
        await until(died, within_s=DIES_WITHIN_S, what=f"a death: {place.name}")
        sealed = system.sealed(job_id)
        system[victim].start()
        await admin.connected()
        if asked_for:
            await admin.move(job_id, "east", request_id=f"move-{job_id}")
        await goes_well(admin, job_id, training, sealed)
        if asked_for:
            assert {entry.site for entry in system.entries(training)} == {"west", "east"}


@pytest.mark.parametrize(("victim", "record", "when"), SHIM_PLACES, ids=str)
async def test_a_shim_killed_at(system: System, victim: str, record: str, when: str) -> None:
    system.start()
    armed = Path(system.folder / f"state-{VICTIMS[victim]}" / "armed-shim")
    async with system.admin() as admin:
        job_id, training = await begun(admin, f"shim-{victim}-{when}")
        armed.with_suffix(".fired").unlink(missing_ok=True)
        armed.write_text(f"{record} {when}")
        await admin.move(job_id, "east")
        await until(armed.with_suffix(".fired").exists, within_s=DIES_WITHIN_S, what="the shim's death")
        await goes_well(admin, job_id, training, system.sealed(job_id))
