from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices.gpu_jetson import JetsonGpu, clock_frac
from sterna.clock import FakeClock
from sterna.errors import TransientError
from tests.agent.devices.sysfs_trees import ORIN_CLOCKS_HZ, agx_orin, orin_nano

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
NANO = "sys/class/devfreq/17000000.gpu"
RAILS = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"


def opened(root: Path) -> JetsonGpu:
    return JetsonGpu(clock=FakeClock(NOW), root=root, idle_w=5.0, max_w=25.0)


@pytest.mark.parametrize(("tree", "expected_w"), [(orin_nano, 7.56), (agx_orin, 27.8)])
def test_the_modules_input_is_read(tmp_path: Path, tree: Callable[[Path], Path], expected_w: float) -> None:
    (reading,) = opened(tree(tmp_path)).read()
    assert reading.power_w == pytest.approx(expected_w)
    assert reading.utilization_frac == pytest.approx(0.873)
    assert reading.temperature_degc == pytest.approx(51.25)
    assert reading.power_cap_w is None
    assert reading.clock_hz == 306_000_000
    assert (reading.name, reading.measured_at) == ("gpu0", NOW)


def test_unknown_rails_are_summed(tmp_path: Path) -> None:
    root = orin_nano(tmp_path)
    (root / RAILS / "in1_label").write_text("VDD_NEW\n")
    (reading,) = opened(root).read()
    assert reading.power_w == pytest.approx(7.56 + 5.032 * 0.48 + 5.032 * 0.4)


@pytest.mark.parametrize(
    ("cap_w", "clock_hz"),
    [
        (25.0, ORIN_CLOCKS_HZ[-1]),
        (90.0, ORIN_CLOCKS_HZ[-1]),
        (15.0, 510_000_000),
        (14.9, 408_000_000),
        (5.0, ORIN_CLOCKS_HZ[0]),
        (0.0, ORIN_CLOCKS_HZ[0]),
        (None, ORIN_CLOCKS_HZ[-1]),
    ],
)
def test_a_cap_becomes_the_highest_clock_below_it(tmp_path: Path, cap_w: float | None, clock_hz: int) -> None:
    gpu = opened(orin_nano(tmp_path))
    gpu.set_power_cap_w(cap_w)
    assert int((tmp_path / NANO / "max_freq").read_text()) == clock_hz
    stated_w = gpu.read()[0].power_cap_w
    if clock_hz == ORIN_CLOCKS_HZ[-1]:
        assert stated_w is None
    else:
        assert stated_w == pytest.approx(5 + 20 * clock_hz / ORIN_CLOCKS_HZ[-1])


def test_a_cap_left_by_an_earlier_run_is_seen(tmp_path: Path) -> None:
    opened(orin_nano(tmp_path)).set_power_cap_w(15.0)
    assert opened(tmp_path).read()[0].power_cap_w == pytest.approx(15.0)


def test_capabilities_say_what_was_found(tmp_path: Path) -> None:
    found = opened(orin_nano(tmp_path)).capabilities()
    assert (found.can_read_power, found.can_cap, found.cap_max_w) == (True, True, 25.0)
    assert found.cap_min_w == pytest.approx(5 + 20 * 0.3)


def test_a_read_only_clock_cannot_cap(tmp_path: Path) -> None:
    (orin_nano(tmp_path) / NANO / "max_freq").chmod(0o444)
    gpu = opened(tmp_path)
    found = gpu.capabilities()
    assert (found.can_cap, found.cap_min_w, found.cap_max_w) == (False, None, None)
    with pytest.raises(TransientError, match="max_freq"):
        gpu.set_power_cap_w(10.0)


def test_a_refused_write_is_transient(tmp_path: Path) -> None:
    gpu = opened(orin_nano(tmp_path))
    target = tmp_path / NANO / "max_freq"
    target.unlink()
    target.mkdir()
    with pytest.raises(TransientError, match="max_freq"):
        gpu.set_power_cap_w(10.0)


@pytest.mark.parametrize(
    ("vanishes", "figure"),
    [
        (f"{RAILS}/curr1_input", "power_w"),
        (f"{NANO}/device/load", "utilization_frac"),
        ("sys/class/thermal/thermal_zone1/temp", "temperature_degc"),
    ],
)
@pytest.mark.parametrize("content", [None, "\x80garbage", ""])
def test_a_figure_that_vanishes_is_none_and_no_other_is(
    tmp_path: Path, vanishes: str, figure: str, content: str | None
) -> None:
    gpu = opened(orin_nano(tmp_path))
    path = tmp_path / vanishes
    path.unlink() if content is None else path.write_bytes(content.encode("latin-1"))
    (reading,) = gpu.read()
    figures = {name: getattr(reading, name) for name in ("power_w", "utilization_frac", "temperature_degc")}
    assert [name for name, value in figures.items() if value is None] == [figure]


def test_a_machine_without_sensors_may_have_them_later(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="neither power rails nor a GPU"):
        opened(tmp_path)


def test_rails_without_a_gpu_are_enough_to_read(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    (tmp_path / NANO).rename(tmp_path / "sys/class/devfreq/unrelated")
    gpu = opened(tmp_path)
    (reading,) = gpu.read()
    assert reading.power_w == pytest.approx(7.56)
    assert (reading.utilization_frac, gpu.capabilities().can_cap) == (None, False)


@given(st.floats(0, 100), st.floats(0, 50), st.floats(0.1, 100))
def test_a_clock_is_a_fraction_that_grows_with_the_cap(cap_w: float, idle_w: float, range_w: float) -> None:
    frac = clock_frac(cap_w, idle_w, idle_w + range_w)
    assert 0 <= frac <= 1
    assert frac <= clock_frac(cap_w + 1, idle_w, idle_w + range_w)
    # Draw proportional to the clock stays below a cap that is above idle.
    if cap_w >= idle_w:
        assert idle_w + frac * range_w <= cap_w + 1e-6
