"""Hostile input changes nothing, crashes nothing, and every reason to refuse it is reached."""

from pathlib import Path

import pytest

from tests.hostile.barrage import GROWTH_KIB, LEAST_PER_REASON, barrage
from tests.hostile.mqtt import mqtt_target
from tests.hostile.openadr import openadr_target
from tests.hostile.rtu import rtu_target

SEED = 20261122


@pytest.mark.parametrize(
    ("target_in", "count"),
    [(mqtt_target, 4_000), (rtu_target, 2_000), (openadr_target, 4_000)],
    ids=["mqtt", "rtu", "openadr"],
)
async def test_thousands(target_in, count: int, tmp_path: Path) -> None:
    async with target_in(tmp_path) as target:
        tally = await barrage(target, count=count, seed=SEED)
    assert (tally.crashes, tally.state_changes) == (0, 0), tally.first_faults
    assert tally.unreached == []
    assert sum(tally.reasons.values()) == count


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("target_in", "count"),
    [(mqtt_target, 1_000_000), (rtu_target, 300_000), (openadr_target, 400_000)],
    ids=["mqtt", "rtu", "openadr"],
)
async def test_hundreds_of_thousands(target_in, count: int, tmp_path: Path) -> None:
    async with target_in(tmp_path) as target:
        tally = await barrage(target, count=count, seed=SEED)
    print(tally.line())
    assert (tally.crashes, tally.state_changes) == (0, 0), tally.first_faults
    assert tally.unreached == []
    assert min(tally.reasons.values()) >= LEAST_PER_REASON
    assert tally.grown_kib <= GROWTH_KIB
