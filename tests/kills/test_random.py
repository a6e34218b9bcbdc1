"""A dozen kills at random moments, judged as the thousand are: `scripts/kills` in the small."""

from pathlib import Path

import pytest

from tests.kills.__main__ import killed

pytestmark = [pytest.mark.long, pytest.mark.procs]


async def test_a_dozen(tmp_path: Path) -> None:
    result = await killed(tmp_path, count=12, seed=3, jobs=3)
    assert result["kills"] == 12
    assert result["faults"] == []
    assert (result["jobs_lost"], result["ran_twice"], result["not_recovered"]) == (0, 0, 0)
    assert result["worst_steps_lost"] <= result["checkpoint_interval_steps"]
    assert result["jobs"] >= 3
