"""The ladder's hands: what is capped, paused, asked for, and asked for again."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.core.power_budget_values import BudgetSettings
from agent.devices.gpu_fake import FakeGpu
from agent.grid.desk import GridDesk
from agent.jobs.keeper import Keeper
from agent.model.jobs import JobPhase, JobSpec
from agent.model.orders import MoveRequest
from agent.model.readings import MeterRole, Quality, SitePower
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from agent.tasks.control import ASK_AGAIN_S, Control, run_control
from agent.tasks.sense import Senses
from sterna.clock import FakeClock
from sterna.errors import TransientError
from sterna.supervise import Pulse

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
BASE_W, IDLE_W, JOB_W = 1000.0, 40.0, 400.0


@dataclass
class TwoJobs:
    """Stands in for the keeper: two jobs that can be suspended."""

    phases: dict[str, JobPhase] = field(
        default_factory=lambda: {"a": JobPhase.RUNNING, "b": JobPhase.RUNNING}
    )

    deaf: set[str] = field(default_factory=set)
    plan_holds: set[str] = field(default_factory=set)
    plan_slows: dict[str, float] = field(default_factory=dict)

    def live(self) -> dict[str, tuple[JobPhase, JobSpec]]:
        spec = JobSpec(name="job", argv=("train",), power_w=JOB_W)
        return {job_id: (phase, spec) for job_id, phase in self.phases.items()}

    def held(self) -> frozenset[str]:
        return frozenset(self.plan_holds)

    def slowed(self) -> dict[str, float]:
        return self.plan_slows

    def running_power(self) -> dict[str, float]:
        return {job_id: JOB_W for job_id, phase in self.phases.items() if phase is JobPhase.RUNNING}

    def epoch_of(self, job_id: str) -> int:
        return 3

    def sealed_at(self, job_id: str) -> datetime | None:
        return None

    async def halt(self, job_id: str, reason: str) -> bool:
        self.phases[job_id] = JobPhase.STOPPING
        return True

    async def pause(self, job_id: str) -> bool:
        if job_id in self.deaf:
            return False
        self.phases[job_id] = JobPhase.PAUSED
        return True

    async def resume(self, job_id: str) -> bool:
        self.phases[job_id] = JobPhase.RUNNING
        return True


class StuckGpu(FakeGpu):
    """A GPU whose cap cannot be set for a while."""

    stuck = False

    def set_power_cap_w(self, cap_w: float | None) -> None:
        if self.stuck:
            raise TransientError("the cap does not answer")
        super().set_power_cap_w(cap_w)


class House:
    """A site at night with a grid meter, under a standing limit of the site's own."""

    def __init__(self, database: Database, limit_w: float) -> None:
        self.clock = FakeClock(NOW)
        self.jobs = TwoJobs()
        self.gpu = StuckGpu(clock=self.clock, idle_w=IDLE_W, max_w=IDLE_W + 2 * JOB_W)
        self.senses = Senses(meters={"grid": MeterRole.GRID}, gpu=self.gpu, clock=self.clock)
        self.asked: list[MoveRequest] = []
        self.told = 0
        self.desk = GridDesk(
            clock=self.clock,
            store=CommandStore(database, boot_id="boot"),
            operators=(),
            settings=FailsafeSettings(failsafe_import_w=0.0),
            rules=Rules(site="west"),
            standing_limits_w={"local": limit_w},
        )
        self.control = Control(
            desk=self.desk,
            senses=self.senses,
            keeper=cast("Keeper", self.jobs),
            gpu=self.gpu,
            settings=BudgetSettings(idle_w=IDLE_W, move_after_s=10.0),
            request_move=self.asked.append,
            clock=self.clock,
            on_change=self.tell,
        )

    def tell(self) -> None:
        self.told += 1

    async def step(self, after_s: float = 1.0) -> float:
        """Let time pass, read the meter, act; return the import that the acts lead to."""
        self.clock.advance(after_s)
        self.senses.power = self.balance()
        await self.control.step()
        self.gpu.set_jobs(self.jobs.running_power())
        return self.balance().grid_w or 0.0

    def balance(self) -> SitePower:
        compute_w = self.gpu.read()[0].power_w
        assert compute_w is not None
        return SitePower(
            measured_at=self.clock.now(),
            quality=Quality.OK,
            grid_w=BASE_W + compute_w,
            generation_w=0.0,
            available_w=None,
            battery_w=None,
            compute_w=compute_w,
            site_load_w=BASE_W,
            surplus_w=0.0,
        )


@pytest.fixture
async def database(tmp_path: Path):  # type: ignore[no-untyped-def]
    async with Database(tmp_path / "agent.db", MIGRATIONS) as database:
        yield database


async def test_a_limit_that_a_cap_can_hold_is_held_by_the_cap(database: Database) -> None:
    house = House(database, limit_w=BASE_W + IDLE_W + 1.2 * JOB_W)
    assert await house.step() <= BASE_W + IDLE_W + 1.2 * JOB_W
    assert house.gpu.read()[0].power_cap_w is not None
    assert set(house.jobs.phases.values()) == {JobPhase.RUNNING}
    assert house.told == 1, "the grid operator's link is told of the limit at once"
    await house.step()
    assert house.told == 1


