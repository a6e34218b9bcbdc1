from datetime import UTC, datetime

import pytest

from agent.devices.gpu_calibrated import CalibratedGpu
from agent.devices.gpu_fake import FakeGpu
from agent.devices.gpu_nvml import NvmlGpu
from sterna.clock import FakeClock
from sterna.errors import TransientError
from tests.agent.devices.test_gpu_late import Frail
from tests.agent.devices.test_gpu_nvml import Card, Nvml, full_card

CLOCK = FakeClock(datetime(2026, 11, 3, 12, tzinfo=UTC))


def test_watts_are_those_of_the_meter_and_the_rails_are_remembered() -> None:
    factor = 1.0
    gpu = CalibratedGpu(FakeGpu(clock=CLOCK, idle_w=20.0, rail_frac=0.5, max_w=60.0), factor=lambda: factor)
    assert gpu.rail_w is None
    assert gpu.read()[0].power_w == 10.0
    factor = 2.0
    (reading,) = gpu.read()
    assert (reading.power_w, reading.calibration_factor, gpu.rail_w) == (20.0, 2.0, 10.0)


def test_a_cap_of_the_node_is_left_as_it_is() -> None:
    inner = FakeGpu(clock=CLOCK, idle_w=5.0, max_w=60.0)
    gpu = CalibratedGpu(inner, factor=lambda: 2.0)
    gpu.set_power_cap_w(30.0)
    assert gpu.read()[0].power_cap_w == inner.read()[0].power_cap_w == 30.0
    assert (gpu.capabilities().cap_min_w, gpu.capabilities().cap_max_w) == (5.0, 60.0)


def test_a_cap_of_the_devices_alone_is_turned_into_theirs() -> None:
    card = full_card()
    gpu = CalibratedGpu(NvmlGpu(clock=CLOCK, nvml=Nvml(card)), factor=lambda: 1.25)
    found = gpu.capabilities()
    assert (found.cap_min_w, found.cap_max_w, found.cap_covers_node) == (250.0, 875.0, True)
    gpu.set_power_cap_w(500.0)
    assert card.limit_mw == 400_000
    assert gpu.read()[0].power_cap_w == 500.0
    gpu.set_power_cap_w(None)
    assert card.limit_mw == 700_000
    assert gpu.read()[0].power_cap_w is None


def test_what_is_unknown_stays_unknown() -> None:
    gpu = CalibratedGpu(NvmlGpu(clock=CLOCK, nvml=Nvml(full_card(), Card())), factor=lambda: 1.5)
    assert [reading.power_w for reading in gpu.read()] == [251.5 * 1.5, None]
    assert gpu.rail_w is None
    assert gpu.capabilities().cap_min_w is None


def test_a_reading_that_fails_leaves_no_old_figure() -> None:
    inner = Frail(clock=CLOCK)
    gpu = CalibratedGpu(inner, factor=lambda: 1.5)
    gpu.read()
    assert gpu.rail_w == 5.0
    inner.gone = True
    with pytest.raises(TransientError):
        gpu.read()
    assert gpu.rail_w is None
    gpu.close()
    assert inner.closed
