"""A day of the assembled agent in virtual time: every loop of the daemon, fakes where it meets the world.

Meters and GPU are the shipped fakes; the VTN is a fake that changes its mind four times an hour; the grid
operator on MQTT and the RTU are played on the desk and on the registers, below their sockets. Threads are run
where they are called, so that virtual time does not run away from them.
"""

import asyncio
import gc
import json
import logging
import math
import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import looptime
import pytest

from agent import daemon
from agent.build import meters as meter_builder
from agent.build import openadr as openadr_builder
from agent.build.base import Build
from agent.build.clock import make_clock_trust
from agent.config import AgentConfig
from agent.config.meters import MeterTable
from agent.core.openadr import documents
from agent.core.rtu_registers import BASE as RTU_BASE
from agent.core.rtu_registers import COUNT
from agent.devices.meters_fake import FakeMeter
from agent.grid import wire
from agent.grid.desk import GridDesk
from agent.grid.rtu import OperatorRegisters, Session
from agent.model.openadr import Event, Notifiers, Program, Resource, Unreadable, Ven
from agent.model.readings import MeterRole
from agent.store import db
from sterna.clock import Clock
from sterna.config import parse
from sterna.exposition.server import MetricsServer
from sterna.supervise import Pulse
from tests.agent.grid.operators import limit
from tests.agent.grid.rtu_rig import BLOCK, wide

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

START = datetime(2026, 6, 21, tzinfo=UTC)
DAY_S, HOUR_S, HOURS = 86_400, 3_600, 24
GROWTH_MAX_MIB = 5.0
MIB = 2**20
VTN_STEP_S = 900


class LoopClock:
    """Both clocks follow the event loop, whose time is virtual here."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.boottime_s())

    def boottime_s(self) -> float:
        return asyncio.get_running_loop().time()


class Inline(ThreadPoolExecutor):
    """Runs work where it is handed in."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class RestlessVtn:
    """A VTN in memory that publishes a new limit every quarter of an hour, and asks for reports."""

    client_id = "ven"

    def __init__(self, *, clock: Clock, **_rest: object) -> None:
        self._clock = clock
        self.reports = 0
        self.polls = 0

    async def token(self) -> str | None:
        return None

    async def events(self) -> tuple[Event | Unreadable, ...]:
        self.polls += 1
        now = self._clock.now()
        step = int((now - START).total_seconds()) // VTN_STEP_S
        period = {"start": wire.stamp(START + timedelta(seconds=step * VTN_STEP_S)), "duration": "PT15M"}
        payload = {"type": "IMPORT_CAPACITY_LIMIT", "values": [4.0 + step % 7]}
        report = {"payloadType": "USAGE", "readingType": "DIRECT_READ", "units": "KWH"}
        event = {
            "id": f"e{step}",
            "createdDateTime": wire.stamp(START),
            "modificationDateTime": wire.stamp(now),
            "objectType": "EVENT",
            "programID": "p",
            "eventName": f"quarter {step}",
            "intervalPeriod": period,
            "intervals": [{"id": 0, "payloads": [payload]}],
            "reportDescriptors": [report],
        }
        return documents.events(json.dumps([event]).encode())

    async def programs(self) -> tuple[Program, ...]:
        return ()

    async def vens(self, name: str) -> tuple[Ven, ...]:
        return (Ven(id="v", name=name),)

    async def resources(self, ven_id: str, name: str) -> tuple[Resource, ...]:
        return (Resource(id="r", name=name, ven_id=ven_id),)

    async def create_ven(self, body: Mapping[str, object]) -> Ven:
        raise AssertionError

    async def create_resource(self, body: Mapping[str, object]) -> Resource:
        raise AssertionError

    async def create_report(self, body: Mapping[str, object]) -> None:
        self.reports += 1

    async def notifiers(self) -> Notifiers:
        raise AssertionError

    async def topics(self, ven_id: str, collection: str) -> tuple[str, ...]:
        raise AssertionError


def config(folder: Path) -> AgentConfig:
    (folder / "secret").touch(mode=0o600)
    roles = ("grid", "generation", "load")
    document = {
        "fleet": "f",
        "site": "site-a",
        "state_dir": "state",
        "meters": [{"name": role, "role": role, "kind": "fake"} for role in roles],
        "gpu": {"kind": "fake", "idle_w": 60.0, "max_w": 1660.0},
        "metrics": {"listen": "127.0.0.1:0"},
        "grid": {
            "operator": "dso",
            "failsafe_import_w": 4200.0,
            "trust_clock": "always",
            "mqtt": {"host": "127.0.0.1", "insecure": True},
            "openadr": {"url": "http://127.0.0.1:9", "subscription_w": 9000.0, "notifier": False},
            "modbus": {"listen": "127.0.0.1:0", "clients": ["127.0.0.1"], "writers": ["127.0.0.1"]},
        },
    }
    return parse(document, AgentConfig, name="agent.toml")


def restless_meter(table: MeterTable, _lines: object, *, clock: Clock, **_more: object) -> FakeMeter:
    """A meter of a sunny day; a figure never stands still, and each is dead for a minute an hour."""

    def power_w() -> float:
        second = clock.boottime_s()
        sun_w = max(0.0, 5000.0 * math.sin(2 * math.pi * (second / DAY_S - 0.25)))
        load_w = 1500.0 + 400.0 * math.sin(second / 97.0)
        meter.dead = second % HOUR_S > HOUR_S - 60
        return {MeterRole.GENERATION: sun_w + 0.1 * math.sin(second), MeterRole.LOAD: load_w}.get(
            meter.role, load_w - sun_w + 60.0
        )

    meter = FakeMeter(table.name, MeterRole(table.role), clock=clock, power_w=power_w)
    return meter


