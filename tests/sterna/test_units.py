from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna import units

PAIRS = [
    (units.joules_to_wh, units.wh_to_joules, 3600.0, 1.0),
    (units.s_to_hours, units.hours_to_s, 1800.0, 0.5),
    (units.bytes_to_bits, units.bits_to_bytes, 5.0, 40.0),
    (units.bytes_to_gb, units.gb_to_bytes, 2.5e9, 2.5),
    (units.w_to_kw, units.kw_to_w, 4200.0, 4.2),
]
Convert = Callable[[float], float]


@pytest.mark.parametrize(("there", "back", "value", "converted"), PAIRS)
def test_known_values(there: Convert, back: Convert, value: float, converted: float) -> None:
    assert there(value) == pytest.approx(converted)
    assert back(converted) == pytest.approx(value)


@given(value=st.floats(-1e15, 1e15))
@pytest.mark.parametrize(("there", "back"), [pair[:2] for pair in PAIRS])
def test_there_and_back(there: Convert, back: Convert, value: float) -> None:
    assert back(there(value)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0 B"),
        (999.0, "999 B"),
        (1e3, "1 kB"),
        (6.8814e6, "6.881 MB"),
        (22.5e9, "22.5 GB"),
        (3e12, "3 TB"),
    ],
)
def test_prefixes_for_people(value: float, words: str) -> None:
    assert units.with_prefix(value, "B") == words
