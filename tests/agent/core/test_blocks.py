"""The block compiler: what it must never do, for any wish list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.blocks import Span, compile_blocks, compile_sets, together, words
from agent.model.registers import Space


def holding(address: int, count: int) -> Span:
    return Span("holding", address, count)


SPANS = st.builds(Span, st.sampled_from(["holding", "input"]), st.integers(0, 400), st.integers(1, 4))
WISHES = st.lists(SPANS, max_size=40)
LIMITS = st.tuples(st.integers(4, 125), st.integers(0, 20))


def registers_of(spans: list[Span] | tuple[Span, ...]) -> set[tuple[str, int]]:
    return {(span.space, address) for span in spans for address in range(span.address, span.end)}


@given(WISHES, LIMITS)
def test_each_value_is_read_whole_in_one_request_within_the_limit(
    wishes: list[Span], limits: tuple[int, int]
) -> None:
    max_read, max_gap = limits
    blocks = compile_blocks(wishes, max_read=max_read, max_gap=max_gap)
    assert all(any(block.holds(wish) for block in blocks) for wish in wishes)
    assert all(1 <= block.count <= max_read for block in blocks)
    assert len(blocks) <= len(set(wishes))
    assert list(blocks) == sorted(blocks)


@given(WISHES, LIMITS)
def test_what_nobody_wants_is_read_only_to_join_and_never_at_an_edge(
    wishes: list[Span], limits: tuple[int, int]
) -> None:
    max_read, max_gap = limits
    want = registers_of(wishes)
    for block in compile_blocks(wishes, max_read=max_read, max_gap=max_gap):
        unwanted = 0
        assert (block.space, block.address) in want and (block.space, block.end - 1) in want
        for address in range(block.address, block.end):
            unwanted = 0 if (block.space, address) in want else unwanted + 1
            assert unwanted <= max_gap


@given(WISHES, LIMITS, st.randoms())
def test_the_order_of_the_wishes_does_not_matter(wishes: list[Span], limits: tuple[int, int], random) -> None:
    max_read, max_gap = limits
    shuffled = list(wishes)
    random.shuffle(shuffled)
    assert compile_blocks(shuffled, max_read=max_read, max_gap=max_gap) == compile_blocks(
        wishes, max_read=max_read, max_gap=max_gap
    )


@given(WISHES, LIMITS, st.lists(st.tuples(st.integers(0, 400), st.integers(1, 9)), max_size=4))
def test_no_request_touches_a_hole(
    wishes: list[Span], limits: tuple[int, int], places: list[tuple[int, int]]
) -> None:
    max_read, max_gap = limits
    holes = [range(first, first + count) for first, count in places]
    closed = {address for hole in holes for address in hole}
    possible = [wish for wish in wishes if not closed & set(range(wish.address, wish.end))]
    blocks = compile_blocks(possible, max_read=max_read, max_gap=max_gap, holes=holes)
    assert not {address for _, address in registers_of(blocks)} & closed
    assert all(any(block.holds(wish) for block in blocks) for wish in possible)


@given(WISHES, WISHES, LIMITS)
def test_the_slow_set_asks_for_nothing_that_the_fast_one_brings(
    fast: list[Span], slow: list[Span], limits: tuple[int, int]
) -> None:
    max_read, max_gap = limits
    quick, rest = compile_sets(fast, slow, max_read=max_read, max_gap=max_gap)
    assert quick == compile_blocks(fast, max_read=max_read, max_gap=max_gap)
    assert all(any(block.holds(wish) for block in (*quick, *rest)) for wish in slow)
    assert not any(any(block.holds(wish) for block in quick) for wish in slow if wish in rest)


@pytest.mark.parametrize(
    ("wishes", "more", "expected"),
    [
        ([], {}, ()),
        ([holding(0, 2), holding(2, 2)], {}, (holding(0, 4),)),
        ([holding(0, 2), holding(10, 2)], {"max_gap": 8}, (holding(0, 12),)),
        ([holding(0, 2), holding(10, 2)], {"max_gap": 7}, (holding(0, 2), holding(10, 2))),
        ([holding(0, 2), holding(2, 2)], {"max_read": 3}, (holding(0, 2), holding(2, 2))),
        ([holding(0, 2), holding(6, 2)], {"holes": [range(3, 4)]}, (holding(0, 2), holding(6, 2))),
        ([holding(0, 2), Span("input", 2, 2)], {}, (holding(0, 2), Span("input", 2, 2))),
        ([holding(0, 4), holding(1, 1)], {}, (holding(0, 4),)),
        ([together((holding(10, 1), holding(116, 1)))], {"max_gap": 0}, (holding(10, 107),)),
    ],
)
def test_examples(wishes: list[Span], more: dict[str, object], expected: tuple[Span, ...]) -> None:
    assert compile_blocks(wishes, **more) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wish", "more", "word"),
    [
        (holding(0, 4), {"max_read": 3}, "do not fit"),
        (holding(0, 4), {"holes": [range(3, 9)]}, "hole"),
    ],
)
def test_what_no_request_could_read_is_our_mistake(wish: Span, more: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        compile_blocks([wish], **more)  # type: ignore[arg-type]


def test_words_are_found_in_the_answer_that_holds_them_all() -> None:
    answers = [(holding(10, 3), (1, 2, 3)), (holding(13, 2), (4, 5))]
    assert words(answers, Space.HOLDING, 11, 2) == (2, 3)
    assert words(answers, Space.HOLDING, 12, 2) is None
    assert words(answers, Space.INPUT, 11, 2) is None
