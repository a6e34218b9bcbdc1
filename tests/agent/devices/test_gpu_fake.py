import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices.gpu_fake import FakeGpu
from sterna.clock import FakeClock
from sterna.errors import TransientError

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
watts = st.floats(0, 1e4)


def power_w(gpu: FakeGpu) -> float:
    power = gpu.read()[0].power_w
    assert power is not None
    return power


@pytest.mark.parametrize(
    ("jobs_w", "cap_w", "expected_w"),
    [
        ({}, None, 5.0),
        ({"a": 20.0}, None, 25.0),
        ({"a": 20.0, "b": 10.0}, None, 35.0),
        ({"a": 20.0, "b": 10.0}, 20.0, 20.0),
        ({"a": 20.0}, 100.0, 25.0),
        ({"a": 20.0}, 0.0, 5.0),
        ({}, 3.0, 5.0),
    ],
)
def test_draw_follows_load_and_cap(jobs_w: dict[str, float], cap_w: float | None, expected_w: float) -> None:
    gpu = FakeGpu(clock=FakeClock(NOW))
    gpu.set_jobs(jobs_w)
    gpu.set_power_cap_w(cap_w)
    assert power_w(gpu) == pytest.approx(expected_w)


def test_releasing_the_cap_restores_the_draw() -> None:
    gpu = FakeGpu(clock=FakeClock(NOW))
    gpu.set_jobs({"a": 40.0})
    gpu.set_power_cap_w(10.0)
    assert gpu.read()[0].power_cap_w == 10.0
    gpu.set_power_cap_w(None)
    assert (power_w(gpu), gpu.read()[0].power_cap_w) == (45.0, None)


def test_lag_is_first_order() -> None:
    clock = FakeClock(NOW)
    gpu = FakeGpu(clock=clock, idle_w=0.0, lag_s=2.0)
    gpu.set_jobs({"a": 100.0})
    assert power_w(gpu) == 0.0
    clock.advance(2.0)
    assert power_w(gpu) == pytest.approx(100 * (1 - math.exp(-1)))
    clock.advance(60.0)
    gpu.set_jobs({})
    clock.advance(2.0)
    assert power_w(gpu) == pytest.approx(100 * math.exp(-1))


def test_the_plant_reads_the_present_draw(tmp_path: Path) -> None:
    path = tmp_path / "compute_w"
    gpu = FakeGpu(clock=FakeClock(NOW), compute_power_path=path)
    assert not path.exists()
    gpu.set_jobs({"a": 20.0})
    assert float(path.read_text()) == 25.0
    gpu.set_power_cap_w(12.0)
    assert float(path.read_text()) == 12.0
    gpu.close()
    assert float(path.read_text()) == 12.0
    assert list(tmp_path.iterdir()) == [path]


def test_the_plants_file_is_not_rewritten_without_need(tmp_path: Path) -> None:
    path = tmp_path / "compute_w"
    gpu = FakeGpu(clock=FakeClock(NOW), compute_power_path=path)
    gpu.read()
    inode = path.stat().st_ino
    gpu.read()
    assert path.stat().st_ino == inode


def test_an_unwritable_file_is_told(tmp_path: Path) -> None:
    gpu = FakeGpu(clock=FakeClock(NOW), compute_power_path=tmp_path / "missing" / "compute_w")
    with pytest.raises(TransientError, match="compute_w"):
        gpu.read()


@given(st.dictionaries(st.text(max_size=3), watts), st.none() | watts)
def test_draw_never_exceeds_cap_nor_falls_below_idle(jobs_w: dict[str, float], cap_w: float | None) -> None:
    gpu = FakeGpu(clock=FakeClock(NOW), idle_w=7.0)
    gpu.set_jobs(jobs_w)
    gpu.set_power_cap_w(cap_w)
    ceiling_w = 7.0 + sum(jobs_w.values()) if cap_w is None else max(cap_w, 7.0)
    assert 7.0 <= power_w(gpu) <= ceiling_w + 1e-6
