"""Images that are here, are fetched, or cannot be had; the engine is a shell script."""

import asyncio
from pathlib import Path

import pytest

from agent.jobs import images
from agent.jobs.images import Images

ENGINE = """
case "$1" in
image) test -e "$2-$3" ;;
pull)
  while [ -e wait ]; do sleep 0.02; done
  if [ -e registry ]; then touch "inspect-$3"; else echo no route >&2; exit 125; fi ;;
esac
"""


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    script = tmp_path / "engine"
    script.write_text(f"cd {tmp_path}\n{ENGINE}")
    return ("/bin/sh", str(script))


async def test_one_that_is_here(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "inspect-i").touch()
    async with asyncio.TaskGroup() as group:
        assert await Images({}).obstacle(command, "i", group.create_task) == ""


async def test_one_that_is_not_is_fetched_once(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "registry").touch()
    (tmp_path / "wait").touch()
    here, tasks = Images({}), []
    async with asyncio.TaskGroup() as group:

        def spawn(coroutine):
            tasks.append(group.create_task(coroutine))

        for _ in range(2):
            assert await here.obstacle(command, "i", spawn) == "i is not here, and is being fetched"
        (tmp_path / "wait").unlink()
        assert len(tasks) == 1
    async with asyncio.TaskGroup() as group:
        assert await here.obstacle(command, "i", group.create_task) == ""


async def test_one_that_cannot_be_had_is_tried_again(tmp_path: Path, command: tuple[str, ...]) -> None:
    here = Images({})
    async with asyncio.TaskGroup() as group:
        assert await here.obstacle(command, "i", group.create_task) == "i is not here, and is being fetched"
    (tmp_path / "registry").touch()
    async with asyncio.TaskGroup() as group:
        said = await here.obstacle(command, "i", group.create_task)
    assert said == "i is not here, and is being fetched; last time: no route"
    async with asyncio.TaskGroup() as group:
        assert await here.obstacle(command, "i", group.create_task) == ""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/no/engine",), "No such file"),
        (("/bin/false",), "exit code 1"),
        (("/bin/sh", "-c", "sleep 60"), "/bin/sh takes longer than 0 s"),
    ],
)
async def test_engines_that_fail(
    command: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "LOOK_TIMEOUT_S", 0.2)
    monkeypatch.setattr(images, "FETCH_TIMEOUT_S", 0.2)
    here = Images({})
    for part in ("being fetched", said):
        async with asyncio.TaskGroup() as group:
            assert part in await here.obstacle(command, "i", group.create_task)
