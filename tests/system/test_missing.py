"""Whatever is missing when the agent starts: it is READY, names the lack, and takes up what comes back.

Loaded machines get margins in the fast cases; the long ones hold the bounds of the design, and print a line
each, which ``-s`` shows.
"""

import json
import subprocess
from pathlib import Path

import pytest

from tests.system.daemons import COMMANDS
from tests.system.missing import (
    BROKER,
    COORDINATOR,
    GPU,
    METER,
    PARTS,
    SITE,
    SUBSETS,
    TIME,
    comes_back,
    place,
)

pytestmark = [pytest.mark.procs, pytest.mark.broker]

READY_WITHIN_S, RECOVERED_WITHIN_S = 10.0, 15.0
SLOW_MACHINE = 3.0
ABSENT_S = 8.0
RECONNECTED_WITHIN_S = 10.0
"""Until a session stands: the longest pause between two attempts, and as much again for a busy machine."""
LONG_ABSENT_S = 75.0
"""Every back-off has reached its longest."""


def named(subset: set[str]) -> str:
    return "+".join(part for part in PARTS if part in subset) or "nothing"


@pytest.mark.parametrize("missing", [{METER, GPU}, {BROKER, COORDINATOR, TIME}], ids=named)
async def test_some_things_missing(tmp_path: Path, missing: set[str]) -> None:
    times = await comes_back(tmp_path, missing, absent_s=0.0)
    assert times.ready_s <= SLOW_MACHINE * READY_WITHIN_S
    assert times.named_s.keys() == missing
    assert max(times.recovered_s.values()) <= SLOW_MACHINE * RECOVERED_WITHIN_S


@pytest.mark.long
@pytest.mark.parametrize("missing", SUBSETS, ids=named)
async def test_every_subset_missing(tmp_path: Path, missing: set[str]) -> None:
    await _held_to_the_bounds(tmp_path, missing, ABSENT_S)


@pytest.mark.long
async def test_everything_missing_for_long(tmp_path: Path) -> None:
    await _held_to_the_bounds(tmp_path, set(PARTS), LONG_ABSENT_S)


async def _held_to_the_bounds(folder: Path, missing: set[str], absent_s: float) -> None:
    times = await comes_back(folder, missing, absent_s=absent_s)
    figures = {"named_s": times.named_s, "recovered_s": times.recovered_s}
    rounded = {name: {part: round(s, 2) for part, s in each.items()} for name, each in figures.items()}
    print(json.dumps({"missing": named(missing), "ready_s": round(times.ready_s, 2), **rounded}))
    assert times.ready_s <= READY_WITHIN_S
    assert times.named_s.keys() == missing
    assert max(times.recovered_s.values(), default=0.0) <= RECOVERED_WITHIN_S
    assert times.recovered_s.get(COORDINATOR, 0.0) <= RECONNECTED_WITHIN_S


async def test_the_doctor_names_everything_that_is_missing(tmp_path: Path) -> None:
    async with place(tmp_path):
        argv = [str(COMMANDS / "sterna-agent"), "doctor", "--json", "--timeout-s", "2"]
        argv += ["--config", str(tmp_path / f"{SITE}.toml")]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)["findings"]
    failed = {one["part"] for one in findings if one["health"] == "fail"}
    assert {"clock", "broker", "coordinator", "gpu", "meter inverter", "meter grid", "meter load"} <= failed
    assert all(one["mend"] for one in findings if one["health"] == "fail")
