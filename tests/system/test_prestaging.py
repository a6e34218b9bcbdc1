"""A checkpoint that travels ahead while training goes on, and the difference that follows at the stop."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import System, Training
from tests.system.judging import judge

pytestmark = pytest.mark.procs

LINK_BPS = 4e5
"""Some twelve seconds for a checkpoint: worth sending ahead, and worth a difference."""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    ahead = {"ahead_least_bytes": 1, "ahead_least_transfer_s": 1.0}
    system = System(
        folder=tmp_path,
        sites=("west", "east"),
        coordinator={"links": {"default_bps": LINK_BPS}, "migration": ahead},
    )
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


async def test_the_job_trains_on_while_its_checkpoint_is_sent(system: System) -> None:
    training = Training(name="ahead", home="west", steps=300, step_s=0.1)
    async with system.admin() as admin:
        await admin.connected()
        job_id = await admin.submit(training)
        await admin.trained(job_id, training, 25)  # one checkpoint is sealed
        before = max(entry.step for entry in system.entries(training))
        await admin.move(job_id, "east")
        job = await judge(system, admin, job_id, training)
    assert job.migrations == 1
    ran_at_west = [entry.step for entry in system.entries(training) if entry.site == "west"]
    # Twelve seconds of transfer at ten steps per second, of which a busy machine may take its share.
    assert max(ran_at_west) > before + 20, "training went on while the checkpoint travelled"
    events = [row[0] for row in system.query("SELECT kind FROM events ORDER BY rowid")]
    assert events.index("MigrationSentAhead") < events.index("MigrationSealed")
    said = system["east"].said()
    taken = re.search(r"difference taken.*", said)
    assert taken is not None, said[-2000:]
    figures = dict(re.findall(r"(\w+)=(\d+)", taken.group()))
    assert int(figures["received_bytes"]) < int(figures["checkpoint_bytes"])
    assert int(figures["missing_bytes"]) == 0
