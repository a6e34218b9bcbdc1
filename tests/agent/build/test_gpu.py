"""The GPU as the daemon gets it: late, calibrated by a fixed factor or by what is learnt, or as it is."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.build.base import Build
from agent.build.gpu import open_gpu
from agent.config import AgentConfig
from agent.devices.gpu_calibrated import CalibratedGpu
from agent.devices.gpu_fake import FakeGpu
from agent.devices.gpu_late import RETRY_S
from agent.model.readings import MeterRole
from agent.store.db import Database
from sterna.clock import FakeClock
from sterna.config import parse
from sterna.errors import ConfigError, TransientError
from sterna.supervise import Pulse
from tests.agent.devices.sysfs_trees import orin_nano

ROLES = (MeterRole.GRID, MeterRole.GENERATION)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "agent.db") as database:
        yield database


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Callable[[dict[str, Any]], Build]]:
    clock = FakeClock(datetime(2026, 11, 3, 12, tzinfo=UTC))
    async with AsyncExitStack() as stack:

        def make(gpu: dict[str, Any]) -> Build:
            document = {
                "fleet": "f",
                "site": "s",
                "state_dir": "state",
                "grid": {"operator": "none"},
                "gpu": gpu,
            }
            config = parse(document, AgentConfig, name="agent.toml")
            return Build(config=config, base_dir=tmp_path, clock=clock, stack=stack, pulse=Pulse(clock))

        yield make


async def test_none_and_a_plain_fake(build: Callable[[dict[str, Any]], Build], database: Database) -> None:
    assert await open_gpu(build({}), ROLES, database) is None
    assert isinstance(await open_gpu(build({"kind": "fake"}), ROLES, database), FakeGpu)
    off = {"kind": "fake", "calibration": {"mode": "off"}}
    assert isinstance(await open_gpu(build(off), ROLES, database), FakeGpu)


async def test_a_fixed_factor(build: Callable[[dict[str, Any]], Build], database: Database) -> None:
    it = build({"kind": "fake", "idle_w": 10.0, "calibration": {"mode": "fixed", "factor": 1.5}})
    gpu = await open_gpu(it, ROLES, database)
    assert gpu is not None
    assert gpu.read()[0].power_w == 15.0
    assert (it.loops, it.listeners) == ({}, [])


async def test_a_learnt_factor_has_a_loop_and_hears_every_balance(
    build: Callable[[dict[str, Any]], Build], database: Database
) -> None:
    it = build({"kind": "fake", "calibration": {"mode": "learn", "factor": 1.3}})
    gpu = await open_gpu(it, ROLES, database)
    assert isinstance(gpu, CalibratedGpu)
    assert gpu.read()[0].calibration_factor == 1.3
    assert (list(it.loops), len(it.listeners)) == (["calibration"], 1)


async def test_a_jetson_that_comes_after_the_agent(
    build: Callable[[dict[str, Any]], Build], database: Database, tmp_path: Path
) -> None:
    it = build({"kind": "jetson", "idle_w": 5.0, "max_w": 25.0, "root": "tree"})
    gpu = await open_gpu(it, ROLES, database)
    assert gpu is not None
    assert (gpu.capabilities().names, gpu.capabilities().can_read_power) == ((), False)
    with pytest.raises(TransientError, match="neither power rails nor a GPU"):
        gpu.read()
    orin_nano(tmp_path / "tree")
    assert isinstance(it.clock, FakeClock)
    it.clock.advance(RETRY_S)
    assert gpu.read()[0].power_w == pytest.approx(7.56)
    assert (gpu.capabilities().names, gpu.capabilities().can_read_power) == (("gpu0",), True)


async def test_settings_that_can_never_do_stop_the_agent(
    build: Callable[[dict[str, Any]], Build], database: Database
) -> None:
    with pytest.raises(ConfigError, match="the tool is not on this machine"):
        await open_gpu(build({"kind": "tegrastats"}), ROLES, database)
