"""What the doctor says of container engines."""

from pathlib import Path

import pytest

from agent.cli.checks_containers import check_containers
from agent.cli.findings import as_text
from agent.config.containers import ContainersTable
from sterna.config import parse


def lines(**table: object) -> list[str]:
    return [as_text(one) for one in check_containers(parse(table, ContainersTable, name="agent.toml"))]


def test_a_site_without_engines() -> None:
    assert lines() == []


def test_an_engine_that_answers_and_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert lines(podman=["true"], mounts={"here": {"path": str(tmp_path)}, "data": {"path": "/no/data"}}) == [
        "ok      containers: podman: answers",
        "fail    containers: mounts.data: no folder /no/data -> make it, or take it out",
    ]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/no/docker"], "No such file or directory"),
        (["false"], "exit code 1"),
        (["sh", "-c", "echo no daemon >&2; exit 1"], "docker: no daemon ->"),
    ],
)
def test_one_that_does_not(command: list[str], said: str) -> None:
    (line,) = lines(docker=command)
    assert line.startswith("fail    containers: docker: ") and said in line
