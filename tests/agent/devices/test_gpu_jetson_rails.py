"""Which rails make up a board's draw, on made-up trees with the layout that their kernels have."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from agent.devices.gpu_jetson import JetsonGpu
from agent.devices.gpu_jetson_rails import choose_total, find_module_power
from agent.devices.gpu_jetson_sensors import board_name, find_gpu_files
from agent.devices.gpu_sysfs import is_writable, read_int, read_text
from agent.model.gpu import Scope
from sterna.clock import SystemClock
from tests.agent.devices.sysfs_trees import agx_orin, agx_thor, orin_nano, orin_nx


@pytest.mark.parametrize(
    ("tree", "labels", "power_w", "scope"),
    [
        (orin_nano, ("VDD_IN",), 7.56, Scope.MODULE),
        (orin_nx, ("VDD_IN",), 20.0, Scope.MODULE),
        (agx_orin, ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), 27.8, Scope.PARTS),
        (agx_thor, ("VIN",), 55.5, Scope.INPUT),
        (partial(agx_thor, carrier=False), ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), 40.0, Scope.PARTS),
    ],
)
def test_a_boards_draw(
    tmp_path: Path, tree: Callable[[Path], Path], labels: tuple[str, ...], power_w: float, scope: Scope
) -> None:
    power = find_module_power(tree(tmp_path))
    assert power is not None
    assert (power.labels, power.scope) == (labels, scope)
    assert power.power_w() == pytest.approx(power_w)


def test_a_machine_without_sensors(tmp_path: Path) -> None:
    assert find_module_power(tmp_path) is None
    files = find_gpu_files(tmp_path)
    assert (files.devfreq, files.zone, files.clocks_hz()) == (None, None, [])
    assert (files.clock_hz(), files.load_frac(), files.temperature_degc()) == (None, None, None)
    assert board_name(tmp_path) is None


def test_rails_of_an_unknown_board_are_all_summed() -> None:
    assert choose_total(["A", "B"]) == (("A", "B"), Scope.PARTS)


@pytest.mark.parametrize("content", [None, "not a number", "\x80"])
def test_an_input_monitor_that_says_nothing_makes_the_draw_unknown(
    tmp_path: Path, content: str | None
) -> None:
    power = find_module_power(agx_thor(tmp_path))
    path = tmp_path / "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon3/power1_input"
    path.unlink() if content is None else path.write_bytes(content.encode("latin-1"))
    assert power is not None
    assert power.power_w() is None


@pytest.mark.parametrize(
    ("tree", "gpu"),
    [
        (orin_nano, "17000000.gpu"),
        (orin_nx, "17000000.ga10b"),
        (agx_orin, "17000000.ga10b"),
        (agx_thor, "gpu-gpc-0"),
    ],
)
def test_the_gpu_is_told_from_other_engines(tmp_path: Path, tree: Callable[[Path], Path], gpu: str) -> None:
    files = find_gpu_files(tree(tmp_path))
    assert files.devfreq is not None and files.devfreq.name == gpu
    assert (files.clock_hz(), files.temperature_degc()) == (306e6, 51.25)
    assert files.load_frac() == (None if gpu == "gpu-gpc-0" else 0.873)


def test_capabilities_name_the_board_and_what_is_read(tmp_path: Path) -> None:
    gpu = JetsonGpu(clock=SystemClock(), root=agx_thor(tmp_path), idle_w=20.0, max_w=130.0)
    found = gpu.capabilities()
    assert found.source == "NVIDIA Jetson AGX Thor Developer Kit: VIN; gpu-gpc-0"
    assert (found.scope, found.cap_covers_node) == (Scope.INPUT, True)


def test_files_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("  12 \n")
    assert (read_text(tmp_path / "text"), read_int(tmp_path / "text")) == ("12", 12)
    assert (read_text(tmp_path), read_int(tmp_path / "none"), is_writable(tmp_path / "none")) == (
        None,
        None,
        False,
    )
