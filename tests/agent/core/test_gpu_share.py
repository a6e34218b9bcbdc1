import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.gpu_share import share_cap_w


@pytest.mark.parametrize(
    ("cap_w", "limits_w", "expected_w"),
    [
        (100.0, [], ()),
        (450.0, [(200.0, 700.0)], (450.0,)),
        (1000.0, [(200.0, 700.0), (200.0, 700.0)], (500.0, 500.0)),
        (350.0, [(100.0, 400.0), (200.0, 400.0)], (125.0, 225.0)),
        (900.0, [(100.0, 300.0), (100.0, 700.0)], (300.0, 600.0)),
        (0.0, [(100.0, 300.0), (50.0, 700.0)], (100.0, 50.0)),
        (9999.0, [(100.0, 300.0), (50.0, 700.0)], (300.0, 700.0)),
    ],
)
def test_a_cap_is_shared(
    cap_w: float, limits_w: list[tuple[float, float]], expected_w: tuple[float, ...]
) -> None:
    assert share_cap_w(cap_w, limits_w) == pytest.approx(expected_w)


devices = st.lists(
    st.tuples(st.floats(0, 300), st.floats(0, 700)).map(lambda t: (t[0], t[0] + t[1])), max_size=8
)


@given(st.floats(0, 5000), devices)
def test_shares_are_in_bounds_and_use_the_cap(cap_w: float, limits_w: list[tuple[float, float]]) -> None:
    shares_w = share_cap_w(cap_w, limits_w)
    lowest_w, highest_w = sum(low for low, _ in limits_w), sum(high for _, high in limits_w)
    assert all(
        low - 1e-6 <= share <= high + 1e-6 for share, (low, high) in zip(shares_w, limits_w, strict=True)
    )
    assert sum(shares_w) == pytest.approx(min(max(cap_w, lowest_w), highest_w), abs=1e-6)
