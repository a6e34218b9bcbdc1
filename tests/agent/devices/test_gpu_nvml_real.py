"""The NVML provider on a real NVIDIA GPU, where this machine has one. Reads only: no limit is touched."""

from collections.abc import Iterator

import pytest

from agent.devices.gpu_nvml import NvmlGpu
from sterna.clock import SystemClock
from sterna.errors import TransientError


@pytest.fixture
def gpu() -> Iterator[NvmlGpu]:
    pytest.importorskip("pynvml", reason="the nvidia extra is not installed")
    try:
        gpu = NvmlGpu(clock=SystemClock(), may_cap=False)
    except TransientError as error:
        pytest.skip(f"no NVIDIA GPU here: {error}")
    yield gpu
    gpu.close()


def test_every_figure_is_stated_or_none(gpu: NvmlGpu) -> None:
    found = gpu.capabilities()
    readings = gpu.read()
    assert tuple(reading.name for reading in readings) == found.names
    assert any(reading.power_w is not None for reading in readings) == found.can_read_power
    for reading in readings:
        assert reading.power_w is None or 0 < reading.power_w < 2000
        assert reading.utilization_frac is None or 0 <= reading.utilization_frac <= 1
        assert reading.temperature_degc is None or 0 < reading.temperature_degc < 120
        assert reading.clock_hz is None or 1e8 < reading.clock_hz < 1e10
    assert found.source.startswith("NVML: ")
    assert not found.can_cap


def test_looking_for_the_devices_again_keeps_their_names(gpu: NvmlGpu) -> None:
    before = [(device.name, device.uuid) for device in gpu._devices]
    gpu._shutdown()
    gpu._scan()
    assert [(device.name, device.uuid) for device in gpu._devices] == before
    assert [reading.name for reading in gpu.read()] == [name for name, _ in before]
