"""The owner of the fleet's state, over a store whose answers get lost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coordinator.model import events as ev
from coordinator.model.events import Event
from coordinator.model.fleet import FleetState
from coordinator.model.job import JobSpec
from coordinator.store.database import Database, file_url
from coordinator.store.fleet_store import FleetStore, StoredRequest
from coordinator.tasks.bell import Bell
from coordinator.tasks.fleet import Fleet
from sterna.errors import TransientError

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SPEC = JobSpec(name="t", argv=("train",), power_w=10.0)


class LossyStore(FleetStore):
    """Stores or not, as it is told, and then says that it could not; reading may fail too."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.fates: list[str] = []
        self.unreadable = 0

    async def append(
        self,
        events: Sequence[Event],
        before: FleetState,
        after: FleetState,
        request: StoredRequest | None = None,
    ) -> None:
        fate = self.fates.pop(0) if self.fates else "stored"
        if fate != "refused":
            await super().append(events, before, after, request)
        if fate != "stored":
            raise TransientError("store: the disk did not answer")

    async def reload(self) -> FleetState:
        if self.unreadable:
            self.unreadable -= 1
            raise TransientError("store: the disk does not answer")
        return await super().reload()


class Scene:
    def __init__(self, folder: Path) -> None:
        self.store = LossyStore(Database(file_url(folder / "fleet.db")))
        self.bell = Bell()
        self.fleet = Fleet(self.store, self.bell)

    async def submit(self, job_id: str) -> tuple[Event, ...]:
        """Submit a job, unless it is known: as every caller does, from the newest state."""

        def decide(state: FleetState) -> tuple[Event, ...]:
            if job_id in state.jobs:
                return ()
            return (ev.JobSubmitted(at=NOW, job_id=job_id, spec=SPEC),)

        return await self.fleet.change(decide)


@asynccontextmanager
async def a_scene(folder: Path) -> AsyncIterator[Scene]:
    scene = Scene(folder)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(scene.fleet.run())
        yield scene
        running.cancel()


@pytest.mark.parametrize("fate", ["lost answer", "refused"])
async def test_after_a_failure_the_store_is_believed(tmp_path: Path, fate: str) -> None:
    async with a_scene(tmp_path) as scene:
        scene.store.fates = [fate]
        with pytest.raises(TransientError):
            await scene.submit("a")
        assert await scene.submit("b")
        happened = fate == "lost answer"
        assert ("a" in scene.fleet.state.jobs) is happened
        assert bool(await scene.submit("a")) is not happened
        assert scene.fleet.state.jobs.keys() == {"a", "b"}
        assert scene.store.refold() == scene.store.load() == scene.fleet.state


async def test_listeners_hear_of_what_had_been_stored(tmp_path: Path) -> None:
    async with a_scene(tmp_path) as scene:
        scene.store.fates = ["lost answer"]
        with pytest.raises(TransientError):
            await scene.submit("a")
        version = scene.fleet.version
        with scene.bell.listen() as ring:
            await scene.fleet.change(lambda _: (), answer=lambda _: None)
            await ring.wait(1.0)
        assert scene.fleet.version == version + 1
        assert "a" in scene.fleet.state.jobs


async def test_nothing_is_decided_while_the_store_cannot_be_read(tmp_path: Path) -> None:
    async with a_scene(tmp_path) as scene:
        scene.store.fates, scene.store.unreadable = ["lost answer"], 1
        with pytest.raises(TransientError):
            await scene.submit("a")
        with pytest.raises(TransientError, match="does not answer"):
            await scene.submit("b")
        assert await scene.submit("c")
        assert scene.fleet.state.jobs.keys() == {"a", "c"}
        assert scene.store.refold() == scene.fleet.state
