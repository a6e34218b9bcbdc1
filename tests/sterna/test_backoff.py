"""The back-off: its doubling, its bound, its jitter, its new beginning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.backoff import Backoff


@pytest.mark.parametrize(
    ("least_frac", "drawn", "expected_s"),
    [
        (0.5, 0.0, [0.5, 1.0, 2.0, 2.5, 2.5]),
        (0.5, 0.5, [0.75, 1.5, 3.0, 3.75, 3.75]),
        (0.9, 0.0, [0.9, 1.8, 3.6, 4.5, 4.5]),
        (1.0, 0.7, [1.0, 2.0, 4.0, 5.0, 5.0]),
    ],
)
def test_it_doubles_to_its_bound_with_jitter(
    least_frac: float, drawn: float, expected_s: list[float]
) -> None:
    backoff = Backoff(1.0, 5.0, least_frac=least_frac, draw=lambda: drawn)
    assert [backoff.next_s() for _ in expected_s] == pytest.approx(expected_s)
    backoff.reset()
    assert backoff.next_s() == pytest.approx(expected_s[0])


@given(
    first_s=st.floats(0.0, 1e3),
    longest_s=st.floats(0.0, 1e3),
    least_frac=st.floats(0.0, 1.0),
    failures=st.integers(1, 3000),
)
def test_no_wait_leaves_its_bounds(
    first_s: float, longest_s: float, least_frac: float, failures: int
) -> None:
    backoff = Backoff(first_s, longest_s, least_frac=least_frac)
    for _ in range(failures):
        full_s = backoff.full_s
        assert min(first_s, longest_s) <= full_s <= longest_s
        assert least_frac * full_s * (1 - 1e-9) <= backoff.next_s() <= full_s
