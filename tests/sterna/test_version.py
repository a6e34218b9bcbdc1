"""The version is stated twice; both must be the same."""

import tomllib
from pathlib import Path

from sterna import VERSION


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
