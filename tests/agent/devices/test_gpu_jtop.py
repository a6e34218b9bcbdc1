from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.devices import gpu_jtop
from agent.devices.gpu_jtop import JtopGpu
from sterna.clock import FakeClock
from sterna.errors import PermanentError, TransientError

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)


class Session:
    """The properties of a started jtop, shaped as its documentation states them."""

    def __init__(self, power: Any, gpu: Any, temperature: Any) -> None:
        self.power, self.gpu, self.temperature = power, gpu, temperature
        self.alive = True
        self.fault: Exception | None = None

    def ok(self) -> bool:
        if self.fault is not None:
            raise self.fault
        return self.alive

    def close(self) -> None:
        self.alive = False


def full() -> Session:
    return Session(
        {"rail": {"VDD_IN": {"power": 7560}}, "tot": {"power": 7560}},
        {"gpu": {"type": "integrated", "status": {"load": 87.3}, "freq": {"cur": 624_750}}},
        {"cpu": {"online": True, "temp": 48.5}, "gpu": {"online": True, "temp": 51.25}},
    )


def test_reads_total_load_and_temperature() -> None:
    (reading,) = JtopGpu(clock=FakeClock(NOW), session=full()).read()
    assert reading.power_w == pytest.approx(7.56)
    assert reading.utilization_frac == pytest.approx(0.873)
    assert (reading.temperature_degc, reading.power_cap_w) == (51.25, None)
    assert reading.clock_hz == 624_750_000


@pytest.mark.parametrize("temperature", [{}, {"gpu": {"online": False, "temp": -256}}, {"GPU": {}}])
def test_what_the_service_does_not_say_is_none(temperature: Any) -> None:
    gpu = JtopGpu(clock=FakeClock(NOW), session=Session({}, {"gpu": {}}, temperature))
    (reading,) = gpu.read()
    assert (reading.power_w, reading.utilization_frac, reading.temperature_degc) == (None, None, None)
    assert not gpu.capabilities().can_read_power


def test_it_cannot_cap() -> None:
    gpu = JtopGpu(clock=FakeClock(NOW), session=full())
    assert not gpu.capabilities().can_cap
    with pytest.raises(PermanentError, match="read only"):
        gpu.set_power_cap_w(10.0)


def test_a_service_that_went_away_is_transient() -> None:
    gpu = JtopGpu(clock=FakeClock(NOW), session=full())
    gpu.close()
    with pytest.raises(TransientError, match="went away"):
        gpu.read()


def test_whatever_the_client_raises_is_transient() -> None:
    session = full()
    gpu = JtopGpu(clock=FakeClock(NOW), session=session)
    session.fault = EOFError("lost connection")
    with pytest.raises(TransientError, match="lost connection"):
        gpu.read()


def test_without_its_service_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("jtop", reason="the jetson extra is not installed")
    monkeypatch.setattr(gpu_jtop, "_SOCKET", tmp_path / "none")
    with pytest.raises(TransientError, match="its service does not run"):
        JtopGpu(clock=FakeClock(NOW))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:jtop")
def test_the_real_client_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("jtop", reason="the jetson extra is not installed")
    if Path("/run/jtop.sock").exists():
        pytest.skip("jtop's service runs on this machine")
    monkeypatch.setattr(gpu_jtop, "_SOCKET", tmp_path)  # there, as far as we looked; the client knows better
    with pytest.raises(TransientError, match="service is not active"):
        JtopGpu(clock=FakeClock(NOW))
