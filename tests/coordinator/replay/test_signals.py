"""Prices and carbon intensity from files to the steps of a world; every fault names file, trace and unit."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from coordinator.forecast.kinds import Kind
from coordinator.forecast.series import Series
from coordinator.replay.signals import SignalTable, read_signals
from coordinator.replay.sources import TraceFiles
from sterna.errors import ConfigError

START = datetime(2022, 4, 1, tzinfo=UTC)
PRICES = (
    "ts_utc,zone,price_per_mwh,currency\n"
    "2022-03-31T23:00:00Z,A,90,EUR\n2022-04-01T00:00:00Z,A,-20,EUR\n2022-04-01T02:00:00Z,A,40,EUR\n"
    "2022-04-01T00:00:00Z,B,10,EUR\n2022-04-01T00:00:00Z,U,10,USD\n2022-04-01T01:00:00Z,U,10,USD\n"
)


def test_a_price_per_mwh_is_a_price_per_kwh_from_the_start_of_the_world(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(PRICES)
    found = read_signals("price", SignalTable(file="p.csv"), {"x": "A", "y": ""}, TraceFiles(tmp_path))
    assert found.money == "EUR"
    signal = found.on("x", START, 3600.0)
    assert signal is not None
    assert (signal.past, signal.per_kwh) == ((0.09,), (-0.02, None, 0.04))
    assert found.on("y", START, 3600.0) is None


def test_grams_in_other_words_are_the_same_grams(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("ts_utc,here\n2022-04-01T00:00:00Z,400\n2022-04-01T01:00:00Z,300\n")
    for unit in ("g/kWh", "kg/MWh"):
        found = read_signals(
            "carbon", SignalTable(file="c.csv", unit=unit), {"x": "here"}, TraceFiles(tmp_path)
        )
        signal = found.on("x", START, 3600.0)
        assert signal is not None and signal.per_kwh == pytest.approx((400.0, 300.0))
        assert found.money == ""


@pytest.mark.parametrize(
    ("what", "table", "names", "says"),
    [
        ("price", None, {"x": "A"}, r"fleet\.sites: x: price: needs a table \[price\]"),
        (
            "price",
            SignalTable(file="p.csv"),
            {"x": "Z"},
            r"p\.csv: no trace Z, the price at x; it has A, B, U",
        ),
        ("price", SignalTable(file="p.csv"), {"x": "A", "y": "U"}, "prices in EUR and USD: expected one"),
        (
            "price",
            SignalTable(file="p.csv", unit="USD/MWh"),
            {"x": "A"},
            "p.csv: A is in EUR/MWh, .* is USD/MWh",
        ),
        ("price", SignalTable(file="c.csv"), {"x": "here"}, "here: price.unit is missing: expected a curr"),
        (
            "price",
            SignalTable(file="c.csv", unit="EUR"),
            {"x": "here"},
            "price.unit EUR: expected a currency",
        ),
        ("carbon", SignalTable(file="c.csv", unit="EUR/MWh"), {"x": "here"}, "expected g/kWh or kg/MWh"),
    ],
)
def test_what_is_no_signal_is_refused(
    tmp_path: Path, what: str, table: SignalTable | None, names: dict[str, str], says: str
) -> None:
    (tmp_path / "p.csv").write_text(PRICES)
    (tmp_path / "c.csv").write_text("ts_utc,here\n2022-04-01T00:00:00Z,400\n2022-04-01T01:00:00Z,300\n")
    with pytest.raises(ConfigError, match=says):
        read_signals(what, table, names, TraceFiles(tmp_path))


@pytest.mark.parametrize(
    ("step_s", "past", "ahead"),
    [
        (1800.0, [1.0, 2.0], [4.0, 5.0, 6.0, 7.0]),
        (3600.0, [1.5], [4.5, 6.5]),
        (900.0, [1.0, 1.0, 2.0, 2.0], [4.0, 4.0, 5.0, 5.0, 6.0, 6.0, 7.0, 7.0]),
        (7200.0, [], [5.5]),
    ],
)
def test_a_series_in_longer_and_shorter_steps(step_s: float, past: list[float], ahead: list[float]) -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0, 6.0, 7.0])
    end_at = START + timedelta(hours=2)
    line = Series(kind=Kind.OTHER, slot_s=1800.0, end_at=end_at, values=values)
    before, after = line.on(START, step_s)
    assert (before.tolist(), after.tolist()) == (past, ahead)


def test_a_series_that_begins_later_is_unknown_until_then() -> None:
    line = Series(
        kind=Kind.OTHER, slot_s=3600.0, end_at=START + timedelta(hours=3), values=np.array([1.0, 2.0])
    )
    before, after = line.on(START, 3600.0)
    assert len(before) == 0
    assert np.array_equal(after, [np.nan, 1.0, 2.0], equal_nan=True)
    _, over = line.on(START + timedelta(hours=9), 3600.0)
    assert len(over) == 0
