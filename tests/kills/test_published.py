"""What docs/reliability.md says of the kills is what they came to."""

import json
from typing import Any

import pytest

from tests.kills.published import FIGURES, PAGE, table

RUNS: list[dict[str, Any]] = json.loads(FIGURES.read_text())
KILLS = 1000


def test_the_page_has_the_figures_of_the_runs() -> None:
    assert table(RUNS) in PAGE.read_text()


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"version {run['version']}")
def test_the_promise_was_kept(run: dict[str, Any]) -> None:
    assert (run["jobs_lost"], run["ran_twice"], run["not_recovered"]) == (0, 0, 0)
    assert run["worst_steps_lost"] <= run["checkpoint_interval_steps"]
    assert run["faults"] == []


def test_there_were_as_many_as_were_asked_for() -> None:
    assert sum(run["kills"] for run in RUNS) >= KILLS
