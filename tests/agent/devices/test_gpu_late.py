"""GPUs that come late, go away and come back; on a fake clock, with the fake GPU as the device."""

from datetime import UTC, datetime

import pytest

from agent.devices.gpu_fake import FakeGpu
from agent.devices.gpu_late import PROBE_S, RETRY_S, LateGpu
from agent.devices.gpu_ports import GpuProvider
from agent.model.readings import GpuReading
from sterna.clock import FakeClock
from sterna.errors import ConfigError, TransientError

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)


class Frail(FakeGpu):
    """A fake GPU that can be taken away."""

    gone = False
    closed = False

    def read(self) -> list[GpuReading]:
        if self.gone:
            raise TransientError("the service went away")
        return super().read()

    def close(self) -> None:
        self.closed = True


class Port:
    """Where the GPU is plugged in, or not."""

    def __init__(self, clock: FakeClock, *, present: bool) -> None:
        self.clock = clock
        self.present = present
        self.opened: list[Frail] = []

    def open(self) -> GpuProvider:
        if not self.present:
            raise TransientError("no driver")
        self.opened.append(Frail(clock=self.clock, idle_w=5.0, max_w=60.0))
        return self.opened[-1]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


def test_one_that_is_there_is_there_at_once(clock: FakeClock) -> None:
    gpu = LateGpu(Port(clock, present=True).open, clock=clock)
    assert gpu.capabilities().names == ("gpu0",)
    assert gpu.capabilities().can_cap
    assert gpu.read()[0].power_w == 5.0


def test_one_that_comes_late_is_found_within_seconds_with_jobs_and_cap(clock: FakeClock) -> None:
    port = Port(clock, present=False)
    gpu = LateGpu(port.open, clock=clock)
    assert (gpu.capabilities().names, gpu.capabilities().can_read_power) == ((), False)
    gpu.set_jobs({"job-1": 40.0})
    with pytest.raises(TransientError, match="no driver"):
        gpu.set_power_cap_w(20.0)
    port.present = True
    with pytest.raises(TransientError, match="no driver"):
        gpu.read()  # not at every reading
    clock.advance(RETRY_S)
    assert gpu.read()[0].power_w == 20.0
    assert (gpu.capabilities().names, gpu.capabilities().can_cap) == (("gpu0",), True)


def test_one_that_goes_away_is_opened_anew(clock: FakeClock) -> None:
    port = Port(clock, present=True)
    gpu = LateGpu(port.open, clock=clock)
    gpu.set_jobs({"job-1": 40.0})
    gpu.set_power_cap_w(30.0)
    port.opened[0].gone, port.present = True, False
    with pytest.raises(TransientError, match="went away"):
        gpu.read()
    assert port.opened[0].closed
    assert gpu.capabilities().names == ()
    for _ in range(3):
        clock.advance(RETRY_S)
        with pytest.raises(TransientError, match="no driver"):
            gpu.read()
    port.present = True
    clock.advance(RETRY_S)
    assert gpu.read()[0].power_w == 30.0


def test_capabilities_are_probed_now_and_then(clock: FakeClock) -> None:
    port = Port(clock, present=True)
    gpu = LateGpu(port.open, clock=clock)
    port.opened[0]._max_w = 50.0
    gpu.read()
    assert gpu.capabilities().cap_max_w == 60.0
    clock.advance(PROBE_S)
    gpu.read()
    assert gpu.capabilities().cap_max_w == 50.0


def test_what_will_never_do_is_raised_at_once(clock: FakeClock) -> None:
    def missing() -> GpuProvider:
        raise ConfigError("gpu: needs the extra")

    with pytest.raises(ConfigError, match="extra"):
        LateGpu(missing, clock=clock)


def test_what_will_never_do_later_on_does_not_end_the_agent(clock: FakeClock) -> None:
    outcomes: list[Exception | None] = [
        TransientError("no driver"),
        ConfigError("gpu: needs the extra"),
        None,
    ]

    def open_it() -> GpuProvider:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        return FakeGpu(clock=clock)

    gpu = LateGpu(open_it, clock=clock)
    clock.advance(RETRY_S)
    with pytest.raises(TransientError, match="needs the extra"):
        gpu.read()
    clock.advance(RETRY_S)
    assert gpu.read()[0].power_w == 5.0


def test_closing(clock: FakeClock) -> None:
    port = Port(clock, present=True)
    gpu = LateGpu(port.open, clock=clock)
    gpu.close()
    gpu.close()
    assert port.opened[0].closed