async def test_a_move_is_asked_for_until_it_is_heard(database: Database) -> None:
    house = House(database, limit_w=BASE_W + IDLE_W)
    assert await house.step() <= BASE_W + IDLE_W
    assert set(house.jobs.phases.values()) == {JobPhase.PAUSED}
    assert house.asked == []
    await house.step(after_s=11.0)
    assert [(request.job_id, request.epoch) for request in house.asked] == [("a", 3), ("b", 3)]
    await house.step(after_s=ASK_AGAIN_S / 2)
    assert len(house.asked) == 2, "not with every look"
    await house.step(after_s=ASK_AGAIN_S / 2)
    assert [request.job_id for request in house.asked[2:]] == ["a", "b"], "again, for it still applies"
    del house.jobs.phases["a"]
    await house.step(after_s=ASK_AGAIN_S)
    assert [request.job_id for request in house.asked[4:]] == ["b"], "not for a job that has left"


async def test_a_new_limit_does_not_wait_for_the_next_look(database: Database) -> None:
    house = House(database, limit_w=BASE_W + IDLE_W + 3 * JOB_W)
    house.desk.on_limit = house.control.wake
    await house.step()
    assert house.gpu.read()[0].power_cap_w in (None, IDLE_W + 2 * JOB_W)
    heart = Pulse(house.clock).heart("control", 10.0)
    limit = {
        "v": 1,
        "id": "c1",
        "seq": 1,
        "issued": house.clock.now().isoformat().replace("+00:00", "Z"),
        "kind": "IMPORT_CAPACITY_LIMIT",
        "active": True,
        "valueW": BASE_W + IDLE_W + JOB_W,
    }
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        looking = group.create_task(run_control(house.control, period_s=3600.0, heart=heart))
        await asyncio.sleep(0)  # it has begun its first look, after which it rests for an hour
        await house.desk.limit("mqtt", json.dumps(limit).encode())
        while (house.gpu.read()[0].power_cap_w or 9e9) > IDLE_W + JOB_W:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        looking.cancel()


def holding(house: House) -> House:
    """Let the plan hold the first job back."""
    house.jobs.phases["a"] = JobPhase.PAUSED
    house.jobs.plan_holds.add("a")
    return house


async def test_what_the_plan_holds_back_goes_on_when_that_ends(database: Database) -> None:
    house = holding(House(database, limit_w=10_000.0))
    for _ in range(40):
        await house.step()
    assert house.jobs.phases == {"a": JobPhase.PAUSED, "b": JobPhase.RUNNING}
    assert house.asked == [], "it is no matter of the site's own"
    house.jobs.plan_holds.clear()
    await house.step()
    assert house.jobs.phases == {"a": JobPhase.RUNNING, "b": JobPhase.RUNNING}


async def test_what_the_plan_slows_is_capped_until_that_ends(database: Database) -> None:
    house = House(database, limit_w=10_000.0)
    full_w = BASE_W + IDLE_W + 2 * JOB_W
    assert await house.step() == full_w
    house.jobs.plan_slows = {"a": 0.75 * JOB_W, "b": 0.75 * JOB_W}
    for _ in range(60):
        import_w = await house.step()
        assert import_w <= full_w - 0.5 * JOB_W + 1e-6
    assert import_w == pytest.approx(full_w - 0.5 * JOB_W, abs=IDLE_W)
    assert set(house.jobs.phases.values()) == {JobPhase.RUNNING}
    house.jobs.plan_slows = {}
    for _ in range(60):
        import_w = await house.step()
    assert import_w == pytest.approx(full_w)


async def test_a_limit_pauses_on_what_the_plan_lets_go(database: Database) -> None:
    house = holding(House(database, limit_w=BASE_W + IDLE_W + 1.0))
    for _ in range(40):
        await house.step()
    assert house.jobs.phases == {"a": JobPhase.PAUSED, "b": JobPhase.PAUSED}
    assert {request.job_id for request in house.asked} == {"b"}
    house.jobs.plan_holds.clear()
    for _ in range(40):
        await house.step()
    assert house.jobs.phases == {"a": JobPhase.PAUSED, "b": JobPhase.PAUSED}
    assert {request.job_id for request in house.asked} == {"a", "b"}


async def test_a_job_that_does_not_pause_is_stopped(database: Database) -> None:
    house = House(database, limit_w=BASE_W + IDLE_W)
    house.jobs.deaf = {"a"}
    for _ in range(15):
        await house.step()
        assert house.jobs.phases == {"a": JobPhase.RUNNING, "b": JobPhase.PAUSED}
    await house.step()
    assert house.jobs.phases == {"a": JobPhase.STOPPING, "b": JobPhase.PAUSED}


async def test_where_the_cap_cannot_be_set_jobs_pause_until_it_can(database: Database) -> None:
    limit_w = BASE_W + IDLE_W + 1.2 * JOB_W
    house = House(database, limit_w=limit_w)
    house.gpu.stuck = True
    await house.step()
    assert await house.step() <= limit_w
    assert sorted(phase.name for phase in house.jobs.phases.values()) == ["PAUSED", "RUNNING"]
    house.gpu.stuck = False
    for _ in range(60):
        assert await house.step() <= limit_w + 1e-6
    assert set(house.jobs.phases.values()) == {JobPhase.RUNNING}, "the cap is enough again"


async def test_what_bounds_the_draw_is_said_once_each_time(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(database, limit_w=BASE_W + IDLE_W + JOB_W)
    with caplog.at_level("INFO", logger="agent.tasks.control"):
        for _ in range(5):
            await house.step()
    said = [one for one in caplog.records if one.message == "what bounds the draw has changed"]
    assert [(one.__dict__["bound"], one.__dict__["limit_source"]) for one in said] == [("a limit", "local")]
    assert said[0].__dict__["budget_w"] == IDLE_W + JOB_W
