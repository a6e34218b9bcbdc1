"""The configurations that we hand out are taken by the daemons that read them."""

from pathlib import Path

import pytest

from agent.config import AgentConfig
from coordinator.cli.jobfile import read_job_file
from coordinator.config import CoordinatorConfig
from sterna.config import load

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    ("name", "kind"), [("agent.toml", AgentConfig), ("coordinator.toml", CoordinatorConfig)]
)
def test_an_example_is_a_good_configuration(
    name: str, kind: type[AgentConfig] | type[CoordinatorConfig]
) -> None:
    assert load(EXAMPLES / name, kind).fleet == "my-fleet"


def test_the_example_job_can_be_submitted() -> None:
    assert read_job_file(EXAMPLES / "job.toml").argv
