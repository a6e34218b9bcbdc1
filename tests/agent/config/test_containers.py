"""``[containers]``: what is refused names its key, and the order of engines is told."""

from pathlib import Path
from typing import Any

import pytest

from agent.config.containers import ContainersTable
from sterna.config import parse
from sterna.errors import ConfigError


@pytest.mark.parametrize(
    "table",
    [{}, {"docker": ["docker"], "mounts": {"d": {"path": "/d", "read_only": False}}, "arguments": ["-x"]}],
)
def test_good_tables(table: dict[str, Any]) -> None:
    parse(table, ContainersTable, name="agent.toml")


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"arguments": ["-x"]}, "podman: no engine is named: give podman, docker or nerdctl"),
        ({"mounts": {"d": {"path": "/d"}}}, "podman: no engine is named"),
        ({"any_arguments": True}, "podman: no engine is named"),
        ({"podman": ["podman"], "mounts": {"d": {"path": "d"}}}, "mounts.d.path: expected an absolute path"),
        ({"podman": ["podman"], "mounts": {"d": {"path": "/a,b"}}}, "mounts.d.path: expected an absolute"),
        ({"podman": "podman"}, "podman: expected array, got str"),
    ],
)
def test_faults_name_their_key(table: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(table, ContainersTable, name="agent.toml")
    assert str(caught.value).startswith(f"agent.toml: {fault}")


def test_engines_in_order_and_folders_read_only() -> None:
    document = {"docker": ["docker", "-H", "x"], "podman": ["podman"], "mounts": {"d": {"path": "/d"}}}
    table = parse(document, ContainersTable, name="agent.toml")
    assert list(table.engines().items()) == [("podman", ("podman",)), ("docker", ("docker", "-H", "x"))]
    assert table.mounts["d"].read_only
    assert table.mounts["d"].path == Path("/d")
