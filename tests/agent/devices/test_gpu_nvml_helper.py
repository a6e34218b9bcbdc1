"""An agent that NVML lets set nothing, and the real `sterna-power` with a stand-in for nvidia-smi."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.devices.gpu_nvml import NvmlGpu
from agent.devices.gpu_nvml_helper import LimitHelper
from agent.devices.power_client import PowerClient
from sterna.clock import FakeClock
from sterna.errors import PermanentError, TransientError
from tests.agent.devices.test_gpu_nvml import Nvml, full_card
from tests.agent.power.machine import helper, machine
from tests.agent.power.test_tools import NVIDIA_SMI, script

CLOCK = FakeClock(datetime(2026, 11, 3, 12, tzinfo=UTC))
LIMITS = {
    "constraints_mw": (100_000, 450_000),
    "default_mw": 400_000,
    "limit_mw": 400_000,
    "unprivileged": True,
}


def opened(folder: Path, **card: object) -> NvmlGpu:
    limits = LimitHelper(PowerClient(folder / "sock"))
    return NvmlGpu(clock=CLOCK, nvml=Nvml(full_card(**LIMITS | card)), helper=limits)


def tool(folder: Path) -> tuple[str, str]:
    (folder / "limit").write_text("400.00\n")
    return "--nvidia-smi", str(script(folder / "nvidia-smi", NVIDIA_SMI))


def test_limits_go_through_the_helper(tmp_path: Path) -> None:
    with helper(tmp_path, *tool(tmp_path), sys_root=machine(tmp_path)):
        gpu = opened(tmp_path)
        assert gpu.capabilities().can_cap
        assert not (tmp_path / "asked").exists()  # to find out, nothing is written
        gpu.set_power_cap_w(250.7)
        assert float((tmp_path / "limit").read_text()) == 250.0
        gpu.set_power_cap_w(None)
        assert float((tmp_path / "limit").read_text()) == 400.0
        gpu.close()


def test_a_helper_that_comes_late_is_found_at_the_next_probe(tmp_path: Path) -> None:
    gpu = opened(tmp_path)
    assert not gpu.capabilities().can_cap
    with pytest.raises(PermanentError, match="cannot be set"):
        gpu.set_power_cap_w(250.0)
    with helper(tmp_path, *tool(tmp_path), sys_root=machine(tmp_path)):
        assert gpu.capabilities().can_cap
        (tmp_path / "stuck").touch()
        with pytest.raises(TransientError, match="gpu0: power limit not set: sterna-power"):
            gpu.set_power_cap_w(250.0)
    with pytest.raises(TransientError, match="gpu0: power limit not set: sterna-power"):
        gpu.set_power_cap_w(250.0)


def test_a_helper_without_the_tool_or_without_this_gpu_cannot_cap(tmp_path: Path) -> None:
    absent = ("--nvidia-smi", str(tmp_path / "none"))
    with helper(tmp_path, *absent, sys_root=machine(tmp_path)):
        assert not opened(tmp_path).capabilities().can_cap
        assert not LimitHelper(PowerClient(tmp_path / "sock")).takes(0)


def test_what_we_may_do_ourselves_we_do_ourselves(tmp_path: Path) -> None:
    gpu = opened(tmp_path, unprivileged=False)
    assert gpu.capabilities().can_cap
    gpu.set_power_cap_w(250.0)
    assert gpu.read()[0].power_cap_w == 250.0
