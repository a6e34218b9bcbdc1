"""Paths that a container's program names, and paths that can be mounted."""

import pytest

from agent.core.container_paths import can_mount, within_run


@pytest.mark.parametrize(
    ("path", "within"),
    [
        ("/sterna/run/checkpoints/a", "checkpoints/a"),
        ("/sterna/run/checkpoints/../a", "a"),
        ("/sterna/run/../../etc/passwd", None),
        ("/sterna/run", None),
        ("/sterna/runs/a", None),
        ("/etc/passwd", None),
        ("checkpoints/a", None),
    ],
)
def test_paths_of_a_program(path: str, within: str | None) -> None:
    assert within_run(path) == within


@pytest.mark.parametrize(
    ("path", "can"), [("/a b", True), ("a", False), ("/a,b", False), ('/a"', False), ("/a\n", False)]
)
def test_what_can_be_mounted(path: str, can: bool) -> None:
    assert can_mount(path) is can
