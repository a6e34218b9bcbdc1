"""A plant's past: the days before, in the stamps of its own run, and nothing of the day that is played."""

from array import array
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.simulator import past as module
from agent.simulator.past import past
from agent.simulator.plant import Plant, SimTime
from agent.simulator.traces import Trace

START = datetime(2021, 3, 11, 6, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = 365 * 24
PLAYED = int((START - datetime(2021, 1, 1, tzinfo=UTC)).total_seconds() // 3600)


def plant(pv_cf: "array[float]") -> Plant:
    trace = Trace(place="x", pv_cf=pv_cf, wind_cf=array("d", [0.0] * HOURS))
    return Plant(trace=trace, pv_w=1000.0, wind_w=0.0, base_load_w=100.0)


@pytest.mark.parametrize("speedup", [24.0, 480.0])
def test_nothing_of_the_day_itself_is_in_it(speedup: float) -> None:
    """Whatever weather the day brings, the file is the same."""
    time = SimTime(start_at=NOW, trace_start_at=START, speedup=speedup)
    sky = array("d", [(hour % 24) / 24 for hour in range(HOURS)])
    other = array("d", [cf if hour < PLAYED else 0.5 for hour, cf in enumerate(sky)])
    rows = [
        list(past(plant(one), time, until=NOW, days=3.0, slot=timedelta(minutes=30))) for one in (sky, other)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3 * 48 - 2, "the last hour is held back: the trace is interpolated"


def test_its_stamps_are_those_of_the_run() -> None:
    time = SimTime(start_at=NOW, trace_start_at=START, speedup=480.0)
    sky = array("d", [0.5] * HOURS)
    until = NOW - timedelta(seconds=12)
    rows = list(past(plant(sky), time, until=until, days=2.0, slot=timedelta(hours=1)))
    assert rows[0][0] == NOW - timedelta(seconds=2 * 180)
    assert rows[1][0] - rows[0][0] == timedelta(seconds=7.5)
    assert rows[-1][0] + timedelta(seconds=7.5) <= until < rows[-1][0] + timedelta(seconds=15)
    assert {surplus_w for _, surplus_w in rows} == {400.0}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--place", "miami", "--pv-w", "4000", "--wind-w", "2500", "--base-load-w", "1000"]
    argv += ["--trace-start", START.isoformat(), "--start-at", NOW.isoformat(), "--until", NOW.isoformat()]
    argv += ["--speedup", "480", "--days", "2", "--slot-h", "0.5"]
    out = tmp_path / "past.csv"
    assert module.main([*argv, "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "ts_utc,surplus_w"
    assert len(lines) == 1 + 2 * 48 - 2
    assert any(float(line.split(",")[1]) > 0 for line in lines[1:])
    assert module.main([*argv, "--out", str(tmp_path / "no" / "past.csv")]) == 2
    assert "past.csv" in capsys.readouterr().err
