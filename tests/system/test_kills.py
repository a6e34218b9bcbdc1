"""Killed with SIGKILL at placed states of a migration: source agent, destination agent, coordinator.

Whoever dies, whenever: one owner within 30 s of the restart, no sealed checkpoint lost, no two trainers at
once, and the weights of an undisturbed run.
"""

from collections.abc import Iterator

import pytest

from tests.system.harness import System
from tests.system.killing import VICTIMS, killed_at

pytestmark = pytest.mark.procs


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
    recorded = await killed_at(system, f"{victim}-{state.lower()}", victim, state=state)
    assert recorded == state, "the kill came too late to say anything"
