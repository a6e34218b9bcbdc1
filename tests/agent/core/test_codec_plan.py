import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.codec_plan import (
    GAIN_FRAC,
    OCTET_BYTES,
    RAW,
    Codec,
    Trial,
    Way,
    as_it_is,
    choose,
    coded,
    ways,
    width_of,
)

PLANES = Way(codec=Codec.PLANES, width_bytes=4)
DELTA = Way(codec=Codec.DELTA, width_bytes=4)


@pytest.mark.parametrize(
    ("dtype", "size_bytes", "width_bytes"),
    [
        ("F32", 8, 4),
        ("BF16", 8, 2),
        ("I64", 16, 8),
        ("F8_E4M3", 8, 1),
        ("", 8, 1),
        ("F32", 7, 1),
        ("BOOL", 4, 1),
    ],
)
def test_the_width_follows_the_type_where_it_fits(dtype, size_bytes, width_bytes):
    assert width_of(dtype, size_bytes) == width_bytes


def test_a_known_type_is_tried_in_its_own_width():
    assert ways(4, 400, has_base=False) == (PLANES,)
    assert ways(4, 400, has_base=True) == (PLANES, DELTA)


@pytest.mark.parametrize(("size_bytes", "widths"), [(401, [1]), (402, [1, 2]), (404, [1, 2, 4])])
def test_octets_are_tried_as_wider_elements_that_divide_them(size_bytes, widths):
    assert [way.width_bytes for way in ways(OCTET_BYTES, size_bytes, has_base=False)] == widths


@pytest.mark.parametrize(
    ("planes", "delta", "codec", "packed"),
    [
        ((1.0, 1.0, 1.0, 0.3), (1.0, 1.0, 0.6, 0.0), Codec.DELTA, (False, False, True, True)),
        ((1.0, 1.0, 1.0, 0.3), (1.0, 1.0, 1.0, 0.4), Codec.PLANES, (False, False, False, True)),
        ((1.0, 1.0, 1.0, 0.3), (1.0, 1.0, 1.0, 0.3), Codec.PLANES, (False, False, False, True)),
        ((1.01, 1.01, 1.01, 0.99), (1.0, 1.0, 1.0, 1.0), Codec.RAW, ()),
    ],
)
def test_the_cheapest_way_is_taken(planes, delta, codec, packed):
    choice = choose([Trial(way=PLANES, plane_fracs=planes), Trial(way=DELTA, plane_fracs=delta)])
    assert (choice.way.codec, choice.packed) == (codec, packed)


def test_nothing_to_try_is_raw():
    assert choose([]) == RAW


@given(st.lists(st.lists(st.floats(0, 1.1), min_size=4, max_size=4), max_size=4))
def test_a_choice_never_costs_more_than_any_trial_nor_than_raw(fracs):
    trials = [Trial(way=PLANES, plane_fracs=tuple(planes)) for planes in fracs]
    choice = choose(trials)
    assert choice.expected_frac <= 1.0
    for planes in fracs:
        cost = sum(frac if frac < 1 - GAIN_FRAC else 1.0 for frac in planes) / 4
        assert choice.expected_frac <= cost + 1e-12 or (choice == RAW and cost >= 1 - GAIN_FRAC)


def test_the_parts_of_a_stop_add_up():
    stop = coded(10**9, 5 * 10**8, 1e9, encode_bytes_s=5e8, decode_bytes_s=1e9)
    assert (stop.encode_s, stop.transfer_s, stop.decode_s, stop.total_s) == (2.0, 4.0, 1.0, 7.0)
    assert stop.streamed_s == 4.0
    assert as_it_is(10**9, 1e9).total_s == as_it_is(10**9, 1e9).streamed_s == 8.0
