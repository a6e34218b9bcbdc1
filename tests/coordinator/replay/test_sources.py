"""Traces become watts of surplus as the scenario says; gaps, units and prices that it does not are faults."""

from pathlib import Path

import pytest

from coordinator.replay.signals import Signals, SignalTable, read_signals
from coordinator.replay.sources import Source, SurplusTable, TraceFiles, read_surplus, step_s_of
from sterna.errors import ConfigError

FARM = (
    "ts_utc,pv_kw,wind_kw,load_mw,flow\n"
    "2022-04-01T00:00:00Z,1,0,1,1\n2022-04-01T00:15:00Z,2,,1,1\n"
    "2022-04-01T00:30:00Z,4,-1,1,1\n2022-04-01T00:45:00Z,8,2,1,1\n"
)
PRICE = (
    "ts_utc,zone,price_per_mwh,currency\n2022-04-01T00:00:00Z,A,5,EUR\n"
    "2022-04-01T00:15:00Z,A,-5,EUR\n2022-04-01T00:45:00Z,A,-1,EUR\n"
)


@pytest.fixture
def files(tmp_path: Path) -> TraceFiles:
    (tmp_path / "farm.csv").write_text(FARM)
    (tmp_path / "price.csv").write_text(PRICE)
    slow = "ts_utc,a_w\n2022-04-01T00:00:00Z,1\n2022-04-01T04:00:00Z,1\n"
    (tmp_path / "slow.csv").write_text(slow)
    return TraceFiles(tmp_path)


def sources(*traces: str, file: str = "farm.csv") -> dict[str, Source]:
    return {"x": Source(file=file, traces=traces)}


def prices(files: TraceFiles) -> Signals:
    return read_signals("price", SignalTable(file="price.csv"), {"x": "A"}, files)


def test_a_plant_of_the_site_is_taken_at_its_word_less_the_base_load(files: TraceFiles) -> None:
    table = SurplusTable(kind="power", gaps="zero", base_load_w=1500.0, threshold_w=600.0)
    found, notes = read_surplus(table, sources("pv_kw", "wind_kw"), {}, files)
    assert found["x"].values.tolist() == [0.0, 0.0, 2500.0, 8500.0]
    assert notes == (
        "farm.csv: wind_kw: 1 of 4 slots are missing, the first 2022-04-01T00:15:00+00:00; they count as 0",
    )
    assert step_s_of(found.values()) == 900.0


def test_a_plant_that_goes_with_a_trace_is_full_at_the_percentile(files: TraceFiles) -> None:
    table = SurplusTable(kind="generation", percentile=50.0, nameplate_w=100.0, base_load_w=10.0)
    found, _ = read_surplus(table, sources("pv_kw"), {}, files)
    assert found["x"].values == pytest.approx([100 / 3 - 10, 200 / 3 - 10, 90.0, 90.0])
    curtailed = SurplusTable(kind="curtailment", percentile=50.0, nameplate_w=100.0, gaps="zero")
    found, _ = read_surplus(curtailed, sources("wind_kw"), {}, files)
    assert found["x"].values.tolist() == [0.0, 0.0, 0.0, 100.0]


def test_what_is_cheap_counts_as_surplus_where_it_is_told_to(files: TraceFiles) -> None:
    known = prices(files).series
    table = SurplusTable(kind="power", price_below_per_kwh=0.0, price_w=3000.0)
    found, _ = read_surplus(table, sources("pv_kw"), known, files)
    # An unknown price is not low, and what the plant has beyond it stays.
    assert found["x"].values.tolist() == [1000.0, 3000.0, 4000.0, 8000.0]
    bare, _ = read_surplus(table, sources(), known, files)
    assert bare["x"].values.tolist() == [0.0, 3000.0, 0.0, 3000.0]
    with pytest.raises(ConfigError, match=r"fleet\.sites: x: price: surplus.price_below_per_kwh needs one"):
        read_surplus(table, sources("pv_kw"), {}, files)


@pytest.mark.parametrize(
    ("table", "traces", "says"),
    [
        (
            SurplusTable(kind="power"),
            ("wind_kw",),
            'wind_kw: 1 of 4 .* surplus.gaps = "zero" counts them as 0',
        ),
        (SurplusTable(kind="power"), ("flow",), "flow, at x: surplus.unit is missing, the file says nothing"),
        (SurplusTable(kind="power", unit="W"), ("pv_kw",), "surplus.unit W, the file says kW: expected one"),
        (SurplusTable(kind="power"), (), r"fleet\.sites: x: traces: missing"),
        (
            SurplusTable(kind="power"),
            ("pv_kw", "load_mw"),
            "load_mw has slots of 900 s in MW, pv_kw of 900 s",
        ),
        (SurplusTable(kind="power"), ("sun",), r"farm\.csv: no trace sun, the surplus at x; it has pv_kw, "),
        (
            SurplusTable(kind="curtailment", percentile=50.0, nameplate_w=1.0, base_load_w=0.0, gaps="zero"),
            ("none_kw",),
            "no trace none_kw",
        ),
    ],
)
def test_what_makes_no_watts_is_refused(
    files: TraceFiles, table: SurplusTable, traces: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        read_surplus(table, sources(*traces), {}, files)


def test_steps_are_of_a_minute_to_an_hour(files: TraceFiles) -> None:
    found, _ = read_surplus(SurplusTable(kind="power"), sources("a_w", file="slow.csv"), {}, files)
    with pytest.raises(ConfigError, match="14400 s a slot: expected a minute to an hour"):
        step_s_of(found.values())


def test_a_table_says_what_it_needs() -> None:
    assert list(SurplusTable(kind="power").faults()) == []
    missing = list(SurplusTable(kind="generation").faults())
    assert [fault.split(":")[0] for fault in missing] == ["surplus.percentile", "surplus.nameplate_w"]
    half = list(SurplusTable(kind="power", price_below_per_kwh=0.0).faults())
    assert half == ["surplus.price_w: how many watts count below which price: give both, or neither"]
