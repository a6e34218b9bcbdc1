"""Trace files by their columns; hostile files are refused by name."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from coordinator.forecast.kinds import Kind
from coordinator.forecast.traces import read_traces
from sterna.errors import PermanentError

DATA = Path(__file__).parents[4] / "shared" / "data" / "renewable"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the reference data is not there")


def write(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_areas_with_a_hole_and_a_negative_hour(tmp_path: Path) -> None:
    rows = "ts_utc,ba,wind_mw,solar_mw\n2022-01-01T00:00:00Z,X,5,-1\n2022-01-01T02:00:00Z,X,7,\n"
    rows += "2022-01-01T01:00:00Z,Y,1,2\n"
    traces = read_traces(write(tmp_path, rows, "t.csv.gz"))
    wind = traces["X/wind"]
    assert (wind.kind, wind.slot_s) == (Kind.WIND, 3600.0)
    assert wind.end_at == datetime(2022, 1, 1, 3, tzinfo=UTC)
    assert np.array_equal(wind.values, [5.0, np.nan, 7.0], equal_nan=True)
    assert traces["X/solar"].values.tolist() == [0.0]
    assert traces["Y/solar"].kind is Kind.SUN


def test_curtailment_that_is_not_listed_did_not_happen(tmp_path: Path) -> None:
    head = "ts_utc,ts_local_pacific,fuel,reason,curtailment_type,curtailed_mwh,curtailed_mw_peak\n"
    rows = [
        "2017-01-01T00:00:00Z,,Wind,Local,Economic,3,9",
        "2017-01-01T00:00:00Z,,Wind,Local,SelfSchCut,4,9",
        "2017-01-01T01:00:00Z,,Solar,Local,Economic,1,9",
        "2017-01-01T02:00:00Z,,Wind,Local,Economic,2,9",
    ]
    traces = read_traces(write(tmp_path, head + "\n".join(rows)))
    assert traces["wind/local"].values.tolist() == [7.0, 0.0, 2.0]


def test_a_plain_file_by_its_column_names(tmp_path: Path) -> None:
    rows = "ts_utc,roof_pv_w,wind_w,price,note\n2022-01-01T00:00:00Z,1,2,-3,x\n2022-01-01T00:15:00Z,1,2,4,y\n"
    traces = read_traces(write(tmp_path, rows))
    assert {name: one.kind for name, one in traces.items()} == {
        "roof_pv_w": Kind.SUN,
        "wind_w": Kind.WIND,
        "price": Kind.OTHER,
    }
    assert traces["price"].values.tolist() == [-3.0, 4.0]
    assert traces["price"].per_day == 96


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("", "t.csv", "no column ts_utc"),
        ("a,b\n1,2\n", "t.csv", "no column ts_utc"),
        ("ts_utc,x\n2022-01-01T00:00:00Z,1\n", "t.csv", "less than two slots"),
        ("ts_utc,x\n2022-01-01T00:00:00,1\n2022-01-01T01:00:00,1\n", "t.csv", "no time zone"),
        (
            "ts_utc,x\n2022-01-01T00:00:00Z,1\n2022-01-01T01:00:00Z,1\n2022-01-01T02:30:00Z,1\n",
            "t.csv",
            "no regular grid",
        ),
        ("ts_utc,x\n2022-01-01T00:00:00Z,1\n2022-01-01T00:07:00Z,1\n", "t.csv", "do not make a day"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, name: str, says: str) -> None:
    with pytest.raises(PermanentError, match=says):
        read_traces(write(tmp_path, text, name))


def test_a_file_that_is_no_gzip_or_is_not_there(tmp_path: Path) -> None:
    bad = tmp_path / "t.csv.gz"
    bad.write_bytes(b"ts_utc,x")
    for path in (bad, tmp_path / "none.csv"):
        with pytest.raises(PermanentError, match="not a trace"):
            read_traces(path)


@needs_data
@pytest.mark.parametrize(
    ("file", "count", "name", "kind", "slots"),
    [
        ("caiso_curtailment_hourly_2016-2018.csv.gz", 4, "solar/system", Kind.OTHER, 21912),
        ("caiso_np15_lmp_curtailment_two_weeks_2024.csv", 2, "curtailment_np15_mw", Kind.OTHER, 2016),
        ("opsd_de_tso_zones_2019_q1-q3_hourly.csv.gz", 14, "DE_amprion/solar", Kind.SUN, 6553),
    ],
)
def test_the_reference_files(file: str, count: int, name: str, kind: Kind, slots: int) -> None:
    traces = read_traces(DATA / file)
    assert len(traces) == count
    assert (traces[name].kind, len(traces[name].values)) == (kind, slots)
