import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.jobs.codec.planes import join, split

WIDTHS = (1, 2, 4, 8)


def there_and_back(data, base, width_bytes):
    planes = np.empty((width_bytes, len(data) // width_bytes), np.uint8)
    split(data, base, width_bytes, planes)
    out = np.zeros_like(data)
    join(planes, base, width_bytes, out)
    return planes, out


@given(st.data())
def test_every_bit_comes_back(data):
    width_bytes = data.draw(st.sampled_from(WIDTHS))
    octets = hnp.arrays(np.uint8, width_bytes * data.draw(st.integers(1, 40)))
    new, old = data.draw(octets), data.draw(st.none())
    if data.draw(st.booleans()):
        old = data.draw(hnp.arrays(np.uint8, len(new)))
    _, out = there_and_back(new, old, width_bytes)
    assert out.tobytes() == new.tobytes()


@pytest.mark.parametrize("width_bytes", WIDTHS)
def test_more_than_a_tile_comes_back(width_bytes):
    dice = np.random.default_rng(width_bytes)
    new, old = (dice.integers(0, 256, width_bytes * 40_001, np.uint8) for _ in range(2))
    assert np.array_equal(there_and_back(new, old, width_bytes)[1], new)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 1e-45])
def test_odd_floats_come_back(value):
    new = np.full(10, value, "f4").view(np.uint8)
    old = np.zeros(10, "f4").view(np.uint8)
    assert np.array_equal(there_and_back(new, old, 4)[1], new)


def test_a_small_step_leaves_the_high_planes_empty():
    old = np.array([1.0, -1.0, 0.5, -0.5], "f4")
    new = np.nextafter(old, np.array([2, 2, -2, -2], "f4"))
    planes, _ = there_and_back(new.view(np.uint8), old.view(np.uint8), 4)
    assert not planes[1:].any()
    assert set(planes[0]) == {1, 2}


def test_planes_are_the_bytes_of_the_elements():
    planes, _ = there_and_back(np.array([0x0201, 0x0403], "<u2").view(np.uint8), None, 2)
    assert planes.tolist() == [[1, 3], [2, 4]]
