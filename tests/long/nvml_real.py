"""The NVML provider on a real NVIDIA GPU: ``pytest -m long tests/long/nvml_real.py``.

It reads only. With STERNA_NVML_SET_CAP=1, and root, it also sets a power limit and takes it back; never do
that on a machine whose settings are not yours.
"""

import os
from collections.abc import Iterator

import pytest

from agent.devices.gpu import open_provider
from agent.devices.gpu_ports import GpuProvider
from sterna.clock import SystemClock
from sterna.errors import ConfigError, PermanentError, TransientError

pytestmark = pytest.mark.long


@pytest.fixture
def provider() -> Iterator[GpuProvider]:
    try:
        provider = open_provider("nvml", clock=SystemClock())
    except (ConfigError, TransientError) as error:
        pytest.skip(f"no NVIDIA GPU here: {error}")
    if not provider.capabilities().names:
        pytest.skip("NVML answers, but knows no device")
    yield provider
    provider.close()


def test_figures_are_believable_or_absent(provider: GpuProvider) -> None:
    readings = provider.read()
    print(provider.capabilities(), *readings, sep="\n")
    assert tuple(reading.name for reading in readings) == provider.capabilities().names
    for reading in readings:
        assert reading.power_w is None or 1 < reading.power_w < 2000
        assert reading.utilization_frac is None or 0 <= reading.utilization_frac <= 1
        assert reading.temperature_degc is None or 5 < reading.temperature_degc < 120
    assert provider.capabilities().can_read_power == any(reading.power_w is not None for reading in readings)


def test_limits_bound_each_other(provider: GpuProvider) -> None:
    found = provider.capabilities()
    if not found.can_cap:
        with pytest.raises(PermanentError):
            provider.set_power_cap_w(1.0)
        return
    assert found.cap_min_w is not None and found.cap_max_w is not None
    assert 0 < found.cap_min_w <= found.cap_max_w


@pytest.mark.skipif(os.environ.get("STERNA_NVML_SET_CAP") != "1", reason="changes the power limit; opt in")
def test_a_cap_is_set_and_taken_back(provider: GpuProvider) -> None:
    found = provider.capabilities()
    if not found.can_cap or found.cap_min_w is None:
        pytest.skip("this process may not set power limits")
    try:
        provider.set_power_cap_w(found.cap_min_w)
        assert sum(reading.power_cap_w or 0 for reading in provider.read()) == pytest.approx(found.cap_min_w)
    finally:
        provider.set_power_cap_w(None)
    assert all(reading.power_cap_w is None for reading in provider.read())
