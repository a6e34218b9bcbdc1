"""Checkpoints in pieces: what crosses when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import partial
from coordinator.core.partial import Piece

BASE = Piece(name="base", size_bytes=970, change_frac=0.0)
ADAPTER = Piece(name="adapter", size_bytes=30)
STATE = Piece(name="state", size_bytes=400, change_frac=0.71)
SHARDS = Piece(name="shards", size_bytes=600, stays=True)
NOTHING: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("pieces", "held", "ahead", "stop", "effective", "sealed", "moved"),
    [
        ((BASE, ADAPTER), NOTHING, 970, 1000, 30, 30, 1000),
        ((BASE, ADAPTER), {"base"}, 0, 30, 30, 30, 1000),
        ((STATE, SHARDS), NOTHING, 400, 400, 284, 400, 400),
        ((STATE, SHARDS), {"state"}, 0, 284, 284, 400, 400),
        ((STATE, SHARDS), {"shards"}, 400, 400, 284, 400, 400),
        ((ADAPTER,), NOTHING, 0, 30, 30, 30, 30),
        # Whoever holds an adapter holds an old one, and a difference to it saves nothing.
        ((ADAPTER,), {"adapter"}, 0, 30, 30, 30, 30),
    ],
)
def test_what_crosses_when(
    *,
    pieces: tuple[Piece, ...],
    held: frozenset[str],
    ahead: int,
    stop: int,
    effective: int,
    sealed: int,
    moved: int,
) -> None:
    assert partial.ahead_bytes(pieces, held) == ahead
    assert partial.stop_bytes(pieces, held) == stop
    assert partial.effective_bytes(pieces) == effective
    assert partial.seal_bytes(pieces) == sealed
    assert partial.moved_bytes(pieces) == moved


def test_only_what_never_changes_lasts() -> None:
    assert partial.lasting((BASE, ADAPTER, STATE, SHARDS)) == {"base"}


@pytest.mark.parametrize(
    ("size_bytes", "change_frac", "fault"),
    [
        (0, 0.5, "size_bytes 0: expected above 0"),
        (1, 1.1, "change_frac 1.1: expected 0 to 1"),
        (1, -0.1, "change_frac -0.1: expected 0 to 1"),
    ],
)
def test_a_piece_that_cannot_be_is_refused(size_bytes: int, change_frac: float, fault: str) -> None:
    with pytest.raises(ValueError, match=f"piece one: {fault}"):
        Piece(name="one", size_bytes=size_bytes, change_frac=change_frac)


pieces = st.lists(
    st.builds(
        Piece,
        name=st.uuids().map(str),
        size_bytes=st.integers(1, 10**12),
        change_frac=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0)),
        stays=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@given(some=pieces, data=st.data())
def test_what_a_site_holds_never_costs_anything(some: list[Piece], data: st.DataObject) -> None:
    names = [piece.name for piece in some]
    less = data.draw(st.sets(st.sampled_from(names)))
    more = less | data.draw(st.sets(st.sampled_from(names)))
    assert partial.stop_bytes(some, more) <= partial.stop_bytes(some, less) <= partial.moved_bytes(some)
    assert partial.ahead_bytes(some, more) <= partial.ahead_bytes(some, less)
    assert partial.effective_bytes(some) == partial.stop_bytes(some, names) <= partial.moved_bytes(some)
    # All that travels ahead saves at the stop no more than it took.
    saved = partial.stop_bytes(some, NOTHING) - partial.effective_bytes(some)
    assert 0 <= saved <= partial.ahead_bytes(some, NOTHING)
