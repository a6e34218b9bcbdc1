"""What `kind = "auto"` takes, on trees and stand-ins; and on this very machine."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.devices.gpu import open_provider
from agent.devices.gpu_auto import open_best
from agent.devices.gpu_jetson import JetsonGpu
from agent.devices.gpu_nvml import NvmlGpu
from agent.devices.gpu_ports import GpuProvider
from sterna.clock import FakeClock
from sterna.errors import ConfigError, TransientError
from tests.agent.devices.sysfs_trees import orin_nano
from tests.agent.devices.test_gpu_nvml import Card, Nvml, full_card

CLOCK = FakeClock(datetime(2026, 11, 3, 12, tzinfo=UTC))


def missing() -> GpuProvider:
    raise ConfigError("needs the extra")


def silent() -> GpuProvider:
    raise TransientError("no driver")


def mute() -> GpuProvider:
    return NvmlGpu(clock=CLOCK, nvml=Nvml(Card()))


def card() -> GpuProvider:
    return NvmlGpu(clock=CLOCK, nvml=Nvml(full_card()))


def test_the_first_that_reads_power_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    gpu = open_best({"a": missing, "b": silent, "c": mute, "d": card, "e": silent})
    assert gpu.capabilities().can_read_power
    (record,) = caplog.records
    assert (record.__dict__["kind"], record.__dict__["because"]) == ("d", "it reads power")
    assert record.__dict__["passed_over"] == "a: needs the extra; b: no driver; c: it reads no power"


def test_one_that_caps_is_better_than_one_that_can_nothing(tmp_path: Path) -> None:
    root = orin_nano(tmp_path)
    (root / "sys/bus").rename(root / "sys/elsewhere")

    def blind() -> GpuProvider:
        return JetsonGpu(clock=CLOCK, root=root, idle_w=5.0, max_w=25.0)

    for candidates in ({"nvml": mute, "jetson": blind}, {"jetson": blind, "nvml": mute}):
        assert open_best(candidates).capabilities().can_cap
    assert open_best({"nvml": mute}).capabilities().source.startswith("NVML")


def test_none_at_all_says_what_each_said() -> None:
    with pytest.raises(TransientError, match="auto finds nothing: a: needs the extra; b: no driver"):
        open_best({"a": missing, "b": silent})


def test_a_jetson_is_read_by_its_own_files(tmp_path: Path) -> None:
    gpu = open_provider("auto", clock=CLOCK, root=orin_nano(tmp_path), idle_w=5.0, max_w=25.0)
    assert isinstance(gpu, JetsonGpu)


def test_this_machine(tmp_path: Path) -> None:
    try:
        gpu = open_provider("auto", clock=CLOCK, root=tmp_path)
    except TransientError as error:
        assert all(f"{kind}: " in str(error) for kind in ("jetson", "nvml", "jtop", "tegrastats"))
        return
    assert gpu.capabilities().names
    gpu.close()
