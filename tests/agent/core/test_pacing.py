import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.pacing import draw, full_bucket


@pytest.mark.parametrize(
    "draws, waits_s",
    [
        ([(0.0, 100)], [0.0]),
        ([(0.0, 100), (0.0, 50)], [0.0, 0.5]),
        ([(0.0, 100), (1.0, 100)], [0.0, 0.0]),
        ([(0.0, 300)], [2.0]),
        ([(0.0, 300), (1.0, 100)], [2.0, 2.0]),
        ([(0.0, 100), (1000.0, 100), (1000.0, 1)], [0.0, 0.0, 0.01]),
        ([(5.0, 100), (4.0, 100)], [0.0, 1.0]),
        ([(0.0, 0)], [0.0]),
    ],
)
def test_waits(draws, waits_s):
    bucket = full_bucket(rate_bytes_s=100.0, burst_bytes=100.0, now_s=0.0)
    found = []
    for now_s, size_bytes in draws:
        bucket, wait_s = draw(bucket, size_bytes, now_s)
        found.append(wait_s)
    assert found == pytest.approx(waits_s)


@given(
    st.floats(1.0, 1e9),
    st.floats(0.0, 1e6),
    st.lists(st.tuples(st.floats(0.0, 10.0), st.integers(0, 2**21)), min_size=1, max_size=60),
)
def test_whoever_waits_as_told_never_exceeds_rate_and_burst(rate_bytes_s, burst_bytes, draws):
    now_s = 0.0
    bucket = full_bucket(rate_bytes_s, burst_bytes, now_s)
    passed_bytes = 0
    for idle_s, size_bytes in draws:
        now_s += idle_s
        bucket, wait_s = draw(bucket, size_bytes, now_s)
        now_s += wait_s
        passed_bytes += size_bytes
        assert passed_bytes <= burst_bytes + rate_bytes_s * now_s * (1 + 1e-9) + 1e-3
