"""The negative of the weights' proof: a checkpoint that leaves something out is told from a whole one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.simulator.evidence import digest
from coordinator.cli.demo.summary import weights_identical
from sterna.v1 import fleet_pb2
from tests.system.harness import CHECKPOINT_EVERY, System, Training, reference_digest

pytestmark = pytest.mark.procs

STEPS = 45


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    system = System(folder=tmp_path, sites=("west", "east"))
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


async def test_dropped_state_shows_in_the_weights(system: System) -> None:
    """Three jobs move alike; only the one whose checkpoints are whole ends with the right bits."""
    trainings = [
        Training(name="whole", home="west", steps=STEPS),
        Training(name="no-optimizer", home="west", steps=STEPS, drop=("optimizer",)),
        Training(name="no-rng", home="west", steps=STEPS, drop=("rng",)),
    ]
    async with system.admin() as admin:
        await admin.connected()
        jobs = {await admin.submit(training): training for training in trainings}
        for job_id, training in jobs.items():
            await admin.trained(job_id, training, 5)
            await admin.move(job_id, "east")
        for job_id in jobs:
            job = await admin.ended(job_id)
            assert job.state == fleet_pb2.JOB_STATE_COMPLETED
            assert job.migrations == 1
    for training in trainings:
        entries = system.entries(training)
        assert {entry.site for entry in entries} == {"west", "east"}, "it was stopped and resumed"
        final = digest(system.final(training))
        assert final is not None
        expected = reference_digest(training, system.folder)
        identical = weights_identical({training.name: final}, {training.name: expected})
        assert identical is (not training.drop)
        assert max(entry.step for entry in entries if entry.site == "west") < CHECKPOINT_EVERY * 2
