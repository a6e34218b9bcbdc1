"""Columns for rows: never one twice, and no other choice is worth more."""

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.assignment import NOTHING, best_columns

worth = st.sampled_from([-np.inf, -3.0, 0.0, 0.25, 1.0, 1.0, 2.0, 5.5, 7.0])


@st.composite
def tables(draw: st.DrawFn) -> list[list[float]]:
    columns = draw(st.integers(1, 4))
    row = st.lists(worth, min_size=columns, max_size=columns)
    return draw(st.lists(row, min_size=1, max_size=4))


def best_worth(table: list[list[float]]) -> float:
    """Try everything; a place after the last column stands for none."""
    rows, columns = len(table), len(table[0])
    return max(
        sum(table[row][place] for row, place in enumerate(places) if place < columns)
        for places in permutations(range(columns + rows), rows)
    )


@settings(max_examples=200, deadline=None)
@given(table=tables())
def test_no_other_choice_is_worth_more(table: list[list[float]]) -> None:
    found = best_columns(np.array(table))
    taken = [(row, column) for row, column in enumerate(found) if column != NOTHING]
    assert len(found) == len(table)
    assert len({column for _, column in taken}) == len(taken)
    assert all(table[row][column] > 0.0 for row, column in taken)
    assert sum(table[row][column] for row, column in taken) == best_worth(table)


def test_who_came_first_moves_on_where_that_is_better_for_all() -> None:
    assert best_columns(np.array([[9.0, 8.0], [8.0, 1.0]])) == [1, 0]


def test_without_columns_nobody_has_one() -> None:
    assert best_columns(np.empty((2, 0))) == [NOTHING, NOTHING]
