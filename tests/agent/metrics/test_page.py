"""docs/metrics.md says what is served."""

import re
import tomllib
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.metrics.families import FAMILIES
from sterna.config import parse

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()


def test_the_table_has_every_family_as_it_is() -> None:
    section = PAGE[PAGE.index("## The agent") : PAGE.index("## The coordinator")]
    told = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", section, re.M)
    assert told == [
        (
            family.sample_name,
            family.kind,
            ", ".join(f"`{label}`" for label in family.labels),
            family.about,
        )
        for family in FAMILIES
    ]


@pytest.mark.parametrize("shown", re.findall(r"```toml\n(.*?)```", PAGE, re.S))
def test_the_configuration_shown_is_taken(shown: str) -> None:
    base = {"fleet": "f", "site": "s", "state_dir": "state", "grid": {"operator": "none"}}
    assert parse(base | tomllib.loads(shown), AgentConfig, name="agent.toml").metrics is not None
