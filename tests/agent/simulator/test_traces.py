"""The shipped weather and what is made of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.simulator.traces import PLACES, bundled, from_csv, parsed
from sterna.errors import ConfigError

YEAR = datetime(2023, 1, 1, tzinfo=UTC)
SMALL = parsed(["pv_cf,wind_cf", "0,0.5", "1,0.5", "0.5,0", "0,1"], place="small")


@pytest.mark.parametrize("place", PLACES)
def test_shipped_weather_is_a_year_of_fractions(place: str) -> None:
    trace = bundled(place)
    assert len(trace.pv_cf) == len(trace.wind_cf) == 8760
    assert 0.08 < sum(trace.pv_cf) / 8760 < 0.25
    assert 0.03 < sum(trace.wind_cf) / 8760 < 0.40


@pytest.mark.parametrize(
    ("place", "noon", "midnight"), [("greensboro", 17, 5), ("miami", 17, 5), ("sand-point", 23, 11)]
)
def test_the_sun_is_highest_at_local_noon(place: str, noon: int, midnight: int) -> None:
    pv = bundled(place).pv_cf
    by_hour = [sum(pv[hour::24]) for hour in range(24)]
    assert abs(by_hour.index(max(by_hour)) - noon) <= 1
    assert by_hour[midnight] < 0.02 * max(by_hour)


def test_interpolates_between_the_middles_and_repeats() -> None:
    def pv(hours: float) -> float:
        return SMALL.at(YEAR + timedelta(hours=hours)).pv_cf

    assert [pv(h) for h in (0.5, 1.0, 1.5, 2.0, 2.5)] == [0, 0.5, 1, 0.75, 0.5]
    assert pv(0) == pv(4) == 0
    assert pv(5.5) == pv(1.5)


@given(st.floats(0, 366 * 24))
def test_never_leaves_the_fractions(hours: float) -> None:
    sample = SMALL.at(YEAR + timedelta(hours=hours))
    assert 0 <= sample.pv_cf <= 1 and 0 <= sample.wind_cf <= 1


def test_own_csv(tmp_path: Path) -> None:
    path = tmp_path / "roof.csv"
    path.write_text("when,wind_cf\na,0.25\nb,0.75\n")
    trace = from_csv(path, step_s=900)
    assert trace.place == "roof"
    assert list(trace.wind_cf) == [0.25, 0.75] and list(trace.pv_cf) == [0, 0]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "header"),
        ("a,b\n1,2\n", "header"),
        ("pv_cf\n", "no rows"),
        ("pv_cf\n0.1\nsun\n", r":3: pv_cf: 'sun'"),
        ("pv_cf\n1.5\n", "1.5 is not within"),
        ("pv_cf\nnan\n", "not within"),
    ],
)
def test_csv_that_is_not_usable(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=word):
        from_csv(path)


def test_weather_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="atlantis"):
        bundled("atlantis")
    with pytest.raises(ConfigError, match=r"none\.csv"):
        from_csv(tmp_path / "none.csv")
