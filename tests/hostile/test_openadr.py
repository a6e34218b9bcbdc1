"""Hostile answers of a VTN change nothing, crash nothing, and every reason to refuse one is reached."""

from pathlib import Path

import pytest

from tests.hostile.barrage import GROWTH_KIB, LEAST_PER_REASON, Tally, barrage
from tests.hostile.openadr import openadr_target

FEW, MANY = 4_000, 400_000


async def run(folder: Path, count: int) -> Tally:
    async with openadr_target(folder) as target:
        return await barrage(target, count=count, seed=20261122)


async def test_thousands(tmp_path: Path) -> None:
    tally = await run(tmp_path, FEW)
    assert (tally.crashes, tally.state_changes) == (0, 0), tally.first_faults
    assert tally.unreached == []
    assert sum(tally.reasons.values()) == FEW


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_hundreds_of_thousands(tmp_path: Path) -> None:
    tally = await run(tmp_path, MANY)
    print(tally.line())
    assert (tally.crashes, tally.state_changes) == (0, 0), tally.first_faults
    assert tally.unreached == []
    assert min(tally.reasons.values()) >= LEAST_PER_REASON
    assert tally.grown_kib <= GROWTH_KIB
