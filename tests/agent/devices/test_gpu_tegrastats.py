"""tegrastats lines, captured and made up, and the child process that prints them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices import gpu_tegrastats
from agent.devices.gpu_tegrastats import TegrastatsGpu
from agent.devices.gpu_tegrastats_line import parse_line
from agent.model.gpu import Scope
from sterna.clock import FakeClock, SystemClock
from sterna.errors import ConfigError, PermanentError, TransientError
from tests.waiting import wait_until

CAPTURES = Path(__file__).parents[4] / "shared/data/fixtures/tegrastats"
NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)

# The forms below are those of an Orin NX with JetPack 5 and 6; the figures are made up.
ORIN_NX = (
    "11-03-2026 12:00:00 RAM 6334/15388MB (lfb 4x4MB) SWAP 491/7694MB (cached 0MB) CPU [6%@729,off]"
    " GR3D_FREQ 62%@[611,612] cpu@47.9C gpu@45.8C tj@48.8C"
    " VDD_IN 5300mW/5200mW VDD_CPU_GPU_CV 773mW/773mW VDD_SOC 1424mW/1424mW"
)


@pytest.mark.parametrize(
    ("name", "power_w", "gpu", "degc", "scope"),
    [
        ("agx_orin_64gb.txt", 4.940 + 0.988 + 4.442, (0.0, None), 37.75, Scope.PARTS),
        ("agx_xavier.txt", 0.311 + 0.932 + 0.621 + 1.482, (0.0, 318e6), 37.5, Scope.PARTS),
        ("orin_16gb_r35.txt", 5.299, (0.0, 611e6), 45.875, Scope.MODULE),
        ("xavier_nx.txt", 4.067, (0.62, 306e6), 43.0, Scope.MODULE),
    ],
)
def test_captured_lines(
    name: str, power_w: float, gpu: tuple[float, float | None], degc: float, scope: Scope
) -> None:
    if not CAPTURES.is_dir():
        pytest.skip(f"no captured lines at {CAPTURES}")
    line = parse_line((CAPTURES / name).read_text())
    assert line is not None
    assert line.power_w == pytest.approx(power_w)
    assert (line.utilization_frac, line.clock_hz, line.temperature_degc) == (*gpu, degc)
    assert line.scope is scope


def test_a_line_of_a_newer_release() -> None:
    line = parse_line(ORIN_NX)
    assert line is not None
    assert (line.power_w, line.utilization_frac, line.clock_hz) == (5.3, 0.62, 611e6)
    assert (line.temperature_degc, line.labels) == (45.8, ("VDD_IN",))


@pytest.mark.parametrize(
    "line", ["", "RAM 721/31927MB SWAP 0/15963MB", "unknown command", "CPU [2%@1190,off]"]
)
def test_what_is_no_line_of_figures_is_none(line: str) -> None:
    assert parse_line(line) is None


def test_a_zone_that_is_switched_off_is_unknown() -> None:
    line = parse_line("GR3D_FREQ 0% gpu@-256C")
    assert line is not None
    assert (line.temperature_degc, line.power_w, line.scope) == (None, None, None)


@given(st.text(max_size=300))
def test_no_text_upsets_it(text: str) -> None:
    parse_line(text)


@given(st.integers(0, len(ORIN_NX)))
def test_a_line_that_was_cut_off_invents_no_rail(length: int) -> None:
    line = parse_line(ORIN_NX[:length])
    assert line is None or line.power_w in (None, 5.3)


def tool(body: str) -> tuple[str, ...]:
    """A program that prints as tegrastats does."""
    return (sys.executable, "-u", "-c", f"import sys, time\nLINE = {ORIN_NX!r}\n{body}")


@contextmanager
def running(body: str) -> Iterator[TegrastatsGpu]:
    gpu = TegrastatsGpu(clock=SystemClock(), command=tool(body))
    try:
        yield gpu
    finally:
        gpu.close()


def test_the_newest_whole_line_counts() -> None:
    body = "print(LINE.replace('5300', '1000'))\nsys.stdout.write(LINE + '\\nVDD_IN 9')\ntime.sleep(60)"
    with running(body) as gpu:
        wait_until(lambda: gpu.read()[0].power_w == 5.3, "the second line")
        (reading,) = gpu.read()
        assert (reading.power_w, reading.name, reading.clock_hz) == (5.3, "gpu0", 611e6)
        found = gpu.capabilities()
        assert (found.can_read_power, found.can_cap, found.scope) == (True, False, Scope.MODULE)
        assert found.source == "tegrastats: VDD_IN"
        with pytest.raises(PermanentError, match="read only"):
            gpu.set_power_cap_w(5.0)


def test_the_child_is_gone_after_close() -> None:
    with running("print(LINE)\ntime.sleep(60)") as gpu:
        child = gpu._child
        assert child is not None
    assert child.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_tool_that_says_nothing_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_tegrastats, "FIRST_LINE_S", 1.0)
    for body in ("print('no such option')", "time.sleep(60)", "sys.stdout.write('x' * 10**6)"):
        with pytest.raises(TransientError, match="nothing that can be read"):
            TegrastatsGpu(clock=SystemClock(), command=tool(body))


def test_a_tool_that_falls_silent() -> None:
    clock = FakeClock(NOW)
    gpu = TegrastatsGpu(clock=clock, command=tool("print(LINE)\ntime.sleep(60)"))
    try:
        clock.advance(gpu_tegrastats.SILENT_S - 1)
        assert gpu.read()[0].power_w == 5.3
        clock.advance(2)
        with pytest.raises(TransientError, match="nothing any more"):
            gpu.read()
    finally:
        gpu.close()


def test_a_machine_without_the_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if Path("/usr/bin/tegrastats").exists():
        pytest.skip("this machine has tegrastats")
    with pytest.raises(ConfigError, match="not on this machine"):
        TegrastatsGpu(clock=SystemClock())
    with pytest.raises(TransientError, match="tegrastats"):
        TegrastatsGpu(clock=SystemClock(), command=(str(tmp_path / "none"),))
