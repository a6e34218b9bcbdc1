"""Thirty placed kills: each victim at ten moments of a migration, whatever is on record there."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.system.harness import System
from tests.system.killing import IN_ORDER, VICTIMS, killed_at

pytestmark = [pytest.mark.long, pytest.mark.procs]

MOMENTS = [
    ("PLANNED", 0.0),
    ("PREPARED", 0.0),
    ("STOPPING", 0.0),
    ("STOPPING", 0.4),
    ("SEALED", 0.0),
    ("TRANSFERRING", 0.4),
    ("TRANSFERRING", 0.9),
    ("VERIFIED", 0.0),
    ("STARTING", 0.3),
    ("STARTING", 0.8),
]
RECORDED: list[tuple[str, str]] = []


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two sites and their coordinator, used by one job after the other."""
    system = System(folder=tmp_path_factory.mktemp("kills"), sites=("west", "east"))
    try:
        yield system
    finally:
        system.daemons.end_all()


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment[0]}+{moment[1]:g}s")
@pytest.mark.parametrize("victim", list(VICTIMS))
async def test_killed_in_a_migration(system: System, victim: str, moment: tuple[str, float]) -> None:
    state, after_s = moment
    name = f"{victim}-{MOMENTS.index(moment)}"
    recorded = await killed_at(system, name, victim, state=state, after_s=after_s)
    assert IN_ORDER.index(recorded) >= IN_ORDER.index(state)
    assert recorded != "DONE", "the kill came after the migration"
    RECORDED.append((victim, recorded))


def test_the_kills_were_spread() -> None:
    met = Counter(state for _, state in RECORDED)
    print(f"{len(RECORDED)} kills, states on record: {dict(met)}")
    assert len(RECORDED) == len(MOMENTS) * len(VICTIMS)
    assert len(met) >= 4


@pytest.mark.parametrize("state", ["STOPPING", "TRANSFERRING", "STARTING"])
@pytest.mark.parametrize("spared", ["nobody", *VICTIMS])
async def test_several_killed_at_once(system: System, spared: str, state: str) -> None:
    victims = [victim for victim in VICTIMS if victim != spared]
    await killed_at(system, f"{spared}-spared-{state.lower()}", *victims, state=state)
