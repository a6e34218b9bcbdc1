"""A site whose keeper can be dropped and made anew, with real stores, real shims and real processes."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.core.containers import ContainerRules
from agent.jobs.checkpoints import CheckpointStore
from agent.jobs.containers import ContainerRuns
from agent.jobs.fakes import CopyCarrier
from agent.jobs.keeper import Keeper
from agent.jobs.launch import Launcher
from agent.jobs.twins import Twins
from agent.model.jobs import JobPhase, JobSpec
from agent.model.orders import Action, JobReport, Order, OrderAck
from agent.shim import files
from agent.store.db import Database
from agent.store.jobs import MIGRATIONS, JobRecords
from sterna.clock import SystemClock
from tests.agent.jobs.endings import end_runs
from tests.waiting import until


class Site:
    """One site on disk, and at most one keeper on it."""

    def __init__(
        self, root: Path, name: str = "a", slots: int = 2, containers: ContainerRules | None = None
    ) -> None:
        self.root = root
        self.name = name
        self.slots = slots
        self.launcher = Launcher(
            site_id=name,
            environ=os.environ,
            containers=None
            if containers is None
            else ContainerRuns(site_id=name, rules=containers, environ=os.environ),
        )
        self.boot_id = files.boot_id()
        self.reports: list[JobReport] = []
        self.checkpoints = CheckpointStore(root / "checkpoints", SystemClock())
        self.carrier = CopyCarrier(self.checkpoints, {})
        self.keeper: Keeper
        self._stack: contextlib.AsyncExitStack | None = None
        self._orders = 0

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    async def up(self) -> None:
        """Start a keeper as a fresh agent process would: nothing but the disk is known."""
        assert self._stack is None
        self._stack = stack = contextlib.AsyncExitStack()
        self.root.mkdir(parents=True, exist_ok=True)
        database = await stack.enter_async_context(Database(self.root / "agent.db", MIGRATIONS))
        self.checkpoints = CheckpointStore(self.root / "checkpoints", SystemClock())
        self.carrier = CopyCarrier(self.checkpoints, {}, self.carrier.failures)
        self.keeper = Keeper(
            root=self.jobs,
            records=JobRecords(database),
            checkpoints=self.checkpoints,
            twins=Twins(store=self.checkpoints, clock=SystemClock()),
            carrier=self.carrier,
            clock=SystemClock(),
            boot_id=self.boot_id,
            launcher=self.launcher,
            on_report=self.reports.append,
            slots=self.slots,
            checkpoint_interval_s=0.1,
            tick_s=0.05,
            report_interval_s=0.05,
        )
        await self.keeper.open()
        group = await stack.enter_async_context(asyncio.TaskGroup())
        task = group.create_task(self.keeper.run())
        stack.callback(task.cancel)
        await until(lambda: self.keeper._group is not None, "keeper runs")

    async def down(self) -> None:
        """Drop the keeper, as SIGKILL does: it gets to do nothing about its jobs."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def order(
        self, action: Action, *, job_id: str = "j1", epoch: int = 1, migration: str = ""
    ) -> OrderAck:
        self._orders += 1
        return await self.keeper.handle(
            Order(
                order_id=f"o{self._orders}",
                migration_id=migration,
                job_id=job_id,
                epoch=epoch,
                action=action,
            )
        )

    def report(self, job_id: str = "j1") -> JobReport | None:
        mine = [report for report in self.reports if report.job_id == job_id]
        return mine[-1] if mine else None

    async def phase(self, phase: JobPhase, job_id: str = "j1") -> JobReport:
        def reached() -> bool:
            report = self.report(job_id)
            return report is not None and report.phase is phase

        try:
            await until(reached, f"{job_id} {phase.name}")
        except AssertionError as error:
            raise AssertionError(f"{error}; last report: {self.report(job_id)}") from None
        report = self.report(job_id)
        assert report is not None
        return report

    def run_ids(self, job_id: str = "j1") -> list[str]:
        folder = self.jobs / job_id / "runs"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path / "a", "a")
    await site.up()
    yield site
    await site.down()
    await asyncio.to_thread(end_runs, site.jobs, 1.0)


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path / "b", "b")
    await site.up()
    yield site
    await site.down()
    await asyncio.to_thread(end_runs, site.jobs, 1.0)


SpecMaker = Callable[..., JobSpec]


@pytest.fixture
def trainer(tmp_path: Path) -> SpecMaker:
    """The simulator's real trainer, small and fast."""

    def make(*, steps: int = 40, step_s: float = 0.02, every: int = 5, **fields: object) -> JobSpec:
        argv = (
            *(sys.executable, "-m", "agent.simulator.trainer", "--seed", "3", "--params", "5000"),
            *("--steps", str(steps), "--step-s", str(step_s), "--checkpoint-every", str(every)),
            *("--step-log", str(tmp_path / "steps.jsonl"), "--final", str(tmp_path / "final.bin")),
        )
        defaults: dict[str, object] = {"name": "t", "argv": argv, "stop_grace_s": 10.0, "power_w": 50.0}
        return JobSpec(**(defaults | fields))  # type: ignore[arg-type]

    return make


def shell(script: str, **fields: object) -> JobSpec:
    """A job that is a shell script."""
    defaults: dict[str, object] = {"name": "sh", "argv": ("/bin/sh", "-c", script), "stop_grace_s": 0.5}
    return JobSpec(**(defaults | fields))  # type: ignore[arg-type]
