"""Killed with SIGKILL at placed states of a migration: source agent, destination agent, coordinator.

Whoever dies, whenever: one owner within 30 s of the restart, no sealed checkpoint lost, no two trainers at
once, and the weights of an undisturbed run.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.simulator import steplog
from agent.simulator.evidence import digest
from sterna.v1 import fleet_pb2
from tests.system.daemons import until
from tests.system.harness import CHECKPOINT_EVERY, Admin, System, Training, reference_digest

pytestmark = pytest.mark.procs

STEPS = 70
CONVERGES_WITHIN_S = 30.0
VICTIMS = {"source": "west", "destination": "east", "coordinator": "coordinator"}
# Saving, transfer and loading take about a second each, so that a kill meets the state that it is meant for.
SAVE_S = LOAD_S = 0.8


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two sites and their coordinator, used by one job after the other."""
    system = System(folder=tmp_path_factory.mktemp("kills"), sites=("west", "east"))
    try:
        yield system
    finally:
        system.daemons.end_all()


@pytest.mark.parametrize("state", ["STOPPING", "TRANSFERRING", "STARTING"])
@pytest.mark.parametrize("victim", list(VICTIMS))
async def test_killed_in_a_migration(system: System, victim: str, state: str) -> None:
    system.start()
    training = Training(
        name=f"{victim}-{state.lower()}",
        home="west",
        steps=STEPS,
        save_s=SAVE_S,
        load_s=LOAD_S,
    )
    async with system.admin() as admin:
        await admin.connected()
        await killed(system, admin, training, victim=victim, state=state)


async def killed(system: System, admin: Admin, training: Training, *, victim: str, state: str) -> str:
    """Move a job, kill somebody in a state, bring him back, judge; return the state on record at the kill."""
    job_id = await admin.submit(training)
    await admin.trained(job_id, training, CHECKPOINT_EVERY + 5)
    await admin.move(job_id, "east")
    await until(
        lambda: system.recorded_state(job_id) == state, within_s=20, what=f"{state} of {training.name}"
    )
    system[VICTIMS[victim]].kill()
    recorded = system.recorded_state(job_id)
    sealed = system.sealed(job_id)
    assert recorded == state, "the kill came too late to say anything"
    system[VICTIMS[victim]].start()
    owner = await admin.settled(job_id, within_s=CONVERGES_WITHIN_S)
    assert owner.owner_site in ("west", "east")
    after = system.sealed(job_id)
    assert max(after.values(), default=0) >= max(sealed.values(), default=0), "a sealed checkpoint was lost"
    await judge(system, admin, job_id, training)
    return recorded


async def judge(system: System, admin: Admin, job_id: str, training: Training) -> None:
    """Wait for a job's end and judge it by what its trainers and their weights say."""
    job = await admin.ended(job_id)
    assert job.state == fleet_pb2.JOB_STATE_COMPLETED, job.message
    entries = system.entries(training)
    counts = Counter(entry.step for entry in entries)
    assert set(counts) == set(range(1, training.steps + 1)), "steps were lost"
    assert counts.total() - len(counts) <= CHECKPOINT_EVERY, "more than a checkpoint interval was repeated"
    assert steplog.double_runs(entries) == 0, "two trainers ran at once"
    assert not system.trainers(job_id)
    assert digest(system.final(training)) == reference_digest(training, Path(system.folder))
