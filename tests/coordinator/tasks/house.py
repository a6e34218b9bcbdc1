"""A whole coordinator in process, with fake sites on real gRPC; it can be killed and started again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from coordinator.build import Coordinator, build
from coordinator.config import CoordinatorConfig
from coordinator.core.fleet import apply
from coordinator.model.events import Event
from coordinator.model.fleet import FleetState, Job, Migration, MigrationState
from coordinator.model.job import JobSpec
from coordinator.store.fleet_store import FleetStore, StoredRequest
from sterna.clock import SystemClock
from sterna.config import parse
from sterna.supervise import Pulse
from tests.coordinator.tasks.fakesite import FLEET, FakeSite, until

CONFIG: dict[str, Any] = {
    "fleet": FLEET,
    "listen": "127.0.0.1:0",
    "state_dir": "coordinator",
    "insecure": True,
    "sites": [{"id": "miami"}, {"id": "nome"}],
    "links": {"default_bps": 1e8},
    "planner": {"policy": "static", "tick_s": 0.1, "settle_s": 0.5},
    "lease": {"ttl_s": 1.0, "skew_s": 0.1, "kill_grace_s": 0.1},
    "migration": {"retry_s": 0.2, "planned_s": 3.0, "stopping_s": 3.0, "transferring_s": 4.0},
}
SPEC = JobSpec(name="t", argv=("train",), power_w=10.0, home_site="miami", stop_grace_s=0.1)


class KilledError(Exception):
    """The coordinator died right after a transaction."""


class MortalStore(FleetStore):
    """A store whose process dies once a migration has been recorded in a given state."""

    def __init__(self, store: FleetStore, dies_in: MigrationState) -> None:
        super().__init__(store._database)
        self.dies_in = dies_in

    async def append(
        self,
        events: Sequence[Event],
        before: FleetState,
        after: FleetState,
        request: StoredRequest | None = None,
    ) -> None:
        state = before
        for index, event in enumerate(events):
            state = apply(state, event)
            if any(one.state is self.dies_in for one in state.migrations.values()):
                # Even a transaction of several steps is cut here: what is recorded must be enough.
                await super().append(events[: index + 1], before, state, request)
                raise KilledError(self.dies_in)
        await super().append(events, before, after, request)


class House:
    """The coordinator and its sites."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.document = {**CONFIG, **config}
        self.parts: Coordinator | None = None
        self.sites: dict[str, FakeSite] = {}
        for table in self.document["sites"]:
            FakeSite(table["id"], self.sites)
        self.port = 1
        self.killed = False
        self._running: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None

    @property
    def coordinator(self) -> Coordinator:
        assert self.parts is not None
        return self.parts

    @property
    def state(self) -> FleetState:
        return self.coordinator.fleet.state

    def job(self, job_id: str) -> Job:
        return self.state.jobs[job_id]

    def migration(self) -> Migration:
        return list(self.state.migrations.values())[-1]

    async def start(self, dies_in: MigrationState | None = None, *, restored: bool = False) -> None:
        config = parse(self.document, CoordinatorConfig, name="coordinator.toml")
        self.parts = build(config, self.folder, SystemClock(), restored=restored)
        if dies_in is not None:
            self.parts.fleet._store = MortalStore(self.parts.fleet._store, dies_in)
        await self.parts.serve(None)
        self.port = self.parts.port
        assert self._group is not None
        self.killed = False
        self._running = self._group.create_task(self._run(self.parts))

    async def _run(self, parts: Coordinator) -> None:
        tasks = parts.tasks(Pulse(parts.clock))
        try:
            async with asyncio.TaskGroup() as group:
                for start in tasks.values():
                    group.create_task(start())
        except* KilledError:
            self.killed = True

    async def kill(self) -> None:
        """Drop everything that is not on disk."""
        assert self._running is not None and self.parts is not None
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        assert self.parts.server is not None
        await self.parts.server.stop(0)
        self.parts.database.close()

    async def submit(self, spec: JobSpec = SPEC, request_id: str = "submit") -> str:
        job = await self.coordinator.desk.submit_job(request_id=request_id, spec=spec)
        assert isinstance(job, Job), job
        return job.job_id

    async def running(self, job_id: str, site_id: str = "miami") -> None:
        def runs() -> bool:
            job = self.job(job_id)
            return job.state.value == "RUNNING" and job.owner_site == site_id and job.migration_id is None

        await until(runs, f"the job does not run at {site_id}")

    async def connected(self) -> None:
        def all_there() -> bool:
            return all(site in self.live and self.live[site].connected for site in self.sites)

        await until(all_there, "a site did not connect")

    @property
    def live(self) -> Any:
        return self.coordinator.desk.picture().live

    def begun(self, job_id: str) -> list[tuple[str, int, str | None]]:
        """Return every process that was ever begun: site, epoch, checkpoint."""
        return [
            (site, epoch, checkpoint)
            for site, one in self.sites.items()
            for name, epoch, checkpoint, _ in one.model.starts
            if name == job_id
        ]


@asynccontextmanager
async def house(folder: Path, **config: Any) -> AsyncIterator[House]:
    """Run a coordinator and its sites."""
    home = House(folder, **config)
    agents: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as group:
        home._group = group
        await home.start()
        agents = [group.create_task(site.live(lambda: home.port)) for site in home.sites.values()]
        try:
            await home.connected()
            yield home
        finally:
            for agent in agents:
                agent.cancel()
            await home.kill()
