"""What every provider promises, held against each kind that runs without hardware, and the factory."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.devices.gpu import KINDS, open_provider
from agent.devices.gpu_jtop import JtopGpu
from agent.devices.gpu_nvml import NvmlGpu
from agent.devices.gpu_ports import GpuProvider
from agent.devices.gpu_tegrastats import TegrastatsGpu
from sterna.clock import FakeClock
from sterna.errors import ConfigError, PermanentError
from tests.agent.devices import test_gpu_jtop, test_gpu_nvml, test_gpu_tegrastats
from tests.agent.devices.sysfs_trees import agx_orin, agx_thor, orin_nano

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
CLOCK = FakeClock(NOW)


def fake(tmp_path: Path) -> GpuProvider:
    return open_provider("fake", clock=CLOCK, compute_power_path=tmp_path / "compute_w")


def jetson_nano(tmp_path: Path) -> GpuProvider:
    return open_provider("jetson", clock=CLOCK, root=orin_nano(tmp_path), max_w=25.0)


def jetson_agx(tmp_path: Path) -> GpuProvider:
    return open_provider("jetson", clock=CLOCK, root=agx_orin(tmp_path), max_w=60.0)


def jetson_thor(tmp_path: Path) -> GpuProvider:
    return open_provider("jetson", clock=CLOCK, root=agx_thor(tmp_path), max_w=130.0)


def tegrastats(_tmp_path: Path) -> GpuProvider:
    command = (sys.executable, "-u", "-c", f"print({test_gpu_tegrastats.ORIN_NX!r})")
    return TegrastatsGpu(clock=CLOCK, command=command)


def nvml_full(_tmp_path: Path) -> GpuProvider:
    return NvmlGpu(clock=CLOCK, nvml=test_gpu_nvml.Nvml(test_gpu_nvml.full_card()))


def nvml_mute(_tmp_path: Path) -> GpuProvider:
    return NvmlGpu(clock=CLOCK, nvml=test_gpu_nvml.Nvml(test_gpu_nvml.Card()))


def jtop(_tmp_path: Path) -> GpuProvider:
    return JtopGpu(clock=CLOCK, session=test_gpu_jtop.full())


@pytest.fixture(params=[fake, jetson_nano, jetson_agx, jetson_thor, tegrastats, nvml_full, nvml_mute, jtop])
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GpuProvider]:
    make: Callable[[Path], GpuProvider] = request.param
    gpu = make(tmp_path)
    yield gpu
    gpu.close()


def test_names_are_those_of_readings_and_capabilities(provider: GpuProvider) -> None:
    names = provider.capabilities().names
    assert names
    assert tuple(reading.name for reading in provider.read()) == names


def test_power_is_stated_exactly_where_it_can_be_read(provider: GpuProvider) -> None:
    provider.set_jobs({"job-1": 10.0})
    stated = [reading.power_w for reading in provider.read()]
    assert any(power is not None for power in stated) == provider.capabilities().can_read_power
    assert all(power is None or power >= 0 for power in stated)


def test_a_cap_is_stated_or_refused(provider: GpuProvider) -> None:
    found = provider.capabilities()
    if not found.can_cap:
        with pytest.raises(PermanentError):
            provider.set_power_cap_w(10.0)
        return
    assert found.cap_min_w is not None
    provider.set_power_cap_w(found.cap_min_w)
    assert [reading.power_cap_w for reading in provider.read()] == [pytest.approx(found.cap_min_w)]
    provider.set_power_cap_w(None)
    assert [reading.power_cap_w for reading in provider.read()] == [None]


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="auto, fake, jetson, nvml, jtop, tegrastats"):
        open_provider("cuda", clock=CLOCK)
    assert KINDS == ("auto", "fake", "jetson", "nvml", "jtop", "tegrastats")


def test_no_hardware_library_is_imported_unless_asked_for() -> None:
    code = (
        "import sys; from agent.devices.gpu import open_provider; from sterna.clock import SystemClock;"
        "open_provider('fake', clock=SystemClock());"
        "print(sorted({'pynvml', 'jtop'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
