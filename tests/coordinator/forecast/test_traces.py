"""Trace files by their columns; hostile files are refused by name."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from coordinator.forecast.formats import unit_of
from coordinator.forecast.kinds import Kind
from coordinator.forecast.traces import Reading, read_traces
from sterna.errors import ConfigError

DATA = Path(__file__).parents[4] / "shared" / "data" / "renewable"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the reference data is not there")


def write(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_areas_with_a_hole_and_a_negative_hour(tmp_path: Path) -> None:
    rows = "ts_utc,ba,wind_mw,solar_mw\n2022-01-01T00:00:00Z,X,5,-1\n2022-01-01T01:00:00Z,X,6,\n"
    rows += "2022-01-01T03:00:00Z,X,7,\n"
    rows += "2022-01-01T01:00:00Z,Y,1,2\n"
    traces = read_traces(write(tmp_path, rows, "t.csv.gz"))
    wind = traces["X/wind"]
    assert (wind.kind, wind.slot_s) == (Kind.WIND, 3600.0)
    assert wind.end_at == datetime(2022, 1, 1, 4, tzinfo=UTC)
    assert np.array_equal(wind.values, [5.0, 6.0, np.nan, 7.0], equal_nan=True)
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


def test_entsoe_generation_of_the_old_site_in_local_time_over_both_changes_of_the_clocks(
    tmp_path: Path,
) -> None:
    """The hour that comes twice is two slots, the one that clocks skip none; n/e is no number."""
    head = (
        '"Area","MTU","Biomass  - Actual Aggregated [MW]","Solar  - Actual Aggregated [MW]",'
        '"Wind Onshore  - Actual Aggregated [MW]","Hydro Pumped Storage  - Actual Consumption [MW]"\n'
    )

    def row(start: str, end: str, solar: str, wind: str) -> str:
        return f'"Netherlands (NL)","{start} - {end} (CET/CEST)","n/e","{solar}","{wind}","n/e"\n'

    october = [
        row("30.10.2022 01:00", "30.10.2022 02:00", "-", "1"),
        row("30.10.2022 02:00", "30.10.2022 03:00", "-", "2"),
        row("30.10.2022 02:00", "30.10.2022 03:00", "-1", "3"),
        row("30.10.2022 03:00", "30.10.2022 04:00", "0", "4"),
    ]
    traces = read_traces(write(tmp_path, head + "".join(october)))
    assert set(traces) == {"Netherlands (NL)/solar", "Netherlands (NL)/wind_onshore"}
    wind = traces["Netherlands (NL)/wind_onshore"]
    assert (wind.kind, wind.unit, wind.begin_at) == (Kind.WIND, "MW", datetime(2022, 10, 29, 23, tzinfo=UTC))
    assert wind.values.tolist() == [1.0, 2.0, 3.0, 4.0]
    # The first of the two hours was not told, so the number is the second's; below 0 is none.
    assert traces["Netherlands (NL)/solar"].begin_at == datetime(2022, 10, 30, 1, tzinfo=UTC)
    assert traces["Netherlands (NL)/solar"].values.tolist() == [0.0, 0.0]
    march = [
        row("27.03.2022 01:00", "27.03.2022 02:00", "0", "1"),
        row("27.03.2022 02:00", "27.03.2022 03:00", "n/e", "n/e"),
        row("27.03.2022 03:00", "27.03.2022 04:00", "0", "2"),
    ]
    wind = read_traces(write(tmp_path, head + "".join(march)))["Netherlands (NL)/wind_onshore"]
    assert wind.values.tolist() == [1.0, 2.0]
    skipped = march[1].replace('"n/e","n/e","n/e"', '"n/e","7","n/e"')
    with pytest.raises(ConfigError, match=r"line 2: 27\.03\.2022 02:00 - .* clocks skip this hour there"):
        read_traces(write(tmp_path, head + skipped))


def test_entsoe_generation_of_the_new_site_has_a_row_for_each_type(tmp_path: Path) -> None:
    text = (
        "MTU (CET/CEST),Area,Production Type,Generation (MW)\n"
        "26/10/2024 23:45:00 - 27/10/2024 00:00:00,BZN|NL,Wind Onshore,5\n"
        "27/10/2024 02:45:00 (CEST) - 27/10/2024 02:00:00 (CET),BZN|NL,Wind Onshore,6.5\n"
        "27/10/2024 02:00:00 (CET) - 27/10/2024 02:15:00 (CET),BZN|NL,Wind Onshore,7\n"
        "27/10/2024 02:00:00 (CET) - 27/10/2024 02:15:00 (CET),BZN|NL,Fossil Hard coal,n/e\n"
        "27/10/2024 02:00:00 (CET) - 27/10/2024 02:15:00 (CET),BZN|BE,Solar,0\n"
    )
    traces = read_traces(write(tmp_path, text))
    assert {name: one.kind for name, one in traces.items()} == {
        "BZN|NL/wind_onshore": Kind.WIND,
        "BZN|BE/solar": Kind.SUN,
    }
    wind = traces["BZN|NL/wind_onshore"]
    assert (wind.slot_s, wind.begin_at) == (900.0, datetime(2024, 10, 26, 21, 45, tzinfo=UTC))
    assert (wind.values[0], wind.values[-2], wind.values[-1], len(wind.values)) == (5.0, 6.5, 7.0, 14)


@pytest.mark.parametrize("column", ["Day-ahead Price [EUR/MWh]", "Day-ahead Price (EUR/MWh)"])
def test_entsoe_prices_of_the_first_auction(tmp_path: Path, column: str) -> None:
    text = (
        f"MTU (UTC),Area,Sequence,{column}\n"
        "01/01/2024 00:00:00 - 01/01/2024 01:00:00,BZN|AT,Sequence Sequence 1,-1.5\n"
        "01/01/2024 00:00:00 - 01/01/2024 00:15:00,BZN|AT,Sequence Sequence 2,9\n"
        "01/01/2024 01:00:00 - 01/01/2024 02:00:00,BZN|AT,Sequence Sequence 1,2\n"
        "01/01/2024 00:00:00 - 01/01/2024 01:00:00,BZN|FR,Without Sequence,3\n"
    )
    traces = read_traces(write(tmp_path, text))
    assert set(traces) == {"BZN|AT", "BZN|AT/Sequence Sequence 2", "BZN|FR"}
    assert (traces["BZN|AT"].unit, traces["BZN|AT"].values.tolist()) == ("EUR/MWh", [-1.5, 2.0])
    old = f'"MTU (CET/CEST)","{column}"\n"01.07.2022 00:00 - 01.07.2022 01:00","5"\n'
    old += '"01.07.2022 01:00 - 01.07.2022 02:00","6"\n'
    prices = read_traces(write(tmp_path, old))["price"]
    assert (prices.begin_at, prices.values.tolist()) == (datetime(2022, 6, 30, 22, tzinfo=UTC), [5.0, 6.0])


def test_entsoe_without_a_zone_needs_to_be_told_one(tmp_path: Path) -> None:
    text = '"Area","MTU","Solar  - Actual Aggregated [MW]"\n'
    text += "".join(f'"X","01.07.2022 0{h}:00 - 01.07.2022 0{h + 1}:00","{h}"\n' for h in range(3))
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=r"line 2: MTU: 01\.07\.2022 00:00 - .* has no time zone"):
        read_traces(path)
    told = read_traces(path, Reading(time_zone="Europe/Brussels"))["X/solar"]
    assert (told.begin_at, told.values.tolist()) == (datetime(2022, 6, 30, 22, tzinfo=UTC), [0.0, 1.0, 2.0])
    with pytest.raises(ConfigError, match="Europe/Atlantis is no time zone that is known here"):
        read_traces(path, Reading(time_zone="Europe/Atlantis"))


def test_the_time_series_of_opsd_by_column(tmp_path: Path) -> None:
    text = (
        "utc_timestamp,cet_cest_timestamp,DE_tennet_wind_offshore_generation_actual,DE_solar_capacity,"
        "DE_LU_price_day_ahead,GB_GBN_price_day_ahead,DE_solar_profile\n"
        "2019-03-31T00:00:00Z,2019-03-31T01:00:00+0100,10,45000,30.5,40,0.1\n"
        "2019-03-31T01:00:00Z,2019-03-31T03:00:00+0200,11,45000,-2.5,41,\n"
    )
    traces = read_traces(write(tmp_path, text))
    assert {name: (one.kind, one.unit) for name, one in traces.items()} == {
        "DE_tennet_wind_offshore_generation_actual": (Kind.WIND, "MW"),
        "DE_solar_capacity": (Kind.OTHER, "MW"),
        "DE_LU_price_day_ahead": (Kind.OTHER, "EUR/MWh"),
        "GB_GBN_price_day_ahead": (Kind.OTHER, "GBP/MWh"),
        "DE_solar_profile": (Kind.OTHER, ""),
    }
    assert traces["DE_LU_price_day_ahead"].values.tolist() == [30.5, -2.5]


def test_a_plain_file_of_a_logger_in_local_time_with_decimal_commas(tmp_path: Path) -> None:
    text = "\ufeffZeit;Dach PV [kW];Notiz;Netz [kW]\n"
    text += "30.10.2022 02:30;1,5;ok;3\n30.10.2022 02:45;2,5;;\n"
    text += "30.10.2022 02:00;3,5;;4\n30.10.2022 02:15;4,5;;5\n30.10.2022 02:30;5,5;;6\n"
    path = write(tmp_path, text)
    traces = read_traces(path, Reading(time_column="Zeit", time_zone="Europe/Berlin"))
    assert set(traces) == {"Dach PV [kW]", "Netz [kW]"}
    line = traces["Dach PV [kW]"]
    assert (line.unit, line.slot_s, line.begin_at) == ("kW", 900.0, datetime(2022, 10, 30, 0, 30, tzinfo=UTC))
    assert line.values.tolist() == [1.5, 2.5, 3.5, 4.5, 5.5]
    assert np.array_equal(traces["Netz [kW]"].values, [3, np.nan, 4, 5, 6], equal_nan=True)
    with pytest.raises(ConfigError, match="no column Time; it has Zeit, Dach"):
        read_traces(path, Reading(time_column="Time"))


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("roof_w", "W"),
        ("roof_kw", "kW"),
        ("Roof [MW]", "MW"),
        ("power (GW)", "GW"),
        ("lmp_usd_per_mwh", "USD/MWh"),
        ("Price [EUR/MWh]", "EUR/MWh"),
        ("ci_g_per_kwh", "g/kWh"),
        ("co2 (kg/MWh)", "kg/MWh"),
        ("flow", ""),
        ("kwh", ""),
    ],
)
def test_a_unit_is_what_a_column_ends_with(column: str, unit: str) -> None:
    assert unit_of(column) == unit


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("", "t.csv", "no column ts_utc"),
        ("a,b\n1,2\n", "t.csv", "no column ts_utc"),
        ("ts_utc,x\n2022-01-01T00:00:00Z,1\n", "t.csv", "less than two slots"),
        ("ts_utc,x\n2022-01-01T00:00:00,1\n", "t.csv", r"t\.csv: .* line 2: ts_utc: .* has no time zone"),
        ("ts_utc,x\n2022-01-01T00:00:00Z,1\nyesterday,1\n", "t.csv", "line 3: ts_utc: Invalid isoformat"),
        ("ts_utc,x\n2022-01-01T00:00:00Z,1\n2022-01-01T01:00:00Z,soon\n", "t.csv", "line 3: x: could not"),
        ("ts_utc,x\n2022-01-01T00:00:00Z,1\n2022-01-01T01:00:00Z,inf\n", "t.csv", "line 3: x: inf: expected"),
        (
            "ts_utc,x\n2022-01-01T00:00:00Z,1\n2022-01-01T00:00:00Z,1\n",
            "t.csv",
            "line 3: 2022-01-01T00:00:00Z comes twice of x",
        ),
        ("MTU (UTC),Load (MW)\n1,2\n", "t.csv", "of ENTSO-E without generation per type or day-ahead prices"),
        (
            "ts_utc,x\n2022-01-01T00:00:00Z,1\n2022-01-01T01:00:00Z,1\n2022-01-01T02:30:00Z,1\n",
            "t.csv",
            "x: 2022-01-01T02:30:00.00:00 is on no regular grid of 3600 s",
        ),
        ("ts_utc,x\n2022-01-01T00:00:00Z,1\n2022-01-01T00:07:00Z,1\n", "t.csv", "do not make a day"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_traces(write(tmp_path, text, name))


def test_a_file_that_is_no_gzip_or_is_not_there(tmp_path: Path) -> None:
    bad = tmp_path / "t.csv.gz"
    bad.write_bytes(b"ts_utc,x")
    with pytest.raises(ConfigError, match=r"t\.csv\.gz: not a trace"):
        read_traces(bad)
    with pytest.raises(ConfigError, match=r"none\.csv: cannot read: No such file or directory$"):
        read_traces(tmp_path / "none.csv")


@needs_data
@pytest.mark.parametrize(
    ("file", "count", "name", "kind", "slots"),
    [
        ("caiso_curtailment_hourly_2016-2018.csv.gz", 4, "solar/system", Kind.OTHER, 21953),
        ("caiso_np15_lmp_curtailment_two_weeks_2024.csv", 2, "curtailment_np15_mw", Kind.OTHER, 2016),
        ("opsd_de_tso_zones_2019_q1-q3_hourly.csv.gz", 14, "DE_amprion/solar", Kind.SUN, 6553),
    ],
)
def test_the_reference_files(file: str, count: int, name: str, kind: Kind, slots: int) -> None:
    traces = read_traces(DATA / file)
    assert len(traces) == count
    assert (traces[name].kind, len(traces[name].values)) == (kind, slots)
