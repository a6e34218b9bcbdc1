from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.core.openadr.timeline import Segment, merge
from agent.core.openadr.timeline import at as segment_at
from agent.model.openadr import Signal, SignalKind
from tests.agent.core.openadr.events import at


def signal(
    name: str, start: float, end: float | None, value: float | None, priority: int | None = None
) -> Signal:
    return Signal(
        kind=SignalKind.IMPORT_LIMIT,
        payload_type="IMPORT_CAPACITY_LIMIT",
        event_id=name,
        priority=priority,
        start_at=at(start),
        end_at=None if end is None else at(end),
        value=value,
    )


def segment(start: float, end: float | None, value: float, *names: str) -> Segment:
    return Segment(start_at=at(start), end_at=None if end is None else at(end), value=value, event_ids=names)


def test_the_lower_priority_number_wins_even_with_the_laxer_limit() -> None:
    merged = merge([signal("a", 0, 4, 1000.0, 5), signal("b", 1, 2, 9000.0, 0)])
    assert merged == (
        segment(0, 1, 1000.0, "a"),
        segment(1, 2, 9000.0, "b"),
        segment(2, 4, 1000.0, "a"),
    )


def test_equal_priorities_let_the_most_restrictive_hold() -> None:
    merged = merge([signal("a", 0, 3, 5000.0, 1), signal("b", 1, None, 3000.0, 1)])
    assert merged == (segment(0, 1, 5000.0, "a"), segment(1, None, 3000.0, "b"))
    assert merge([signal("a", 0, 3, 5.0), signal("b", 0, 3, 7.0)], max) == (segment(0, 3, 7.0, "b"),)


def test_no_priority_is_the_lowest() -> None:
    assert merge([signal("a", 0, 1, 1.0, None), signal("b", 0, 1, 2.0, 99)]) == (segment(0, 1, 2.0, "b"),)


def test_signals_without_a_figure_are_left_out() -> None:
    assert merge([signal("a", 0, 1, None)]) == ()
    assert segment_at((), at(0)) is None


signals = st.lists(
    st.builds(
        lambda name, start, length, value, priority: signal(
            name, start, None if length is None else start + length, value, priority
        ),
        st.sampled_from("abcd"),
        st.integers(0, 20),
        st.none() | st.integers(1, 10),
        st.sampled_from([0.0, 1000.0, 2000.0, 3000.0]),
        st.none() | st.integers(0, 2),
    ),
    max_size=8,
)


@given(signals)
def test_no_overlaps_and_no_equal_neighbours(some: Sequence[Signal]) -> None:
    merged = merge(some)
    for one, other in pairwise(merged):
        assert one.end_at is not None
        assert one.end_at <= other.start_at
        same = (one.value, one.event_ids) == (other.value, other.event_ids)
        assert not (same and one.end_at == other.start_at)


@given(signals, st.randoms(use_true_random=False))
def test_the_order_of_signals_does_not_matter(some: list[Signal], chance: object) -> None:
    shuffled = list(some)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merge(shuffled) == merge(some)


@given(signals, st.integers(-1, 32))
def test_at_every_instant_the_most_restrictive_of_the_foremost_holds(some: list[Signal], hour: int) -> None:
    instant = at(hour + 0.5)
    active = [s for s in some if s.start_at <= instant and (s.end_at is None or s.end_at > instant)]
    found = segment_at(merge(some), instant)
    if not active:
        assert found is None
        return
    ranks = [99 if s.priority is None else s.priority for s in active]
    best = [s.value for s, rank in zip(active, ranks, strict=True) if rank == min(ranks)]
    assert found is not None
    assert found.value == min(v for v in best if v is not None)
