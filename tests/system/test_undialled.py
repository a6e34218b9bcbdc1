"""A source that nobody can dial (behind NAT) dials the destination, and the same checkpoint arrives."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import System, Training, write
from tests.system.judging import judge

pytestmark = pytest.mark.procs


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    # Five seconds of transfer: orders that stand are sent again in that time.
    system = System(folder=tmp_path, sites=("west", "east"), coordinator={"links": {"default_bps": 1e6}})
    config = system.agent_config("west")
    del config["transfer"]
    write(tmp_path / "west.toml", config)
    try:
        system.start()
        yield system
    finally:
        system.daemons.end_all()


async def test_moves_from_a_site_that_only_dials(system: System) -> None:
    training = Training(name="outward", home="west", steps=40)
    async with system.admin() as admin:
        await admin.connected()
        job_id = await admin.submit(training)
        await admin.trained(job_id, training, 5)
        await admin.move(job_id, "east")
        job = await judge(system, admin, job_id, training)
    assert job.migrations == 1
    assert {entry.site for entry in system.entries(training)} == {"west", "east"}
    said = system["west"].said()
    assert said.count("kind=Offer") > 1, "the transfer was too quick for its order to come again"
    assert "another stream took over" not in said, "one stream is enough, however often its order comes"
    assert "offer failed" not in said