class Day:
    """Everybody whom the agent meets, and what was seen of its memory."""

    def __init__(self, desk: GridDesk, build: Build) -> None:
        self.desk = desk
        self.clock = build.clock
        self.acks = self.scrapes = self.limits = 0
        self.memory: list[float] = []
        self._pulse = build.pulse
        server = cast("Any", build.loops["metrics"]).__self__
        assert isinstance(server, MetricsServer)
        self.page = server.page
        registers = cast("Any", build.loops["modbus-server"]).__self__.registers
        assert isinstance(registers, OperatorRegisters)
        self.registers = registers

    async def operator(self) -> None:
        """What `MqttLink` does with the desk, and what its operator sends."""
        number = 0
        while True:
            now = self.clock.now()
            beat = {"n": number, "t": wire.stamp(now)}
            if number % 360 < 340:  # each hour it is silent for three minutes
                self.desk.heartbeat("mqtt", json.dumps(beat).encode())
            if number % 30 == 0:
                self.limits += 1
                value_w = None if self.limits % 5 == 0 else 2000.0 + 100.0 * (self.limits % 40)
                command = limit(self.limits, value_w, now=now, durationS=240)
                await self.desk.limit("mqtt", json.dumps(command).encode())
            while batch := await self.desk.pending_acks("mqtt"):
                self.acks += len(batch)
                await self.desk.delivered(key for key, _ in batch if key is not None)
            wire.encode_mirror(number, self.desk.envelope(now), now)
            number += 1
            await asyncio.sleep(10)

    async def rtu(self) -> None:
        """What `RtuServer` does with the registers, and what its client asks."""
        session = Session(may_write=True)
        number = 0
        while True:
            number += 1
            assert await self.registers.write(session, BLOCK + 4, tuple(wide(number))) is None
            for start in range(0, COUNT, 120):
                values = self.registers.read(session, RTU_BASE + start, min(120, COUNT - start))
                assert isinstance(values, tuple)
            if number % 120 == 0:
                sequence = number // 120
                values = (*wide(5000 + sequence), *wide(600), 5, 1, sequence % 0x10000)
                await self.registers.write(session, BLOCK + 8, values)
            await asyncio.sleep(5)

    async def scraper(self) -> None:
        while True:
            assert b"sterna_site_grid_watts" in self.page(True) or not self.scrapes
            self.scrapes += 1
            await asyncio.sleep(15)

    async def watch(self) -> None:
        """Note the memory at every full hour, and end the day after the last."""
        for hour in range(HOURS + 1):
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.memory.append(pages * resource.getpagesize() / MIB)
            print(f"hour {hour}: {self.memory[-1]:.2f} MiB resident", flush=True)
            if hour == HOURS:
                assert self._pulse.overdue() == ["mqtt"]  # whose part we play
                raise EndOfDay
            await asyncio.sleep(HOUR_S)


class EndOfDay(Exception):  # noqa: N818
    """Midnight."""


async def a_day(folder: Path, desks: list[GridDesk]) -> Day:
    asyncio.get_running_loop().set_default_executor(Inline())
    clock, found = LoopClock(), config(folder)
    async with AsyncExitStack() as stack:
        build = Build(
            config=found,
            base_dir=folder,
            clock=clock,
            stack=stack,
            pulse=Pulse(clock),
            clock_trust=make_clock_trust(found.grid, folder),
        )
        await daemon._assemble(build)
        del build.loops["mqtt"]
        day = Day(desks[0], build)
        try:
            async with asyncio.TaskGroup() as group:
                for name, loop in build.loops.items():
                    group.create_task(loop(), name=name)
                for part in (day.operator, day.rtu, day.scraper, day.watch):
                    group.create_task(part())
        except* EndOfDay:
            pass
    return day


@pytest.fixture
def desks(monkeypatch: pytest.MonkeyPatch) -> list[GridDesk]:
    """The desks that are made; and fakes where the builders would open threads and sockets."""
    made: list[GridDesk] = []

    def make_desk(*args: Any) -> GridDesk:
        made.append(real(*args))
        return made[-1]

    real = daemon.make_desk
    monkeypatch.setattr(daemon, "make_desk", make_desk)
    monkeypatch.setattr(db, "ThreadPoolExecutor", Inline)
    monkeypatch.setattr(meter_builder, "open_meter", restless_meter)
    monkeypatch.setattr(openadr_builder, "RestVtn", RestlessVtn)
    return made


def test_a_day_leaves_no_more_than_five_mebibytes_behind(tmp_path: Path, desks: list[GridDesk]) -> None:
    logging.disable()  # what is logged is kept by pytest, not by the agent
    loop = looptime.new_event_loop()
    begun_s = time.perf_counter()
    try:
        day = loop.run_until_complete(a_day(tmp_path, desks))
    finally:
        logging.disable(logging.NOTSET)
        loop.close()
    figures = {
        "virtual_h": (len(day.memory) - 1) * HOUR_S / 3600,
        "real_s": round(time.perf_counter() - begun_s),
        "mib_at_start": round(day.memory[0], 2),
        "mib_after_1_h": round(day.memory[1], 2),
        "mib_at_end": round(day.memory[-1], 2),
        "growth_mib": round(day.memory[-1] - day.memory[0], 2),
        "limits": day.limits,
        "acks": day.acks,
        "scrapes": day.scrapes,
        "breaches": day.desk.tally.episodes,
    }
    print(json.dumps(figures))
    assert day.acks >= day.limits > 280
    assert day.scrapes > 5700
    assert day.memory[-1] - day.memory[0] <= GROWTH_MAX_MIB
