import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.bitmap import Bitmap, Run


@given(st.integers(0, 300), st.data())
def test_it_is_a_set_of_chunks(size, data):
    wanted = data.draw(st.sets(st.integers(0, size - 1)) if size else st.just(set()))
    dropped = data.draw(st.sets(st.sampled_from(sorted(wanted))) if wanted else st.just(set()))
    bitmap = Bitmap(size)
    for index in wanted:
        bitmap.add(index)
    for index in dropped:
        bitmap.discard(index)
    left = wanted - dropped
    assert (len(bitmap), bitmap.count, bitmap.full) == (size, len(left), len(left) == size)
    assert set(bitmap) == left
    again = Bitmap(size, bitmap.to_bytes())
    assert set(again) == left
    longest = data.draw(st.integers(1, 20))
    runs = bitmap.missing_runs(longest)
    assert all(1 <= run.count <= longest for run in runs)
    listed = [index for run in runs for index in range(run.first, run.first + run.count)]
    assert listed == sorted(set(range(size)) - left)
    for index in left:
        position, byte = bitmap.byte_of(index)
        assert bitmap.to_bytes()[position : position + 1] == byte


def test_runs_are_as_long_as_they_may_be():
    bitmap = Bitmap(10)
    bitmap.add(4)
    assert bitmap.missing_runs(100) == (Run(first=0, count=4), Run(first=5, count=5))
    assert bitmap.missing_runs(3) == tuple(
        Run(first=first, count=count) for first, count in ((0, 3), (3, 1), (5, 3), (8, 2))
    )


@pytest.mark.parametrize("data, expected", [(b"", 0), (b"\xff", 8), (b"\xff" * 9, 10)])
def test_bytes_of_another_length_are_understood(data, expected):
    assert Bitmap(10, data).count == expected


@pytest.mark.parametrize("index", [-1, 10])
def test_there_is_nothing_outside(index):
    bitmap = Bitmap(10)
    assert index not in bitmap
    for call in (bitmap.add, bitmap.discard, bitmap.byte_of):
        with pytest.raises(IndexError):
            call(index)
