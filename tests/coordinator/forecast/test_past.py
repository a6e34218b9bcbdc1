"""A site's past from a file: what is read, and each thing that is refused, by file and line."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from coordinator.forecast.kinds import Kind
from coordinator.forecast.past import read_past
from coordinator.forecast.series import Series
from sterna.errors import ConfigError
from tests.coordinator.forecast.pasts import write_past

T0 = datetime(2026, 1, 1, tzinfo=UTC)
NOW = T0 + timedelta(days=2)


def read(path: Path, slot_s: float = 3600.0) -> Series:
    return read_past(path, kind=Kind.WIND, slot_s=slot_s, day_s=86_400.0, now=NOW)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "past.csv"
    write_past(path, [(T0 + timedelta(hours=hour), 100.0 * hour) for hour in range(5)])
    series = read(path)
    assert series.values.tolist() == [0.0, 100.0, 200.0, 300.0, 400.0]
    assert (series.end_at, series.kind, series.per_day) == (T0 + timedelta(hours=5), Kind.WIND, 24)


def test_short_rows_make_slots_and_holes_stay_holes(tmp_path: Path) -> None:
    path = tmp_path / "past.csv"
    quarters = [0, 1, 2, 3, 4, 8, 9, 10, 11, 12]  # of hour 1 one is known, hour 3 has begun
    write_past(path, [(T0 + timedelta(minutes=15 * quarter), float(quarter)) for quarter in quarters])
    series = read(path)
    assert series.values[[0, 2]].tolist() == [1.5, 9.5]
    assert np.isnan(series.values[1])
    assert series.end_at == T0 + timedelta(hours=3)


def test_an_empty_field_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "past.csv"
    path.write_text("ts_utc,surplus_w\n2026-01-01T00:00:00Z,5\n2026-01-01T01:00:00Z,\n2026-01-01T02:00Z,7\n")
    series = read(path)
    assert np.isnan(series.values[1])
    assert series.values[[0, 2]].tolist() == [5.0, 7.0]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("ts_utc,watts\n", "expected the columns ts_utc and surplus_w"),
        ("ts_utc,surplus_w\n", "less than two rows"),
        ("ts_utc,surplus_w\nnever,5\n", ":2: Invalid isoformat"),
        ("ts_utc,surplus_w\n2026-01-01T00:00Z,many\n", ":2: could not convert"),
        ("ts_utc,surplus_w\n2026-01-01T00:00,5\n", ":2: ts_utc: 2026-01-01T00:00 has no time zone"),
        ("ts_utc,surplus_w\n2026-01-01T00:00Z,-5\n", ":2: surplus_w: expected zero or more, got -5"),
        ("ts_utc,surplus_w\n2026-01-01T00:00Z,5\n2026-01-01T02:00Z,5\n", "rows of 7200 s do not make"),
        ("ts_utc,surplus_w\n2026-01-02T23:00Z,5\n2026-01-03T00:00Z,5\n", "has not passed yet"),
        (
            "ts_utc,surplus_w\n2026-01-01T00:00Z,5\n2026-01-01T00:30Z,5\n2026-01-01T01:10Z,5\n",
            "the stamps lie on no grid of 1800 s",
        ),
        (
            "ts_utc,surplus_w\n2026-01-01T00:00Z,5\n2026-01-01T00:10Z,5\n",
            "not one slot of 3600 s",
        ),
    ],
)
def test_what_is_refused_names_the_file(tmp_path: Path, rows: str, fault: str) -> None:
    path = tmp_path / "past.csv"
    path.write_text(rows)
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert str(refused.value).startswith(str(path))
    assert fault in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"past\.csv"):
        read(tmp_path / "past.csv")
