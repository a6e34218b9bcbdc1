"""What results depend on: each choice is what a file that extends the scenario would say, and is drawn."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from coordinator.replay.choices import CASES, choices, drawn, named, table
from coordinator.replay.foresight import Perfect
from coordinator.replay.scenariofile import read_scenario
from coordinator.replay.study import Row, rows_of
from tests.coordinator.replay.worlds import HOUR, task, world

MADE = world({"a": [500.0, 0.0], "b": [0.0, *[1000.0] * 9]}, task(work_s=4 * HOUR))


@pytest.mark.parametrize("name", ["us5", "us5-thin"])
def test_a_choice_is_a_line_of_a_file_that_extends_the_scenario(name: str, tmp_path: Path) -> None:
    scenario = read_scenario(name)
    for one in choices(scenario):
        table_name, _, line = str(one).partition(" ")
        path = tmp_path / "mine.toml"
        path.write_text(f'extends = "{name}"\n{table_name}\n{line}\n')
        assert one.of(scenario) == read_scenario(str(path)) != scenario


def test_table_and_picture_have_every_choice_and_policy() -> None:
    scenario = read_scenario("us5")
    at = {"scenario": "", "period": "x", "offset": 0}
    found = list(rows_of(MADE, Perfect, **at, wanted=CASES))
    names = [named(scenario, one) for one in (None, *choices(scenario))]
    rows: list[Row] = [replace(row, scenario=name) for name in names for row in found]
    lines = table(rows).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == names
    picture = ElementTree.fromstring(drawn(rows, scenario))
    text = {one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"energy-only", "feasibility-aware", "sterna", "plant, kW", "arrivals, × the scenario's"} <= text
