"""The polling loop on virtual time, with the meter kind that the package ships for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from agent.devices.meters import run_meter
from agent.devices.meters_fake import FakeMeter
from agent.model.readings import MeterReading, MeterRole, Quality
from sterna.supervise import Pulse

START = datetime(2026, 3, 30, 12, tzinfo=UTC)
pytestmark = pytest.mark.looptime


class LoopClock:
    """Both clocks follow the event loop, whose time is virtual here."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.boottime_s())

    def boottime_s(self) -> float:
        return asyncio.get_running_loop().time()


Script = Callable[[FakeMeter], Awaitable[None]]


async def readings_of(
    script: Script,
    *,
    power_w: Callable[[], float | None] = lambda: 100.0,
    stuck_after_s: float | None = None,
    delay_s: float = 0.0,
) -> tuple[list[tuple[float, MeterReading]], Pulse]:
    clock = LoopClock()
    meter = FakeMeter("m", MeterRole.GRID, clock=clock, power_w=power_w, max_power_w=1e5)
    meter.delay_s = delay_s
    pulse = Pulse(clock)
    seen: list[tuple[float, MeterReading]] = []

    def publish(reading: MeterReading) -> None:
        seen.append((clock.boottime_s(), reading))

    heart = pulse.heart("meter", 7.0)
    loop = run_meter(meter, clock, 1.0, publish, heart, stuck_after_s=stuck_after_s)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(loop)
        await script(meter)
        task.cancel()
    return seen, pulse


async def test_polls_at_once_and_then_ahead_of_every_beat() -> None:
    async def script(meter: FakeMeter) -> None:
        await asyncio.sleep(5.5)

    seen, pulse = await readings_of(script)
    begin = seen[0][0]
    assert [round(at - begin, 3) for at, _ in seen] == [0, 0.7, 1.7, 2.7, 3.7, 4.7]
    assert all(r.quality is Quality.OK and r.active_power_w == 100.0 for _, r in seen)
    assert pulse.overdue() == []


async def test_a_meter_that_dies_goes_stale_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    async def script(meter: FakeMeter) -> None:
        await asyncio.sleep(2.5)
        meter.dead = True
        await asyncio.sleep(20)
        meter.dead = False
        await asyncio.sleep(12)

    with caplog.at_level(logging.INFO):
        seen, pulse = await readings_of(script)
    begin = seen[0][0]
    quality = {round(at - begin): r.quality for at, r in seen}
    assert [quality[s] for s in (2, 4, 5)] == [Quality.OK] * 3
    assert all(quality[s] is Quality.STALE for s in range(6, 20))
    assert quality[34] is Quality.OK
    stale = next(r for _, r in seen if r.quality is Quality.STALE)
    assert stale.active_power_w == 100.0 and stale.fault == "fake meter m: told to be dead"
    assert len(seen) == 35, "it is published every second, dead or alive"
    told = [r.__dict__["quality"] for r in caplog.records if r.message == "meter quality"]
    assert told == ["OK", "STALE", "OK"]
    assert pulse.overdue() == []


async def test_a_meter_that_hangs_does_not_stop_the_loop() -> None:
    async def script(meter: FakeMeter) -> None:
        await asyncio.sleep(30)

    seen, pulse = await readings_of(script, delay_s=1e6)
    assert {r.quality for _, r in seen} == {Quality.BAD}
    assert seen[0][1].fault == "no answer within 5 s"
    assert pulse.overdue() == []


@pytest.mark.parametrize("power_w", [float("nan"), 2.7e23, -1e6, None])
async def test_nonsense_never_becomes_a_number(power_w: float | None) -> None:
    async def script(meter: FakeMeter) -> None:
        await asyncio.sleep(2.5)

    seen, _ = await readings_of(script, power_w=lambda: power_w)
    for _, reading in seen:
        assert (reading.quality, reading.active_power_w) == (Quality.BAD, None)
        assert reading.fault


async def test_a_stuck_meter_is_stale() -> None:
    async def script(meter: FakeMeter) -> None:
        await asyncio.sleep(15.5)

    seen, _ = await readings_of(script, stuck_after_s=10.0)
    assert [r.quality for _, r in seen[:11]] == [Quality.OK] * 11
    assert {r.quality for _, r in seen[11:]} == {Quality.STALE}
