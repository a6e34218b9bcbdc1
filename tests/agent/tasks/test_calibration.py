"""The calibrator over a site whose balance comes from the production core, with a store that is real."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.core.calibration import CalibrationSettings, CalibrationState, Pair, PairMethod
from agent.core.sitepower import site_power
from agent.devices.gpu_calibrated import CalibratedGpu
from agent.devices.gpu_fake import FakeGpu
from agent.model.readings import MeterReading, MeterRole, Quality, SitePower
from agent.store.calibration import MIGRATIONS, CalibrationStore
from agent.store.db import Database
from agent.tasks.calibration import Calibrator
from sterna.clock import FakeClock

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
TRUE_FACTOR = 1.8
HOUSE_W, PLANT_W, IDLE_W = 300.0, 900.0, 9.0
ROLES = {"grid": MeterRole.GRID, "plant": MeterRole.GENERATION}


class Site:
    """A node whose sensors under-read, a house and a plant; balanced as the agent does."""

    def __init__(self, store: CalibrationStore, *, compute_meter: bool = False) -> None:
        self.clock = FakeClock(NOW)
        self.node = FakeGpu(clock=self.clock, idle_w=IDLE_W, max_w=100.0, rail_frac=1 / TRUE_FACTOR)
        self.roles = dict(ROLES) | ({"node": MeterRole.COMPUTE} if compute_meter else {})
        self.calibrator = Calibrator(
            settings=CalibrationSettings(), roles=self.roles.values(), sensors="jetson", store=store
        )
        self.gpu = CalibratedGpu(self.node, factor=self.calibrator.factor)
        self.blink = False

    def second(self) -> SitePower:
        """Let a second pass: meters, GPU, balance, calibration."""
        self.clock.advance(1.0)
        readings = self.gpu.read()
        node_w = self.node._power_w
        figures = {"grid": HOUSE_W + node_w - PLANT_W, "plant": PLANT_W, "node": node_w}
        power = site_power(
            {name: self.metered(name, role, figures[name]) for name, role in self.roles.items()},
            meters=self.roles,
            now=self.clock.now(),
            compute_w=readings[0].power_w,
        )
        self.calibrator.take(power, self.gpu.rail_w)
        return power

    def metered(self, name: str, role: MeterRole, power_w: float) -> MeterReading:
        """One reading, of bad quality while the meters blink."""
        return MeterReading(
            meter=name,
            role=role,
            measured_at=self.clock.now(),
            measured_boottime_s=self.clock.boottime_s(),
            quality=Quality.BAD if self.blink else Quality.OK,
            active_power_w=None if self.blink else power_w,
        )

    def work(self, rounds: int) -> list[SitePower]:
        """Run a job of 40 W and stop it, so many times."""
        seen: list[SitePower] = []
        for _ in range(rounds):
            for jobs_w in ({}, {"job-1": 40.0}):
                self.node.set_jobs(jobs_w)
                seen += [self.second() for _ in range(30)]
        return seen


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CalibrationStore]:
    async with Database(tmp_path / "agent.db", MIGRATIONS) as database:
        yield CalibrationStore(database)


async def test_our_own_draw_stops_feeding_back_once_it_is_calibrated(
    store: CalibrationStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site = Site(store)
    before = site.work(1)
    # Uncalibrated, a job that starts looks like a load of the house: the surplus falls by what is not seen.
    swing_w = max(p.surplus_w or 0 for p in before) - min(p.surplus_w or 0 for p in before)
    assert swing_w == pytest.approx(40.0 * (1 - 1 / TRUE_FACTOR))
    site.work(4)
    after = site.work(1)
    assert site.calibrator.factor() == pytest.approx(TRUE_FACTOR)
    assert [p.surplus_w for p in after] == pytest.approx([PLANT_W - HOUSE_W] * len(after))
    told = [record for record in caplog.records if "calibrated" in record.getMessage()]
    assert [(record.__dict__["factor"], record.__dict__["method"]) for record in told] == [(1.8, "step")]


async def test_what_was_learnt_survives_a_restart(store: CalibrationStore) -> None:
    site = Site(store)
    site.work(4)
    learnt = site.calibrator.calibration
    assert learnt.method is PairMethod.STEP
    await site.calibrator.save()
    again = Site(store)
    assert again.calibrator.factor() == 1.0
    await again.calibrator.recover()
    assert again.calibrator.calibration == learnt
    other = Calibrator(settings=CalibrationSettings(), roles=ROLES.values(), sensors="nvml", store=store)
    await other.recover()
    assert other.factor() == 1.0


async def test_a_compute_meter_teaches_the_level(store: CalibrationStore) -> None:
    site = Site(store, compute_meter=True)
    site.node.set_jobs({"job-1": 40.0})
    powers = [site.second() for _ in range(400)]
    assert powers[-1].compute_w == pytest.approx(49.0)
    assert site.calibrator.calibration.method is PairMethod.METER
    assert site.calibrator.factor() == pytest.approx(TRUE_FACTOR)


async def test_blinking_meters_and_a_lost_gpu_teach_nothing(store: CalibrationStore) -> None:
    site = Site(store)
    site.blink = True
    site.work(5)
    assert (site.calibrator.calibration.pairs, site.calibrator.factor()) == (0, 1.0)
    site.blink = False
    for _ in range(60):
        site.calibrator.take(site.second(), None)
    assert site.calibrator.calibration.pairs == 0


async def test_a_disk_that_is_full_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Database(tmp_path / "full.db", MIGRATIONS) as database:

        async def allow_pages(count: int) -> None:
            await database.run(
                lambda connection: connection.execute(f"PRAGMA max_page_count={count}").fetchone()
            )

        store = CalibrationStore(database)
        calibrator = Site(store).calibrator
        pair = Pair(method=PairMethod.STEP, measured_at=NOW, rail_w=20.0, metered_w=36.0)
        calibrator._state = CalibrationState(pairs=(pair,) * 1000)
        await allow_pages(1)  # SQLite brings it up to what the file has
        await calibrator.save()
        assert "could not be saved" in caplog.text
        assert await store.load("jetson") == ()
        await allow_pages(100_000)
        await calibrator.save()
        assert await store.load("jetson") == (pair,) * 1000
